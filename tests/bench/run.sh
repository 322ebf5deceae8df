#!/usr/bin/env bash
# Tollgate beside nginx and HAProxy doing the same checks, in one interleaved run, in front of one mock worker, and once more with four workers behind. `make bench` runs this with no
# options; it takes about fifteen minutes. Prints progress on stderr and Markdown tables on stdout.
#
#   run.sh [-1] [-2] [-g LABEL,PORT,PID[,AUTH]]... [-p mock port] [-n rounds=5] [-s seconds=2] [-c conns=1,64,256] [-b conns of the 100 KB row=16]
#          [-S streams=5000] [-N growth requests=1000000] [-o out.jsonl] [-k]
#
# -1  everything (servers, wrk, mock) on core 0 (the default): no wake-ups across cores, so CPU per request and added latency vary least on a busy
#     or virtual machine. -2: servers on core 0, wrk and mock on core 1: for throughput.
# -g  another gateway that runs already on 127.0.0.1:PORT before the mock given by -p; AUTH is its Authorization value (default: the bench key).
# -b, -S, -N: 0 leaves that part out. -k keeps the run folder. TOLLGATE=FILE measures another binary.
# A peer that is not installed is left out; its row is missing. The rounds are interleaved (A B C A B C), so that noise hits all alike.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tollgate=${TOLLGATE:-$here/../../build/tollgate}
key="Bearer sk-bench-0123456789abcdef"
rounds=5 secs=2 conns=1,64,256 big=16 streams=5000 growth=1000000 out="" keep=0 load_cpu=0 up=0 others=()
while getopts 12g:p:n:s:c:b:S:N:o:k o; do
	case $o in
	1) load_cpu=0 ;;
	2) load_cpu=1 ;;
	g) others+=("$OPTARG") ;;
	p) up=$OPTARG ;;
	n) rounds=$OPTARG ;;
	s) secs=$OPTARG ;;
	c) conns=$OPTARG ;;
	b) big=$OPTARG ;;
	S) streams=$OPTARG ;;
	N) growth=$OPTARG ;;
	o) out=$OPTARG ;;
	k) keep=1 ;;
	*) exit 2 ;;
	esac
done
[ "$(nproc)" -gt 1 ] || load_cpu=0
run=$(mktemp -d)
chmod 755 "$run"
out=${out:-$run/out.jsonl}
: >"$out"
pids=()
cleanup() {
	for p in "${pids[@]}"; do kill "$p" 2>/dev/null || true; done
	for p in "${pids[@]}"; do wait "$p" 2>/dev/null || true; done
	if [ $keep = 1 ]; then echo "kept: $run" >&2; else rm -rf "$run"; fi
}
trap cleanup EXIT
trap 'exit 130' INT TERM

say() { echo "$@" >&2; }
measure() { local what=$1; shift; python3 "$here/measure.py" "$what" --out "$out" "$@" >&2; }
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

for t in mock_upstream tcp_floor sse_load; do cc -std=gnu17 -D_GNU_SOURCE -O2 -o "$run/$t" "$here/$t.c"; done
export SSE_LOAD=$run/sse_load
ulimit -n "$(ulimit -Hn)"
python3 "$here/prepare.py" "$run"
"$run/mock_upstream" -p "$up" -n 4 -c "$load_cpu" >"$run/mock.port" 2>"$run/mock.err" &
pids+=($!)
mock=$!
for _ in $(seq 100); do
	[ ! -s "$run/mock.port" ] || break
	sleep 0.05
done
up=$(cat "$run/mock.port")
[ -n "$up" ] || { say "the mock did not start: $(cat "$run/mock.err")"; exit 1; }

user=""
# nginx started as root drops to www-data, which cannot write its temp files into the run folder: it would answer errors, and look fast
[ "$(id -u)" != 0 ] || user="user root;"
fill() { # TEMPLATE NAME PORT [nginx|haproxy]: with the limit where one is named
	local zone="" limit="" table=""
	case ${4:-} in
	nginx) zone='limit_req_zone $who zone=k:10m rate=1000000r/s; limit_req_log_level info;' limit='limit_req zone=k burst=100000 nodelay;' ;;
	haproxy) limit='http-request track-sc0 var(txn.who) table lim\n  http-request deny deny_status 429 if { sc0_http_req_rate gt 100000000 }'
		table='backend lim\n  stick-table type string len 64 size 100k expire 60s store http_req_rate(10s)' ;;
	esac
	sed -e "s|@RUN@|$run|g; s|@NAME@|$2|g; s|@UP@|$up|g; s|@PORT@|$3|g; s|@USER@|$user|; s|@LIMIT_ZONE@|$zone|; s|@LIMIT@|$limit|; s|@TABLE@|$table|" "$here/peers/$1"
}

names=() ports=() spids=() auths=()
add() { # NAME PORT PID [AUTH]
	names+=("$1") ports+=("$2") spids+=("$3") auths+=("${4:-$key}")
}
add direct "$up" "$mock"
port=$(free_port)
taskset -c 0 "$run/tcp_floor" "$port" "$up" &
pids+=($!)
add tcp_floor "$port" $!
if command -v nginx >/dev/null; then
	for v in nginx-plain: nginx-key: nginx-key-limit:nginx; do
		n=${v%%:*} port=$(free_port)
		fill "$(echo "$n" | sed 's/-limit//').conf" "$n" "$port" "${v##*:}" >"$run/$n.conf"
		taskset -c 0 nginx -p "$run" -e "$run/$n.err" -c "$run/$n.conf" &
		pids+=($!)
		add "$n" "$port" $!
	done
