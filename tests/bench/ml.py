#!/usr/bin/env python3
"""
ml.py [-n rounds=5] [-s seconds=2] [--trains 4] [--predicts 20] [--pause-ms 5] [--short-pause-ms 1] [--big 100000] [--bigs 3] [--python313 FILE] [--no-peer]: training and prediction beside the original, `make bench-ml`.

The service of document 003 is chapkit's; here it runs beside build/tollgate, with the same keys, the same model and a database in a file each, and both get the same requests from the same client. Servers take turns within a
round, so that noise hits both; all figures are medians. Measured: GET /api/v1/configs with a key (wrk), a training of 10,000 x 3 from the request until its job is seen completed, a prediction of 1,000 rows until its artifact
is in hand, memory after all that; then a training of --big rows x 20 columns beside what Python needs for json.loads and numpy.linalg.lstsq of the same body, and how far the gate's memory grows meanwhile.
The predictions of both are compared; the run stops where they differ. CPU is user and system time of all processes of a server.

chapkit wants Python 3.13; where one is found (--python313, or python3.13 on PATH or among pyenv's) an environment of its own is made in build/bench-ml/. Where none is, that is said and Tollgate is measured alone.
TOLLGATE=FILE measures another binary. Needs wrk. Prints Markdown.
"""
import argparse
import http.client
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
GATE = os.environ.get("TOLLGATE", str(ROOT / "build/tollgate"))
KEY = "sk_ml_train_abc123"
HEADERS = {"X-API-Key": KEY, "Content-Type": "application/json"}
# chapkit and servicekit: the oldest that are published, nearest to the document. The others: what they were measured with.
PEER = "chapkit==0.4.5 servicekit==0.3.5 fastapi==0.165.0 starlette==1.10.0 uvicorn==0.54.0 uvloop==0.23.0 httptools==0.9.0 pydantic==2.14.4 SQLAlchemy==2.1.9 aiosqlite==0.22.1 scikit-learn==1.9.1 numpy==2.5.5".split()
TICK = os.sysconf("SC_CLK_TCK")
WAIT_S = 120
IDLE_S = 2  # uvicorn closes what is idle for five

LSTSQ = """
import json, sys, time
import numpy
raw = open(sys.argv[1], "rb").read()
t0 = time.perf_counter()
body = json.loads(raw)
t1 = time.perf_counter()
cells = numpy.array(body["data"]["data"], dtype=float)
x, y = numpy.hstack([cells[:, :-1], numpy.ones((len(cells), 1))]), cells[:, -1]
t2 = time.perf_counter()
w = numpy.linalg.lstsq(x, y, rcond=None)[0]
t3 = time.perf_counter()
print(json.dumps({"loads": t1 - t0, "array": t2 - t1, "lstsq": t3 - t2, "weights": w.tolist()}))
"""


def say(text):
    print(f"-- {text}", file=sys.stderr, flush=True)


def load():
    return "%.1f" % os.getloadavg()[0]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def frame(rows, columns, seed, target=True):
    """Rows whose last column is a linear function of the others and a little noise; without target, the others alone. Full doubles, as clients send them."""
    rnd = random.Random(seed)
    weights = [rnd.uniform(-3, 3) for _ in range(columns - 1)]
    data = []
    for _ in range(rows):
        x = [rnd.uniform(-100, 100) for _ in weights]
        data.append([*x, sum(w * v for w, v in zip(weights, x)) + rnd.gauss(0, 1)] if target else x)
    return {"columns": [f"x{i}" for i in range(columns - 1)] + ["y"] * target, "data": data}


