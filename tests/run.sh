#!/usr/bin/env bash
# run.sh: every test, what `make test` executes. run.sh soak: the long forms, SOAK_SECONDS (3600) of fuzzing and the tests marked slow.
# Stages: unit tests under ASan and UBSan; the threaded ones under TSan; corpora replayed; then beside each other black-box suites against the release
# binary and the instrumented ones, and fuzzing (FUZZ_SECONDS in all: 300 where CI=true, else 30). A stage that fails does not stop the others.
# What failed is said once more at the end, with the end of what it printed, as logs are often cut from the front. The last line is the sum of all:
# "N passed, N failed"; a stage that dies without counting counts as one failed.
set -uo pipefail
cd "$(dirname "$0")/.."
mode=${1:-test}
if [ "${CI:-}" = true ]; then fuzz_default=300; else fuzz_default=30; fi
FUZZ_SECONDS=${FUZZ_SECONDS:-$fuzz_default}
python=build/venv/bin/python
logs=build/test-logs
rm -rf $logs
mkdir -p $logs
passed=0 failed=0 skipped=0
declare -A beside=()

# What the instrumented binaries run: all but what measures time or load (slow); TSan's: tests/api and tests/fault, which make threads meet.
rest=(tests/engine tests/security tests/fault)
suites=(tests/api "${rest[@]}")

tally() { # STAGE PASSED FAILED [SKIPPED]
	[ "$3" -eq 0 ] || echo "FAILED $1" >>$logs/failures
	passed=$((passed + $2)) failed=$((failed + $3)) skipped=$((skipped + ${4:-0}))
	printf '== %s: %d passed, %d failed%s (%d s since the start)\n' "$1" "$2" "$3" "${4:+, $4 skipped}" $SECONDS
}

build() { # KIND
	if sh scripts/build.sh "$1"; then
		return 0
	fi
	tally "build $1" 0 1
	return 1
}

unit_stage() { # KIND FILE...: the tests' own programs of build/KIND
	local kind=$1 f name log ok bad status run=()
	shift
	[ "$kind" != tsan ] || run=(setarch -R)
	for f; do
		name=$(basename "$f" .c) log=$logs/$kind.$(basename "$f" .c).log
		if [ ! -x "build/$kind/$name" ]; then
			tally "$kind $name (not in unit_tests of meson.build)" 0 1
			continue
		fi
		status=0
		timeout 300 "${run[@]}" "build/$kind/$name" >"$log" 2>&1 || status=$?
		ok=$(sed -n 's/^\[  PASSED  \] \([0-9]*\) test.*/\1/p' "$log" | awk '{n += $1} END {print n + 0}')
		bad=$(sed -n 's/^\[  FAILED  \] [^0-9]*\([0-9]*\) test.*/\1/p' "$log" | awk '{n += $1} END {print n + 0}')
		if [ $status -ne 0 ] || [ $((ok + bad)) -eq 0 ]; then
			[ "$bad" -gt 0 ] || bad=1
			tail -n 60 "$log"
		fi
		tally "$kind $name" "$ok" "$bad"
		[ "$bad" -eq 0 ] || { echo "exit status $status"; tail -n 10 "$log"; } >>$logs/failures
	done
}

