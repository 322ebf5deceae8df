#!/bin/sh
# setup.sh [run|test|bench|llm|clean-room ...]: installs what the named uses need from Debian 12, nothing more; the default is run.
# What is there already is asked of dpkg only, so a second call takes milliseconds and touches no network. `test` also makes
# build/venv from tests/requirements.txt. Installing needs root or a sudo that asks nothing; without either, the one line that
# would do it is printed and the exit status is 1.
set -eu
cd "$(dirname "$0")/.."

run_packages="build-essential meson ninja-build pkg-config libuv1-dev node-llhttp libssl-dev libsodium-dev libjansson-dev libsqlite3-dev libtomlplusplus-dev ca-certificates curl libjwt-dev libxgboost-dev liblinear-dev liblapacke-dev libopenblas-dev libseccomp-dev libcurl4-openssl-dev"
test_packages="chromium chromium-driver libcmocka-dev python3-venv python-is-python3 openssl clang libclang-rt-14-dev llvm-14 procps"
bench_packages="wrk nginx-light haproxy linux-perf"
llm_packages="python3-venv curl"
clean_room_packages="mmdebstrap git"

usage() {
	echo "usage: sh scripts/setup.sh [run|test|bench|llm|clean-room ...]" >&2
	exit 2
}

[ $# -gt 0 ] || set -- run
packages= venv=no
for use; do
	case $use in
	run) packages="$packages $run_packages" ;;
	test) packages="$packages $run_packages $test_packages" venv=yes ;;
	bench) packages="$packages $run_packages $bench_packages" ;;
	llm) packages="$packages $run_packages $llm_packages" ;;
	clean-room) packages="$packages $clean_room_packages" ;;
	*) usage ;;
	esac
done

if ! command -v dpkg-query >/dev/null 2>&1; then
	echo "setup.sh: this is not a Debian system; install by hand what Debian 12 calls:$packages" >&2
	exit 1
fi

# "name:arch" is cut to "name", so that foreign architectures beside the native one do not hide it.
have=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' 2>/dev/null | sed -n 's/^installed //p')
missing=
for p in $packages; do
	case " $missing " in *" $p "*) continue ;; esac
	printf '%s\n' "$have" | grep -qxF -- "$p" || missing="$missing $p"
done

if [ -n "$missing" ]; then
	line="apt-get update && apt-get install -y --no-install-recommends$missing"
	if [ "$(id -u)" = 0 ]; then
		root=
	elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
		root="sudo -n"
	else
		echo "setup.sh: packages are missing and this is neither root nor a sudo without a password. Run this as root, then try again:" >&2
		echo "  $line" >&2
		exit 1
	fi
	echo "setup.sh: installing$missing"
	# The peers of the benchmark bring services along; none may start now or at the next boot. An existing policy is left alone.
	policy=/usr/sbin/policy-rc.d quiet=
	case " $missing " in *" nginx-light "* | *" haproxy "*)
		if [ ! -e $policy ]; then
			printf '#!/bin/sh\nexit 101\n' | $root tee $policy >/dev/null
			trap '$root rm -f $policy' EXIT
			trap 'exit 1' HUP INT TERM
			$root chmod 755 $policy
		fi
		for p in nginx haproxy; do
			case "$missing " in *" $p"[\ -]*) quiet="$quiet $p" ;; esac
		done
		;;
	esac
	$root env DEBIAN_FRONTEND=noninteractive apt-get update -q
	# shellcheck disable=SC2086
	$root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
	for p in $quiet; do
		if command -v update-rc.d >/dev/null 2>&1 && [ -e "/etc/init.d/$p" ]; then
			$root update-rc.d "$p" disable >/dev/null 2>&1 || true
		fi
		if [ -d /run/systemd/system ]; then
			$root systemctl disable --now "$p" >/dev/null 2>&1 || true
		fi
	done
fi

if [ $venv = yes ]; then
	# python3-venv belongs to Debian's python3; another one on PATH may lack it.
	python=/usr/bin/python3
	want=$(cksum <tests/requirements.txt)
	if [ ! -x build/venv/bin/python ] || [ "$(cat build/venv/.made-from 2>/dev/null)" != "$want" ]; then
		echo "setup.sh: making build/venv"
		rm -rf build/venv
		mkdir -p build
		$python -m venv build/venv
		build/venv/bin/python -m pip install -q --disable-pip-version-check -r tests/requirements.txt
		printf '%s\n' "$want" >build/venv/.made-from
	fi
fi