class Server:
    """A running service: one connection to it, its processes, its figures by name."""

    def __init__(self, name, folder, argv, env, port):
        self.name, self.dir, self.port, self.figures, self.http, self.used = name, folder, port, {}, None, 0.0
        self.proc = subprocess.Popen(argv, cwd=folder, env=env, stdout=open(folder / "out", "w"), stderr=subprocess.STDOUT)
        end = time.monotonic() + 60
        while True:
            try:
                if self.call("GET", "/health")[0] == 200:
                    break
            except OSError:
                self.http = None
            if self.proc.poll() is not None or time.monotonic() > end:
                self.stop()
                sys.exit(f"{name} does not start:\n{(folder / 'out').read_text()[-2000:]}")
            time.sleep(0.05)

    def call(self, method, path, body=None):
        if not self.http or time.monotonic() - self.used > IDLE_S:
            self.http = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
            self.http.connect()
            self.http.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.http.request(method, path, body, HEADERS)
        r = self.http.getresponse()
        text = r.read()
        self.used = time.monotonic()
        return r.status, text

    def bytes(self, method, path, body=None, want=200):
        status, text = self.call(method, path, body)
        if status != want:
            sys.exit(f"{self.name}: {method} {path} answered {status}: {text[:500]!r}")
        return text

    def good(self, method, path, body=None, want=200):
        return json.loads(self.bytes(method, path, body, want))

    def processes(self):
        """It and all below it: {pid: fields of stat after the command}."""
        stats = {}
        for p in Path("/proc").iterdir():
            if p.name.isdigit():
                try:
                    stats[int(p.name)] = (p / "stat").read_text().rsplit(")", 1)[1].split()
                except OSError:
                    continue
        tree, more = {}, [self.proc.pid]
        while more:
            pid = more.pop()
            tree[pid] = stats[pid]
            more += [c for c, f in stats.items() if int(f[1]) == pid]
        return tree

    def cpu(self):
        """Seconds; processes that have ended are counted with those that waited for them."""
        return sum(sum(int(v) for v in f[11:15]) for f in self.processes().values()) / TICK

    def rss_mib(self):
        return {pid: memory(pid, "VmRSS:") / 1024 for pid in self.processes()}

    def add(self, figure, value):
        self.figures.setdefault(figure, []).append(value)

    def median(self, figure):
        return statistics.median(self.figures[figure])

    def job(self, path, body, pause):
        """Seconds until its job is seen completed, the first answer, and seconds until that."""
        start = time.perf_counter()
        first = self.good("POST", path, body, 202)
        accepted = time.perf_counter() - start
        while True:
            job = self.good("GET", "/api/v1/jobs/" + first["job_id"])
            if job["status"] not in ("pending", "running"):
                break
            if time.perf_counter() - start > WAIT_S:
                sys.exit(f"{self.name}: a job does not end: {job}")
            time.sleep(pause)
        if job["status"] != "completed":
            sys.exit(f"{self.name}: a job has failed: {job}")
        return time.perf_counter() - start, first, accepted

    def measure_configs(self, conns, secs):
        before = self.cpu()
        out = subprocess.run(["wrk", "-t1", f"-c{conns}", f"-d{secs}s", "--latency", "-H", f"X-API-Key: {KEY}", f"http://127.0.0.1:{self.port}/api/v1/configs"], capture_output=True, text=True, check=True).stdout
        used = self.cpu() - before
        if "Non-2xx" in out or "Socket errors" in out:
            sys.exit(f"{self.name}: not every answer was good:\n{out}")
        requests = int(next(x for x in out.splitlines() if "requests in" in x).split()[0])
        self.add(f"rate {conns}", float(next(x for x in out.splitlines() if x.startswith("Requests/sec:")).split()[1]))
        self.add(f"cpu {conns}", used * 1e6 / requests)
        self.add(f"p50 {conns}", milliseconds(next(x for x in out.splitlines() if x.split()[:1] == ["50%"]).split()[1]))

    def measure_train(self, figure, body, pause, times):
        before = self.cpu()
        for _ in range(times):
            took, first, accepted = self.job("/api/v1/ml/$train", body, pause)
            self.add(figure, took * 1000)
            self.add(f"{figure} accepted", accepted * 1000)
        self.add(f"{figure} cpu", (self.cpu() - before) * 1000 / times)
        return first["model_artifact_id"]

    def measure_predict(self, model, body, pause, times):
        """The last artifact's sample_0."""
        body = json.dumps({"model_artifact_id": model, **body}).encode()
        before = self.cpu()
        for _ in range(times):
            start = time.perf_counter()
            first = self.job("/api/v1/ml/$predict", body, pause)[1]
            got = self.bytes("GET", "/api/v1/artifacts/" + first["prediction_artifact_id"])
            self.add("predict", (time.perf_counter() - start) * 1000)
        self.add("predict cpu", (self.cpu() - before) * 1000 / times)
        return [row[-1] for row in json.loads(got)["data"]["predictions"]["data"]]

    def stop(self):
        if self.proc.poll() is None:
            self.proc.terminate()
            try:
                self.proc.wait(20)
            except subprocess.TimeoutExpired:
                self.proc.kill()
                self.proc.wait()


