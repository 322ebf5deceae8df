#!/bin/sh
# build.sh release|asan|tsan|fuzz [TARGET ...]: configures the Meson folder of that kind where it is not yet, and compiles it. Quiet when it goes well.
# release: build/release, linked as build/tollgate and build/tollgate-engine. asan: gcc, ASan and UBSan. tsan and fuzz: clang 14, which has libFuzzer and the better TSan.
set -eu
cd "$(dirname "$0")/.."
kind=${1:-release}
[ $# -eq 0 ] || shift
dir=build/$kind
case $kind in
release) set -- "$@" && options="-Dbuildtype=debugoptimized" CC=${CC:-gcc} CXX=${CXX:-g++} ;;
asan) options="-Dbuildtype=debugoptimized -Db_sanitize=address,undefined -Dunit=true" CC=gcc CXX=g++ ;;
tsan) options="-Dbuildtype=debugoptimized -Db_sanitize=thread -Db_lundef=false -Dunit=true" CC=clang-14 CXX=clang++-14 ;;
fuzz) options="-Dbuildtype=debugoptimized -Db_sanitize=address,undefined -Db_lundef=false -Dfuzz=true" CC=clang-14 CXX=clang++-14 ;;
*)
	echo "usage: sh scripts/build.sh release|asan|tsan|fuzz [TARGET ...]" >&2
	exit 2
	;;
esac
export CC CXX
mkdir -p build
log=build/$kind.log
# shellcheck disable=SC2086
if [ ! -f "$dir/build.ninja" ] && ! meson setup $options "$dir" >"$log" 2>&1; then
	cat "$log" >&2
	exit 1
fi
if ! ninja -C "$dir" "$@" >"$log" 2>&1; then
	cat "$log" >&2
	exit 1
fi
grep -E 'warning:' "$log" >&2 || true
# There is no engine of its own in a TSan build (meson.build): its gate starts the release's.
[ "$kind" != tsan ] || ln -sf ../release/tollgate-engine build/tsan/tollgate-engine
if [ "$kind" = release ]; then
	ln -sf release/tollgate build/tollgate
	ln -sf release/tollgate-engine build/tollgate-engine
fi
