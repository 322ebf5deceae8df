#!/usr/bin/env python3
"""measure.py: what one HTTP server on 127.0.0.1 costs. Each call appends one JSON line to --out and prints a line for people.

  measure.py http   --url URL --pid PID --conns N [--secs 2] [--body FILE] [--row small]
  measure.py events --port N --pid PID [--count 1000]                  one stream after the other: time to the first event
  measure.py streams --port N --pid PID [--streams 5000] [--chunks 100] [--delay-ms 100]
  measure.py growth --url URL --pid PID [--requests 1000000]           memory after a tenth of the requests, and after all
  measure.py rss    --pid PID                                          memory as it stands
  measure.py start  --port N -- COMMAND...                             from exec to the first connection accepted, median of --count starts
  measure.py size   --binary FILE                                      bytes after strip
  measure.py lines  --file LOG                                         lines in a log: was the access log on?

CPU us/request = user and system CPU of the server's processes (--pid and its children, all threads) during the run / requests answered.
On a shared or virtual machine that is the number to trust; throughput and latency are not. Memory is Pss (shared pages counted once)
except `rss`, which is VmRSS. Needs wrk, and sse_load through $SSE_LOAD. Standard library only."""
import argparse, json, os, pathlib, shutil, socket, statistics, subprocess, sys, tempfile, threading, time

HERE = pathlib.Path(__file__).resolve().parent
TICK = os.sysconf("SC_CLK_TCK")


def tree(pid):
    """pid and all its living descendants"""
    kids = {}
    for p in os.listdir("/proc"):
        if p.isdigit():
            try:
                kids.setdefault(int(pathlib.Path(f"/proc/{p}/stat").read_text().rsplit(")", 1)[1].split()[1]), []).append(int(p))
            except OSError:
                pass
    out, todo = [], [pid]
    while todo:
        out.append(todo.pop())
        todo += kids.get(out[-1], [])
    return out


def cpu_seconds(pids):
    """User and system CPU of these processes, all threads (10 ms ticks: a run of 2 s at a full core is exact to 1 %)."""
    user = system = 0
    for p in pids:
        try:
            f = pathlib.Path(f"/proc/{p}/stat").read_text().rsplit(")", 1)[1].split()
            user += int(f[11])
            system += int(f[12])
        except OSError:
            sys.exit(f"measure.py: process {p} is gone")
    return user / TICK, system / TICK


def pss_kb(pids):
    total = 0
    for p in pids:
        try:
            total += next(int(l.split()[1]) for l in open(f"/proc/{p}/smaps_rollup") if l.startswith("Pss:"))
        except (OSError, StopIteration):
            pass
    return total


def vm_rss_kb(pids):
    total = 0
    for p in pids:
        try:
            total += next(int(l.split()[1]) for l in open(f"/proc/{p}/status") if l.startswith("VmRSS:"))
        except (OSError, StopIteration):
            pass
    return total


class Peak(threading.Thread):
    """The most memory seen while it runs."""

    def __init__(self, pids):
        super().__init__(daemon=True)
        self.pids, self.top, self.over = pids, 0, threading.Event()

    def run(self):
        while not self.over.wait(0.25):
            self.top = max(self.top, pss_kb(self.pids))


def pinned(a, command):
    return ["taskset", "-c", str(a.load_cpu)] + command if a.load_cpu is not None else command


def wrk(a, conns, secs):
    env = dict(os.environ, BODY_FILE=a.body, AUTH=a.auth)
    o = subprocess.run(pinned(a, ["wrk", "-t1", f"-c{conns}", f"-d{secs}s", "--timeout", "10s", "-s", str(HERE / "post.lua"), a.url]),
                       env=env, capture_output=True, text=True)
    for line in o.stdout.splitlines():
        if line.startswith("JSON"):
            return json.loads(line[4:])
    sys.exit(f"measure.py: wrk failed\n{o.stdout}{o.stderr}")


def do_http(a):
    pids = tree(a.pid)
    peak = Peak(pids)
    peak.start()
    u0, s0 = cpu_seconds(pids)
    d = wrk(a, a.conns, a.secs)
    u1, s1 = cpu_seconds(pids)
    peak.over.set()
    n = max(1, d["requests"])
    d.update(row=a.row, conns=a.conns, rps=d["requests"] / d["secs"], cpu_us=(u1 - u0 + s1 - s0) * 1e6 / n, user_us=(u1 - u0) * 1e6 / n,
             errors=sum(d.pop("err").values()), pss_kb=peak.top)
    return d, (f"{a.row} c={a.conns:<4d} cpu_us/req={d['cpu_us']:>7.1f} (user {d['user_us']:.1f}) rps={d['rps']:>7.0f} p50={d['p50']:>6d}us "
               f"p99={d['p99']:>6d}us pss={d['pss_kb'] / 1024:>5.1f}MiB errors={d['errors']}")


