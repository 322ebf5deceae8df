#!/bin/sh
# run_api.sh [GEMMA3 [QWEN [QWEN3]]] [start|stop|restart|status|logs]: document 001's server. The numbers are how many workers of each model are started (0 to 64;
# without them those of deploy/orchestra.toml, or for restart the last ones); the first word that is no number is the action, start if there is none.
#   start    returns when every worker is ready, with progress; fails, with nothing left running, when one cannot be started or the server runs already
#   stop     lets running requests finish, then ends the server and all its workers; fine if nothing runs
#   status   what listens, and how the workers are; exit status 3 if it does not run
#   logs     the last lines of what was written
# Process id: data/run_api.pid. Written: logs/run_api.out (the server's own words), logs/app.log (requests), logs/workers.log (the workers' output).
# Whether it runs is told by a lock on data/run_api.lock, which the server holds as long as it lives: a stale file means nothing.
set -eu
self=$(cd "$(dirname "$0")" && pwd)/$(basename "$0")
cd "$(dirname "$0")/.."
config=${ORCHESTRA_CONFIG:-deploy/orchestra.toml}
tollgate=build/tollgate
pid_file=data/run_api.pid lock=data/run_api.lock counts_file=data/run_api.counts out=logs/run_api.out
stop_seconds=${STOP_SECONDS:-60}

usage() {
	[ $# -eq 0 ] || echo "run_api.sh: $*" >&2
	sed -n '2,3s/^# //p' "$self" >&2
	exit 2
}

counts= n=0 action=
for word; do
	case $word in
	-[0-9]*) usage "$word: a number of workers cannot be negative" ;;
	*[!0-9]* | '')
		[ -z "$action" ] || usage "$word: there is an action already, $action"
		[ -n "$word" ] || usage "an empty word"
		action=$word
		;;
	*)
		[ -z "$action" ] || usage "$word: the numbers come before the action"
		n=$((n + 1))
		[ $n -le 3 ] || usage "$word: there are three models, gemma3, qwen and qwen3, and this is a fourth number"
		[ ${#word} -le 3 ] && [ "$word" -le 64 ] || usage "$word: at most 64 workers of a model"
		counts="$counts $((${word#"${word%%[!0]*}"} + 0))"
		;;
	esac
done
action=${action:-start}
case $action in start | stop | restart | status | logs) ;; *) usage "$action: there is no such action" ;; esac
case "$n:$counts" in 3:" 0 0 0") usage "no workers at all: nothing would be served" ;; esac

mkdir -p data logs
exec 9>>$lock
pid() { cat $pid_file 2>/dev/null || echo unknown; }

stop() {
	if flock -n 9; then
		echo "run_api.sh: it is not running"
		return 0
	fi
	echo "run_api.sh: stopping process $(pid); what runs may finish"
	kill -TERM "$(pid)" 2>/dev/null || true
	if ! flock -w "$stop_seconds" 9; then
		echo "run_api.sh: it did not end within $stop_seconds seconds: killed; its workers follow at once" >&2
		kill -KILL "$(pid)" 2>/dev/null || true
		flock -w 10 9 || return 1
		sleep 3
	fi
	rm -f $pid_file
	echo "run_api.sh: stopped"
}

# The admin key, as the server knows it: from the environment, else from data/keys.env (written by `tollgate init`, perhaps edited since).
admin_key() {
	if [ -n "${INFERENCE_ADMIN_KEY:-}" ]; then
		printf %s "$INFERENCE_ADMIN_KEY"
	elif [ -r data/keys.env ]; then
		sed -n 's/^[[:space:]]*\(export[[:space:]]\{1,\}\)\{0,1\}INFERENCE_ADMIN_KEY=//p' data/keys.env | tail -n 1 |
			sed -e "s/^\"\([^\"]*\)\".*/\1/; t" -e "s/^'\([^']*\)'.*/\1/; t" -e 's/[[:space:]].*//'
	fi
}

shown=0
show_progress() {
	lines=$(wc -l <$out)
	[ "$lines" -gt $shown ] || return 0
	sed -n "$((shown + 1)),${lines}s/^tollgate: //p" $out
	shown=$lines
}

start() {
	if ! flock -w 2 9; then # a moment, in case somebody has just looked at its status
		echo "run_api.sh: it is already running, as process $(pid)" >&2
		return 1
	fi
	# From here on the file names a process that holds the lock: this one, then the server.
	server=
	trap '[ -z "$server" ] || kill -TERM $server; exit 130' INT TERM
	echo $$ >$pid_file
	[ -x $tollgate ] || make build 9>&-
	[ -n "${INFERENCE_ADMIN_KEY:-}" ] || [ -e data/keys.env ] || $tollgate init --quiet 9>&-
	set -- --config "$config"
	i=0
	for count in $counts; do
		i=$((i + 1))
		set -- "$@" --workers "$(echo gemma3 qwen qwen3 | cut -d ' ' -f $i)=$count"
	done
	echo "$counts" >$counts_file
	: >$out
	# It inherits descriptor 9, and with it the lock.
	setsid $tollgate serve "$@" >>$out 2>&1 </dev/null &
	server=$!
	echo $server >$pid_file
	while :; do
		show_progress
		if grep -q '^tollgate: all [0-9]* workers are ready' $out || { grep -q '^tollgate: ready' $out && ! grep -q '^tollgate: starting ' $out; }; then
			echo "run_api.sh: started, process $server"
			return 0
		fi
		if ! kill -0 $server 2>/dev/null; then
			wait $server || true
			show_progress
			echo "run_api.sh: it did not start; see $out" >&2
			rm -f $pid_file
			return 1
		fi
		if grep -q '^tollgate: [^ ].* it has failed and is tried again' $out; then
			kill -TERM $server
			wait $server || true
			show_progress
			rm -f $pid_file
			echo "run_api.sh: a worker could not be started, so nothing was; its output is in logs/workers.log" >&2
			return 1
		fi
		sleep 0.2
	done
}

status() {
	if flock -n -s 9; then
		flock -u 9
		echo "run_api.sh: it is not running"
		return 3
	fi
	echo "run_api.sh: it runs, as process $(pid)"
	sed -n 's/^tollgate: listening on /  listening on /p' $out
	address=$(sed -n 's/^tollgate: listening on \([0-9[]\)/\1/p' $out | sed 's/^0\.0\.0\.0:/127.0.0.1:/; s/^\[::\]:/[::1]:/' | head -n 1)
	# The key by a file that is no argument: arguments can be read by everybody.
	if ! printf 'header = "X-API-Key: %s"\n' "$(admin_key)" |
		curl -q -fsS --noproxy '*' --max-time 5 --config - -H 'Accept: text/plain' "http://$address/status"; then
		echo "run_api.sh: the table of workers needs the admin key, INFERENCE_ADMIN_KEY" >&2
	fi
}

logs() {
	for f in $out logs/workers.log; do
		if [ -s $f ]; then
			echo "==> $f"
			tail -n "${LINES_SHOWN:-50}" $f
		fi
	done
}

case $action in
start) start ;;
stop) stop ;;
restart)
	[ $n -gt 0 ] || counts=$(cat $counts_file 2>/dev/null || true)
	stop
	flock -u 9
	start
	;;
status) status ;;
logs) logs ;;
esac