pytest_stage() { # NAME BINARY PYTEST-ARGUMENTS...: folders that hold no test yet are left out
	local name=$1 binary=$2 xml=$logs/$1.xml status=0 counts again ok bad skip run=() dirs=() a
	shift 2
	[[ $name != tsan* ]] || run=(setarch -R)
	for a; do
		case $a in tests/*) [ -z "$(find "$a" -name 'test_*.py' -print -quit 2>/dev/null)" ] || dirs+=("$a") ;; *) dirs+=("$a") ;; esac
	done
	local pytest=(env TOLLGATE_BIN="$PWD/$binary" timeout "${SUITE_SECONDS:-1800}" "${run[@]}" $python -m pytest -q --tb=short -o cache_dir="$PWD/$logs/$name.cache")
	"${pytest[@]}" --junitxml="$xml" --durations=5 "${dirs[@]}" 2>&1 | tee "$logs/$name.log"
	status=${PIPESTATUS[0]} again=0
	if [ "$status" -eq 1 ] && ! grep -qE 'Sanitizer|runtime error:' "$logs/$name.log"; then
		# These tests watch clocks of a machine that others share: what fails is tried once more, alone, and said. Failing twice is failing, and so is
		# any report of a sanitizer.
		echo "== pytest $name: trying again what failed"
		"${pytest[@]}" --last-failed --last-failed-no-failures none --junitxml="$xml.again" "${dirs[@]}" && again=1
	fi
	counts=$($python - "$xml" <<-'END'
		import sys, xml.etree.ElementTree as tree
		try:
		    rows = list(tree.parse(sys.argv[1]).getroot().iter("testsuite"))
		except (OSError, tree.ParseError):
		    rows = []
		total, bad, skipped = (sum(int(r.get(k)) for r in rows for k in ks) for ks in (["tests"], ["failures", "errors"], ["skipped"]))
		print(total - bad - skipped, bad, skipped)
	END
	)
	read -r ok bad skip <<<"$counts"
	if [ $again -eq 1 ]; then
		echo "== pytest $name: $bad passed only at the second try"
		ok=$((ok + bad)) bad=0 status=0
	fi
	# 5: nothing was collected, which here means that a suite is lost.
	if [ $status -ne 0 ] && [ "$bad" -eq 0 ]; then
		echo "pytest ended with status $status"
		bad=1
	fi
	tally "pytest $name" "$ok" "$bad" "$skip"
	[ "$bad" -eq 0 ] || grep -hE '^(FAILED|ERROR) |Sanitizer|runtime error:' "$logs/$name.log" | cut -c -300 | head -n 20 >>$logs/failures
}

# Mostly the suites wait for each other's clocks: that many beside each other take little longer than one.
lanes=$(($(nproc) + 2))

aside() { # NAME STAGE ARGUMENTS...: a stage in the background, once a lane is free; join NAME prints what it had to say and counts it
	local name=$1
	shift
	while [ "$(jobs -rp | wc -l)" -ge $lanes ]; do wait -n; done
	(
		passed=0 failed=0 skipped=0
		"$@" >"$logs/$name.aside" 2>&1
		echo "$passed $failed $skipped" >"$logs/$name.tally"
	) &
	beside[$name]=$!
}

join() { # NAME
	local ok bad skip
	[ -n "${beside[$1]:-}" ] || return 0
	wait "${beside[$1]}"
	cat "$logs/$1.aside"
	read -r ok bad skip <"$logs/$1.tally" || ok=0 bad=1 skip=0
	passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + skip))
}

fuzz_stage() { # replay | run SECONDS
	local log=$logs/fuzz.$1.log status=0 ok bad
	nice -n 19 bash scripts/fuzz.sh "$@" >"$log" 2>&1 || status=$?
	cat "$log"
	ok=$(grep -c '^ok ' "$log") bad=$(grep -c '^FAILED' "$log")
	[ $status -eq 0 ] || [ "$bad" -gt 0 ] || bad=1
	tally "fuzz $1" "$ok" "$bad"
	[ "$bad" -eq 0 ] || grep -A 20 '^FAILED' "$log" | head -n 40 >>$logs/failures
}

export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
export ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1:check_initialization_order=1
export TSAN_OPTIONS=suppressions=$PWD/tests/tsan.supp:second_deadlock_stack=1

if [ "$mode" = soak ]; then
	seconds=${SOAK_SECONDS:-3600}
	fuzz_stage run "$seconds"
	build release && TOLLGATE_SOAK=$seconds SUITE_SECONDS=$((seconds * 2 + 900)) pytest_stage soak build/tollgate -m slow "${suites[@]}"
else
	units=(tests/unit/test_*.c)
	mapfile -t threaded < <(grep -lE 'pthread_create|uv_thread_create|thrd_create' "${units[@]}" 2>/dev/null)
	if build asan; then
		unit_stage asan "${units[@]}"
	fi
	build tsan && [ ${#threaded[@]} -gt 0 ] && unit_stage tsan "${threaded[@]}"
	build release
	fuzz_stage replay
	# One job that gives way to the suites, which leave most of a core.
	[ "$FUZZ_SECONDS" -eq 0 ] || FUZZ_JOBS=1 aside fuzz fuzz_stage run "$FUZZ_SECONDS"
	for kind in asan release tsan; do
		[ -x build/$kind/tollgate ] || continue
		which='not slow and not release_only' more=()
		[ $kind = asan ] && more=("${rest[@]}")
		[ $kind = release ] && which='not slow' more=(tests/test_layers.py tests/test_docs.py tests/clients "${rest[@]}")
		[ $kind = tsan ] && more=(tests/fault)
		[ $kind = release ] || export TOLLGATE_START_S=60
		aside $kind-rest pytest_stage $kind-rest build/$kind/tollgate -m "$which" "${more[@]}"
		aside $kind-api pytest_stage $kind-api build/$kind/tollgate -m "$which" tests/api
		unset TOLLGATE_START_S
	done
	for name in release-rest release-api asan-rest asan-api tsan-rest tsan-api fuzz; do
		join $name
	done
fi

if [ -s $logs/failures ]; then
	echo "== what failed, once more"
	tail -n 100 $logs/failures
fi
if [ $skipped -gt 0 ]; then
	echo "$passed passed, $failed failed, $skipped skipped"
else
	echo "$passed passed, $failed failed"
fi
[ $failed -eq 0 ] && [ $passed -gt 0 ]