def sse(a, total, at_once, chunks, delay_ms):
    pids = tree(a.pid)
    idle = pss_kb(pids)
    peak = Peak(pids)
    peak.start()
    u0, s0 = cpu_seconds(pids)
    body = json.dumps({"model": "mock", "stream": True, "mock_chunks": chunks, "mock_delay_ms": delay_ms, "messages": [{"role": "user", "content": "hello"}]})
    command = [os.environ["SSE_LOAD"], "-p", str(a.port), "-c", str(at_once), "-n", str(total), "-r", str(a.ramp), "-t", str(a.limit_s), "-b", body]
    if a.auth:
        command += ["-H", "Authorization: " + a.auth]
    o = subprocess.run(pinned(a, command), capture_output=True, text=True)
    u1, s1 = cpu_seconds(pids)
    peak.over.set()
    if not o.stdout.startswith("{"):
        sys.exit(f"measure.py: sse_load failed\n{o.stdout}{o.stderr}")
    d = json.loads(o.stdout)
    cpu = u1 - u0 + s1 - s0
    d.update(streams=at_once, chunks=chunks, delay_ms=delay_ms, idle_kb=idle, peak_kb=peak.top, cpu_us_event=cpu * 1e6 / max(1, d["events"]),
             kb_stream=(peak.top - idle) / max(1, d["open_max"]))
    return d, (f"ok={d['ok']} failed={d['failed']} unfinished={d['unfinished']} open={d['open_max']} events={d['events']} first p50={d['first_event_us']['p50']}us "
               f"p99={d['first_event_us']['p99']}us silence p99={d['silence_ms']['p99']}ms cpu_us/event={d['cpu_us_event']:.2f} wall={d['wall_s']}s "
               f"pss {idle / 1024:.1f}->{peak.top / 1024:.1f}MiB = {d['kb_stream']:.2f}KiB/stream")


def do_events(a):
    return sse(a, a.count, 1, 1, 0)


def do_streams(a):
    return sse(a, a.streams, a.streams, a.chunks, a.delay_ms)


def do_growth(a):
    pids = tree(a.pid)
    n = errors = early = early_n = 0
    while n < a.requests:
        d = wrk(a, 64, 5)
        n += d["requests"]
        errors += sum(d["err"].values())
        if not early and n * 10 >= a.requests:
            time.sleep(0.5)
            early, early_n = pss_kb(pids), n
        if d["requests"] == 0:
            sys.exit("measure.py: no request was answered")
    time.sleep(0.5)
    late = pss_kb(pids)
    return dict(requests=n, errors=errors, early_requests=early_n, early_kb=early, late_kb=late), \
        f"{n} requests, errors={errors}: {early} KiB after {early_n}, {late} KiB at the end ({late - early:+d} KiB)"


def do_rss(a):
    pids = tree(a.pid)
    d = dict(rss_kb=vm_rss_kb(pids), pss_kb=pss_kb(pids), processes=len(pids))
    return d, f"idle: VmRSS {d['rss_kb']} KiB, Pss {d['pss_kb']} KiB"


def do_start(a):
    times = []
    for _ in range(a.count):
        t0 = time.perf_counter()
        p = subprocess.Popen(a.command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while True:
            try:
                socket.create_connection(("127.0.0.1", a.port), 1).close()
                break
            except OSError:
                if p.poll() is not None:
                    sys.exit(f"measure.py: {a.command[0]} ended at once:\n{p.stderr.read().decode()}")
                if time.perf_counter() - t0 > 10:
                    p.kill()
                    sys.exit(f"measure.py: {a.command[0]} does not listen on port {a.port}")
        times.append((time.perf_counter() - t0) * 1e3)
        p.terminate()
        p.wait(20)
        p.stderr.close()
    d = dict(start_ms=statistics.median(times), start_max_ms=max(times))
    return d, f"start to first accept: median {d['start_ms']:.1f} ms, worst {d['start_max_ms']:.1f} ms of {a.count}"


def do_size(a):
    with tempfile.TemporaryDirectory() as t:
        copy = shutil.copy(os.path.realpath(a.binary), t)
        subprocess.run(["strip", copy], check=True)
        d = dict(stripped=os.path.getsize(copy))
    return d, f"stripped: {d['stripped']} bytes"


def do_lines(a):
    with open(a.file, "rb") as f:
        d = dict(lines=sum(b.count(b"\n") for b in iter(lambda: f.read(1 << 20), b"")))
    return d, f"access log: {d['lines']} lines"


DO = dict(http=do_http, events=do_events, streams=do_streams, growth=do_growth, rss=do_rss, start=do_start, size=do_size, lines=do_lines)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", choices=sorted(DO))
    p.add_argument("--label", default="server")
    p.add_argument("--out")
    p.add_argument("--pid", type=int)
    p.add_argument("--url")
    p.add_argument("--port", type=int)
    p.add_argument("--auth", default="")
    p.add_argument("--body", default=str(HERE / "body.json"))
    p.add_argument("--row", default="small")
    p.add_argument("--conns", type=int, default=64)
    p.add_argument("--secs", type=int, default=2)
    p.add_argument("--load-cpu", type=int)
    p.add_argument("--streams", type=int, default=5000)
    p.add_argument("--chunks", type=int, default=100)
    p.add_argument("--delay-ms", type=int, default=100)
    p.add_argument("--count", type=int, default=1000)
    p.add_argument("--ramp", type=int, default=1000)
    p.add_argument("--limit-s", type=int, default=120)
    p.add_argument("--requests", type=int, default=1_000_000)
    p.add_argument("--binary")
    p.add_argument("--file")
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    a = p.parse_args(sys.argv[1:cut])
    a.command = sys.argv[cut + 1:]
    d, text = DO[a.what](a)
    print(f"{a.label:20s} {text}", flush=True)
    if a.out:
        with open(a.out, "a") as f:
            f.write(json.dumps(dict(d, kind=a.what, label=a.label)) + "\n")


if __name__ == "__main__":
    main()
