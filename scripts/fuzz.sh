#!/usr/bin/env bash
# fuzz.sh replay: runs every target of tests/fuzz over its corpus once. fuzz.sh run SECONDS: splits that time among the targets, FUZZ_JOBS (one a core) at a time.
# A target is tests/fuzz/fuzz_NAME.c with seeds in tests/fuzz/corpus/NAME/ and, if it helps, words in tests/fuzz/NAME.dict. What a run
# learns stays in build/fuzz-corpus/NAME. An input that crashes is written to tests/fuzz/crashes/NAME/ and fails the run: mend the fault,
# then move the input into the corpus, where every later replay reads it.
# One line a target: "ok NAME ..." or "FAILED NAME ..."; the exit status is 1 if any failed.
set -euo pipefail
cd "$(dirname "$0")/.."

export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:allocator_may_return_null=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1:halt_on_error=1}

one() { # MODE NAME SECONDS
	local mode=$1 name=$2 seconds=$3 bin=build/fuzz/fuzz_$2 seeds=tests/fuzz/corpus/$2 crashes=tests/fuzz/crashes/$2 log=build/fuzz-logs/$2.$1.log
	local args=(-timeout=10 -rss_limit_mb=2048 "-artifact_prefix=$crashes/") before status=0 took=$SECONDS
	if [ ! -x "$bin" ]; then
		echo "FAILED $name: tests/fuzz/fuzz_$name.c is not in fuzz_targets of meson.build"
		return 1
	fi
	if [ -z "$(ls -A "$seeds" 2>/dev/null)" ]; then
		echo "FAILED $name: $seeds has no seeds"
		return 1
	fi
	mkdir -p "$crashes" "build/fuzz-corpus/$name"
	if [ "$mode" = replay ]; then
		"$bin" "${args[@]}" -runs=0 "$seeds" >"$log" 2>&1 || status=$?
	else
		[ ! -e "tests/fuzz/$name.dict" ] || args+=("-dict=tests/fuzz/$name.dict")
		"$bin" "${args[@]}" "-max_total_time=$seconds" -print_final_stats=1 "build/fuzz-corpus/$name" "$seeds" >"$log" 2>&1 || status=$?
	fi
	if [ $status -ne 0 ]; then
		echo "FAILED $name ($mode): exit status $status; the end of $log:"
		tail -n 60 "$log"
		return 1
	fi
	if [ "$mode" = replay ]; then
		echo "ok $name: $(find "$seeds" -type f | wc -l) inputs replayed"
	else
		echo "ok $name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") runs in $((SECONDS - took)) s"
	fi
	rmdir "$crashes" 2>/dev/null || true
}

if [ "${1:-}" = one ]; then
	shift
	one "$@"
	exit
fi
mode=${1:-} total=${2:-30}
if [ "$mode" != replay ] && [ "$mode" != run ] || ! [[ $total =~ ^[0-9]+$ ]]; then
	echo "usage: scripts/fuzz.sh replay | run SECONDS" >&2
	exit 2
fi
sh scripts/build.sh fuzz
mkdir -p build/fuzz-logs
names=()
for f in tests/fuzz/fuzz_*.c; do
	[ ! -e "$f" ] || names+=("$(basename "$f" .c | sed 's/^fuzz_//')")
done
if [ ${#names[@]} -eq 0 ]; then
	echo "FAILED: no targets in tests/fuzz"
	exit 1
fi
each=$((total / ${#names[@]}))
[ $each -ge 1 ] || each=1
printf '%s\0' "${names[@]}" | xargs -0 -P "${FUZZ_JOBS:-$(nproc)}" -I{} bash scripts/fuzz.sh one "$mode" {} $each