fi
if command -v haproxy >/dev/null; then
	for v in haproxy-plain: haproxy-key: haproxy-key-limit:haproxy; do
		n=${v%%:*} port=$(free_port)
		fill "$(echo "$n" | sed 's/-limit//').cfg" "$n" "$port" "${v##*:}" >"$run/$n.cfg"
		taskset -c 0 haproxy -f "$run/$n.cfg" >>"$run/$n.log" 2>&1 &
		pids+=($!)
		add "$n" "$port" $!
	done
fi
port=$(free_port)
fill tollgate.toml tollgate "$port" >"$run/tollgate.toml"
gate=(taskset -c 0 "$tollgate" serve --config "$run/tollgate.toml")
cd "$run"
say "-- at rest"
measure size --label tollgate --binary "$tollgate"
measure start --label tollgate --port "$port" --count 11 -- "${gate[@]}"
"${gate[@]}" 2>"$run/tollgate.err" &
pids+=($!)
gate_pid=$!
add tollgate "$port" $gate_pid
# The same mock on four addresses: what choosing costs, and that connections are spread over four, without the load of three more processes.
port=$(free_port)
fill tollgate.toml tollgate-4 "$port" | sed "s|^urls = .*|urls = [\"http://127.0.0.1:$up\", \"http://127.0.0.2:$up\", \"http://127.0.0.3:$up\", \"http://127.0.0.4:$up\"]|" \
	>"$run/tollgate-4.toml"
taskset -c 0 "$tollgate" serve --config "$run/tollgate-4.toml" 2>"$run/tollgate-4.err" &
pids+=($!)
add tollgate-4 "$port" $!
for g in "${others[@]}"; do
	IFS=, read -r l p d a <<<"$g"
	add "$l" "$p" "$d" "${a:-}"
done
sleep 1.5
for i in "${!names[@]}"; do measure rss --label "${names[$i]}" --pid "${spids[$i]}"; done

url() { echo "http://127.0.0.1:${ports[$1]}/v1/chat/completions"; }
ask() { # INDEX AUTH BODY: the status
	curl -s -o /dev/null -w '%{http_code}' --noproxy '*' -H "Authorization: $2" -H 'Content-Type: application/json' -d @"$3" "$(url "$1")" || true
}
for i in "${!names[@]}"; do # each must answer, also the big body; each that checks keys must refuse a wrong one: else its numbers mean nothing
	good=$(ask "$i" "${auths[$i]}" "$here/body.json") large=$(ask "$i" "${auths[$i]}" "$run/body-100k.json") bad=$(ask "$i" "Bearer sk-wrong" "$here/body.json")
	say "$(printf '%-18s port %s  right key: %s  100 KB: %s  wrong key: %s' "${names[$i]}" "${ports[$i]}" "$good" "$large" "$bad")"
	want=200
	case ${names[$i]} in *-key | *-limit | tollgate*) want=401 ;; esac
	if [ "$good $large $bad" != "200 200 $want" ]; then
		say "run.sh: ${names[$i]} does not answer as it should"
		tail -n 5 "$run/${names[$i]}".err "$run/${names[$i]}".log >&2 2>/dev/null || true
		exit 1
	fi
done

note_logs() {
	sleep 0.3 # the log is flushed every 100 ms
	measure lines --label tollgate --file "$run/tollgate.log"
}
for r in $(seq "$rounds"); do
	say "-- round $r of $rounds"
	for f in "$run"/*.log; do : >"$f"; done # every server appends: in an emptied file it just goes on
	for c in ${conns//,/ }; do
		for i in "${!names[@]}"; do
			measure http --label "${names[$i]}" --pid "${spids[$i]}" --url "$(url "$i")" --conns "$c" --secs "$secs" --auth "${auths[$i]}" --load-cpu $load_cpu
		done
	done
	if [ "$big" != 0 ]; then
		for i in "${!names[@]}"; do
			case ${names[$i]} in *-plain | *-limit | tollgate-4) continue ;; esac
			measure http --row 100k --body "$run/body-100k.json" --label "${names[$i]}" --pid "${spids[$i]}" --url "$(url "$i")" --conns "$big" --secs "$secs" \
				--auth "${auths[$i]}" --load-cpu $load_cpu
		done
	fi
	note_logs # before the streams, which wrk does not count
	for i in "${!names[@]}"; do
		case ${names[$i]} in *-limit | tollgate-4) continue ;; esac
		measure events --label "${names[$i]}" --pid "${spids[$i]}" --port "${ports[$i]}" --auth "${auths[$i]}" --count 300 --load-cpu $load_cpu
	done
done
if [ "$streams" != 0 ]; then
	say "-- $streams streams, 10 events a second each"
	for i in "${!names[@]}"; do
		case ${names[$i]} in *-limit | haproxy-plain | tollgate-4) continue ;; esac
		measure streams --label "${names[$i]}" --pid "${spids[$i]}" --port "${ports[$i]}" --auth "${auths[$i]}" --streams "$streams" --load-cpu $load_cpu
	done
fi
if [ "$growth" != 0 ]; then
	say "-- growth over $growth requests"
	for i in "${!names[@]}"; do
		[ "${names[$i]}" = tollgate ] || continue
		measure growth --label tollgate --pid "$gate_pid" --url "$(url "$i")" --requests "$growth" --auth "$key" --load-cpu $load_cpu
	done
fi
say ""
python3 "$here/report.py" "$out"