def milliseconds(text):
    for unit, factor in (("us", 0.001), ("ms", 1), ("s", 1000)):
        if text.endswith(unit):
            return float(text[:-len(unit)]) * factor
    raise ValueError(text)


def memory(pid, field):
    """KiB."""
    try:
        return next((int(x.split()[1]) for x in open(f"/proc/{pid}/status") if x.startswith(field)), 0)
    except OSError:
        return 0


def gate(run):
    folder, port = run / "tollgate", free_port()
    folder.mkdir()
    (folder / "tollgate.toml").write_text(f'[server]\nlisten = ["127.0.0.1:{port}"]\n[limits]\nenabled = false\n')
    return Server("tollgate", folder, [GATE, "serve"], {"PATH": os.environ["PATH"], "CHAPKIT_API_KEYS": KEY}, port)


def python313(given):
    for p in [given] if given else [shutil.which("python3.13"), *sorted((Path.home() / ".pyenv/versions").glob("3.13*/bin/python3.13"), reverse=True)]:
        if p and subprocess.run([p, "-c", "import sys; sys.exit(sys.version_info[:2] != (3, 13))"], stderr=subprocess.DEVNULL).returncode == 0:
            return str(p)
    return None


def peer_python(given):
    """That of the environment with chapkit in it, made where it is not as wanted; None without a Python 3.13."""
    venv, made = ROOT / "build/bench-ml/venv", ROOT / "build/bench-ml/made-from"
    if not (made.exists() and made.read_text().split() == PEER and (venv / "bin/python").exists()):
        base = python313(given)
        if not base:
            return None
        say("making build/bench-ml/venv")
        shutil.rmtree(venv, ignore_errors=True)
        subprocess.run([base, "-m", "venv", venv], check=True)
        subprocess.run([venv / "bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check", *PEER], check=True)
        made.write_text(" ".join(PEER))
    return str(venv / "bin/python")


def peer(run, python):
    folder, port = run / "chapkit", free_port()
    folder.mkdir()
    argv = [python, "-m", "uvicorn", "chapkit_service:app", "--port", str(port), "--no-access-log"]
    return Server("chapkit", folder, argv, {"PATH": os.environ["PATH"], "CHAPKIT_API_KEYS": KEY, "LOG_FORMAT": "json", "PYTHONPATH": str(HERE / "peers"), "PYTHONDONTWRITEBYTECODE": "1"}, port)


def numpy_python(first):
    for p in (first, str(ROOT / "build/venv/bin/python"), sys.executable):
        if p and os.path.exists(p) and subprocess.run([p, "-c", "import numpy"], stderr=subprocess.DEVNULL).returncode == 0:
            return p
    return None


