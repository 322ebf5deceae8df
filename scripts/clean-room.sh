#!/usr/bin/env bash
# clean-room.sh: proves the README's commands on a bare Debian 12. A minimal chroot is made with this machine's own apt sources and pip settings, the
# committed tree (HEAD, not the working copy) is unpacked into it, and inside `sh scripts/setup.sh && make run` must answer /health on its
# three addresses and end well on SIGTERM, and `make test` must pass. Needs root. KEEP=1 leaves the chroot; CLEAN_ROOM_TESTS=no stops after make run.
set -euo pipefail
cd "$(dirname "$0")/.."

suite=bookworm
if [ "$(id -u)" != 0 ]; then
	echo "clean-room.sh: root is needed, to make a chroot" >&2
	exit 1
fi
for port in 9001 8000 8765; do
	if (exec 3<>/dev/tcp/127.0.0.1/$port) 2>/dev/null; then
		echo "clean-room.sh: 127.0.0.1:$port is in use; the chroot shares the network and needs it" >&2
		exit 1
	fi
done

work=$(mktemp -d "${TMPDIR:-/var/tmp}/tollgate-clean-room.XXXXXX")
root=$work/root
cleanup() {
	if [ "${KEEP:-}" = 1 ]; then echo "clean-room.sh: left in $work"; else rm -rf --one-file-system "$work"; fi
}
trap cleanup EXIT
chmod 755 "$work"

# Debian's own lines only: what else this machine installs from is not part of a bare system.
apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
	awk -v s=$suite '$2 == s || $2 == s "-updates" || $2 == s "-security" {print "deb", $1, $2, $3}' | sort -u >"$work/sources.list"
if [ ! -s "$work/sources.list" ]; then
	echo "clean-room.sh: apt here knows no package lists of $suite (apt-get update makes them)" >&2
	exit 1
fi
options=()
while IFS= read -r line; do
	options+=("--aptopt=$line")
done < <(apt-config dump | grep -iE '^Acquire::(https?::(proxy|verify|cainfo)|retries)[^:]*"[^"]+"' || true)
if grep -q '^deb https:' "$work/sources.list"; then
	options+=(--include=ca-certificates)
fi
echo "clean-room.sh: making a minimal $suite"
mmdebstrap --quiet --mode=root --variant=minbase --format=directory "${options[@]}" $suite "$root" "$work/sources.list"

# What this machine needs to reach its package index, and nothing else of it: certificates, pip's settings, proxies.
mkdir -p "$root/usr/local/share/ca-certificates" "$root/src"
cp /usr/local/share/ca-certificates/*.crt "$root/usr/local/share/ca-certificates/" 2>/dev/null || true
cp /etc/resolv.conf /etc/hosts "$root/etc/"
for f in /etc/pip.conf "$HOME/.config/pip/pip.conf"; do
	[ ! -f "$f" ] || cp "$f" "$root/etc/pip.conf"
done
settings=(PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8)
for v in PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_TRUSTED_HOST PIP_CERT PIP_DEFAULT_TIMEOUT http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY CI FUZZ_SECONDS; do
	[ -z "${!v:-}" ] || settings+=("$v=${!v}")
done
git archive HEAD | tar -x -C "$root/src"

inside() { # SCRIPT: in a process and mount namespace of its own, so that nothing it starts outlives it
	unshare --mount --pid --fork --kill-child bash -c '
		mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && mount -t sysfs sys "$0/sys" && mount -t tmpfs tmp "$0/tmp" || exit
		exec chroot "$0" env -i "${@:2}" sh -euc "$1"' "$root" "$1" "${settings[@]}"
}

inside '
cd /src
began=$(date +%s)
sh scripts/setup.sh
if dpkg-query -W libcmocka-dev >/dev/null 2>&1; then
	echo "clean-room: setup.sh run installed a package of the tests" >&2
	exit 1
fi
make run >/tmp/run.log 2>&1 &
run=$!
for port in 9001 8000 8765; do
	n=0
	until curl -fsS --noproxy "*" -o /dev/null "http://127.0.0.1:$port/health" 2>/dev/null; do
		n=$((n + 1))
		if [ $n -gt 300 ] || ! kill -0 $run 2>/dev/null; then
			cat /tmp/run.log >&2
			echo "clean-room: no /health on port $port" >&2
			exit 1
		fi
		sleep 1
	done
done
echo "clean-room: make run answers on its three addresses, $(($(date +%s) - began)) s after the first command"
for p in /proc/[0-9]*; do
	case $(readlink "$p/exe" || true) in /src/build/*tollgate) kill -TERM "${p#/proc/}" ;; esac
done
if ! wait $run; then
	cat /tmp/run.log >&2
	echo "clean-room: make run did not end well on SIGTERM" >&2
	exit 1
fi'
if [ "${CLEAN_ROOM_TESTS:-yes}" != no ]; then
	inside 'cd /src; make test'
fi
echo "clean-room.sh: both commands work on a bare $suite"
