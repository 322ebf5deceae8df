#!/bin/sh
# llm_worker.sh FILE.gguf NAME PORT: becomes a language model server on 127.0.0.1:PORT. It is the first of: llama-server on PATH; the llama-server that
# `sh scripts/llm.sh fetch` compiled; node >= 20 with the prebuilt llama.cpp that it fetched, behind openai_worker.mjs. Extra arguments for llama-server stand
# in LLAMA_ARGS. The gate starts it (deploy/orchestra.toml, scripts/llm.sh); it can be tried by hand as well.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
if [ $# -ne 3 ]; then
	echo "usage: sh scripts/llm_worker.sh FILE.gguf NAME PORT" >&2
	exit 2
fi
file=$1 name=$2 port=$3
dir=${TOLLGATE_LLM_DIR:-$HOME/.cache/tollgate-llm}
if [ ! -r "$file" ]; then
	echo "llm_worker.sh: there is no file $file" >&2
	exit 1
fi
server=$(command -v llama-server || find "$dir/venv/lib" -type f -name llama-server 2>/dev/null | head -n 1)
if [ -n "$server" ]; then
	# A compiled one has its libraries beside it.
	LD_LIBRARY_PATH=$(dirname "$server")${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
	export LD_LIBRARY_PATH
	# shellcheck disable=SC2086
	exec "$server" -m "$file" --alias "$name" --host 127.0.0.1 --port "$port" ${LLAMA_ARGS:--c 4096 --jinja}
fi
if [ -e "$dir/node_modules/node-llama-cpp/package.json" ] && command -v node >/dev/null 2>&1; then
	exec node "$here/openai_worker.mjs" --model "$file" --name "$name" --modules "$dir" --port "$port"
fi
echo "llm_worker.sh: there is no llama-server on PATH and nothing in $dir: sh scripts/llm.sh fetch" >&2
exit 1