class Watch(threading.Thread):
    """The most a process holds while this runs, in KiB: the kernel's own high-water mark, reset at the start, and samples, should it not be resettable."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.start_kib, self.top, self.done = pid, memory(pid, "VmRSS:"), 0, threading.Event()
        Path(f"/proc/{pid}/clear_refs").write_text("5")
        self.start()

    def run(self):
        while not self.done.wait(0.005):
            self.top = max(self.top, memory(self.pid, "VmRSS:"))

    def growth(self):
        self.done.set()
        self.join()
        return max(self.top, memory(self.pid, "VmHWM:")) - self.start_kib


def measure_big(run, ours, python, a):
    """Rounds of the large training, Python's own reckoning in between; figures go to `ours`, Python's are returned."""
    theirs = {"loads": [], "array": [], "lstsq": []}
    body = run / "big.json"
    cid = ours.good("POST", "/api/v1/configs", json.dumps({"name": "big", "data": {}}), 201)["id"]
    body.write_text(json.dumps({"config_id": cid, "data": frame(a.big, 20, 3)}))
    text = body.read_bytes()
    ours.figures["big bytes"] = [len(text)]
    for r in range(a.bigs):
        say(f"{a.big} x 20, {r + 1} of {a.bigs} (load {load()})")
        watch, before = Watch(ours.proc.pid), ours.cpu()
        ours.add("big", ours.job("/api/v1/ml/$train", text, a.pause_ms / 1000)[0])
        ours.add("big growth", watch.growth())
        ours.add("big cpu", ours.cpu() - before)
        if python:
            out = json.loads(subprocess.run([python, "-c", LSTSQ, body], capture_output=True, text=True, check=True).stdout)
            for k in theirs:
                theirs[k].append(out[k])
    return theirs if python else None


def spread(values, form="%.1f"):
    return f"{form} ({form}-{form})" % (statistics.median(values), min(values), max(values))


def report(ours, other, theirs, a, loads):
    servers = [s for s in (ours, other) if s]
    bounds = []

    def bound(what, got, limit, least, unit="x"):
        bounds.append(f"| {what} {'>=' if least else '<='} {limit} {unit} | {got:.2f} | {'met' if (got >= limit if least else got <= limit) else 'missed'} |")

    print(f"{os.cpu_count()} cores; load average {min(loads, key=float)} to {max(loads, key=float)}; {a.n} rounds; medians, (least-most)\n")
    print("| | " + " | ".join(s.name for s in servers) + (" | ratio |" if other else " |") + "\n|---|" + "--:|" * (len(servers) + bool(other)))

    def row(what, figure, form="%.1f", more_is_better=False):
        ratio = ""
        if other:
            more, less = (ours, other) if more_is_better else (other, ours)
            ratio = f" {more.median(figure) / less.median(figure):.1f} |" if less.median(figure) else " |"  # CPU comes in ticks of 10 ms
        print(f"| {what} | " + " | ".join(spread(s.figures[figure], form) for s in servers) + " |" + ratio)

    for c in a.c:
        row(f"GET /api/v1/configs, {c} connections: requests/s", f"rate {c}", "%.0f", True)
        row("the same: p50 ms", f"p50 {c}", "%.2f")
        row(f"the same: CPU us/request", f"cpu {c}", "%.0f")
        if other:
            bound(f"requests/s at {c} connections", ours.median(f"rate {c}") / other.median(f"rate {c}"), 50, True)
    row(f"$train of 10,000 x 3, to completed, asked for each {a.pause_ms:g} ms: ms", "train")
    row("the same: to its 202, ms", "train accepted")
    row("the same: CPU ms", "train cpu")
    row(f"the same, asked for each {a.short_pause_ms:g} ms: ms", "quick")
    row(f"$predict of 1,000 rows, to the artifact, asked for each {a.short_pause_ms:g} ms: ms", "predict")
    row("the same: CPU ms", "predict cpu")
    for s in servers:
        s.figures["rss"] = [sum(s.rss.values())]
    row("RSS after it, all processes: MiB", "rss")
    print(f"\nRSS of tollgate: {', '.join(f'{v:.1f}' for v in ours.rss.values())} MiB (the gate first)\n")
    if other:
        bound(f"training to completed, asked for each {a.pause_ms:g} ms", other.median("train") / ours.median("train"), 5, True)
        bound(f"the same, asked for each {a.short_pause_ms:g} ms", other.median("quick") / ours.median("quick"), 5, True)
        bound("prediction to the artifact", other.median("predict") / ours.median("predict"), 10, True)
        bound("RSS", ours.median("rss") / other.median("rss"), 0.2, False)
    mb = ours.figures["big bytes"][0] / 1e6
    print(f"{a.big:,} rows x 20 columns ({mb:.1f} MB of JSON), request to model stored: {spread(ours.figures['big'], '%.2f')} s, CPU {spread(ours.figures['big cpu'], '%.2f')} s; "
          f"the gate grew by {spread(ours.figures['big growth'], '%.0f')} KiB")
    bound("growth of the gate, most of all rounds", max(ours.figures["big growth"]) / 1024, 4, False, "MiB")
    if theirs:
        print(f"Python on the same body: json.loads {spread(theirs['loads'], '%.2f')} s, numpy.array {spread(theirs['array'], '%.2f')} s, numpy.linalg.lstsq {spread(theirs['lstsq'], '%.2f')} s")
        both = statistics.median(x + y for x, y in zip(theirs["loads"], theirs["lstsq"]))
        bound(f"{a.big:,} x 20, of Python's json.loads + lstsq", ours.median("big") / both, 0.5, False)
    print("\n| bound | came | |\n|---|--:|---|\n" + "\n".join(bounds))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("-n", type=int, default=5)
    p.add_argument("-s", type=int, default=2)
    p.add_argument("-c", default="1,16")
    p.add_argument("--trains", type=int, default=4)
    p.add_argument("--predicts", type=int, default=20)
    p.add_argument("--pause-ms", type=float, default=5)
    p.add_argument("--short-pause-ms", type=float, default=1)
    p.add_argument("--big", type=int, default=100000)
    p.add_argument("--bigs", type=int, default=3)
    p.add_argument("--python313")
    p.add_argument("--no-peer", action="store_true")
    a = p.parse_args()
    a.c = [int(c) for c in a.c.split(",")]
    pause, short, loads = a.pause_ms / 1000, a.short_pause_ms / 1000, [load()]
    python = None if a.no_peer else peer_python(a.python313)
    if not python:
        say("the original is not measured" + ("" if a.no_peer else ": chapkit wants Python 3.13 and there is none (--python313 FILE)"))
    future = {"historic": {"columns": ["x0", "x1"], "data": []}, "future": frame(1000, 3, 2, False)}
    table = frame(10000, 3, 1)
    with tempfile.TemporaryDirectory(prefix="tollgate-bench-ml-") as t:
        run, servers = Path(t), []
        try:
            servers.append(gate(run))
            if python:
                servers.append(peer(run, python))
            bodies, last = {}, {}
            for s in servers:
                cid = s.good("POST", "/api/v1/configs", json.dumps({"name": "bench", "data": {}}), 201)["id"]
                bodies[s] = json.dumps({"config_id": cid, "data": table}).encode()
                # Once unmeasured: both load what they load lazily.
                s.measure_predict(s.measure_train("train", bodies[s], pause, 1), future, short, 1)
                s.figures.clear()
            for r in range(a.n):
                say(f"round {r + 1} of {a.n} (load {load()})")
                loads.append(load())
                for c in a.c:
                    for s in servers:
                        s.measure_configs(c, a.s)
                for s in servers:
                    s.measure_train("train", bodies[s], pause, a.trains)
                for s in servers:
                    last[s] = s.measure_train("quick", bodies[s], short, a.trains)
                samples = [s.measure_predict(last[s], future, short, a.predicts) for s in servers]
                if any(abs(x - y) > 1e-6 * max(1, abs(y)) for other in samples[1:] for x, y in zip(samples[0], other, strict=True)):
                    sys.exit("the predictions of the two differ")
            for s in servers:
                s.rss = s.rss_mib()
            theirs = measure_big(run, servers[0], numpy_python(python), a)
            loads.append(load())
            report(servers[0], servers[1] if python else None, theirs, a, loads)
        finally:
            for s in servers:
                s.stop()


if __name__ == "__main__":
    main()
