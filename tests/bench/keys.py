#!/usr/bin/env python3
"""
keys.py [-k 10,10000,1000000] [-n rounds=5] [-s seconds=2] [-c conns=64]: CPU per request with that many keys in the database, `make bench-keys`.

For each number a database is written as `tollgate keys create` would (the digests are computed here), a gate is started with it in front of the mock worker, and requests come with keys drawn
from all of them, so that the table is met where it is cold, as well as with one key. The rounds of the numbers take turns. Beside it: time from start to the first accept, resident memory, the time from
`DELETE` to its answer, which comes when every loop has the change. Prints a Markdown table. Everything on core 0, as run.sh. TOLLGATE=FILE measures another binary. Needs wrk.
"""
import argparse
import hashlib
import hmac
import json
import os
import random
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
GATE = os.environ.get("TOLLGATE", str(ROOT / "build/tollgate"))
SECRET, ADMIN = b"bench-secret-0123456789abcdef0123", "bench-admin-0123456789abcdef"
LIVE = 20000  # keys that requests draw from, at most: a Lua table of a million would cost wrk more than it measures
TICK = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def key_of(i):
    return "tg_%016d_%s" % (i, hashlib.sha256(b"bench %d" % i).hexdigest()[:44])


def write_keys(folder, n):
    subprocess.run([GATE, "keys", "create", "first", "--permissions", "none"], cwd=folder, env={"TOLLGATE_SECRET": SECRET.decode()}, check=True, stdout=subprocess.DEVNULL)
    mac = hashlib.blake2b(SECRET, digest_size=32, key=b"tollgate key digests").digest()
    now = int(time.time())
    with sqlite3.connect(folder / "data/tollgate.db") as db:
        for i in range(n):
            db.execute("INSERT INTO api_keys VALUES (?, 'bench', 'read_models,run_inference,use_streaming', '{}', 'bench', ?, NULL, NULL, NULL)", ("key_%016d" % i, now))
            db.execute("INSERT INTO api_key_secrets VALUES (?, ?, 'tg_000000', ?, NULL)", (hmac.new(mac, key_of(i).encode(), hashlib.sha256).hexdigest(), "key_%016d" % i, now))


class Gate:
    def __init__(self, run, n, upstream):
        self.n, self.dir, self.port = n, run / str(n), free_port()
        self.dir.mkdir()
        (self.dir / "tollgate.toml").write_text(f'[server]\nlisten = ["127.0.0.1:{self.port}"]\nthreads = 1\n[limits]\napi = "off"\n[[model]]\nname = "mock"\nurls = ["http://127.0.0.1:{upstream}"]\n')
        write_keys(self.dir, n)
        rnd = random.Random(n)
        self.live = [key_of(rnd.randrange(n)) for _ in range(min(n, LIVE))]
        body = (HERE / "body.json").read_text().replace('"', '\\"').replace("\n", "")
        for name, keys in (("many", self.live), ("one", self.live[:1])):
            (self.dir / f"{name}.lua").write_text(
                "local keys = {" + ",".join(f'"{k}"' for k in keys) + "}\nlocal i = 0\n"
                'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\nwrk.body = "' + body + '"\n'
                'request = function()\n i = i % #keys + 1\n wrk.headers["Authorization"] = "Bearer " .. keys[i]\n return wrk.format(nil, "/v1/chat/completions")\nend\n')
        t = time.monotonic()
        self.proc = subprocess.Popen(["taskset", "-c", "0", GATE, "serve"], cwd=self.dir, stderr=open(self.dir / "err", "w"),
                                     env={"TOLLGATE_SECRET": SECRET.decode(), "INFERENCE_ADMIN_KEY": ADMIN})
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                break
            except OSError:
                time.sleep(0.001)
        self.start_ms = (time.monotonic() - t) * 1000
        self.many, self.one = [], []

    def cpu(self):
        f = Path(f"/proc/{self.proc.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(f[11]) + int(f[12])) / TICK

    def measure(self, which, conns, secs):
        before = self.cpu()
        out = subprocess.run(["taskset", "-c", "0", "wrk", "-t1", f"-c{conns}", f"-d{secs}s", "-s", str(self.dir / f"{which}.lua"), f"http://127.0.0.1:{self.port}"],
                             capture_output=True, text=True, check=True).stdout
        requests = int(next(line for line in out.splitlines() if "requests in" in line).split()[0])
        if "Non-2xx" in out:
            sys.exit(f"{self.n} keys: not every answer was good:\n{out}")
        getattr(self, which).append((self.cpu() - before) * 1e6 / requests)

    def revoke_ms(self):
        took = []
        for i in range(3):
            r = urllib.request.Request(f"http://127.0.0.1:{self.port}/api/v1/auth/api-keys/key_{i:016d}", method="DELETE", headers={"X-API-Key": ADMIN})
            t = time.monotonic()
            urllib.request.urlopen(r, timeout=60).read()
            took.append((time.monotonic() - t) * 1000)
        return statistics.median(took)

    def rss_mb(self):
        return next(int(line.split()[1]) for line in open(f"/proc/{self.proc.pid}/status") if line.startswith("VmRSS:")) / 1024

    def stop(self):
        self.proc.terminate()
        self.proc.wait()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("-k", default="10,10000,1000000")
    p.add_argument("-n", type=int, default=5)
    p.add_argument("-s", type=int, default=2)
    p.add_argument("-c", type=int, default=64)
    a = p.parse_args()
    with tempfile.TemporaryDirectory(prefix="tollgate-bench-") as t:
        run = Path(t)
        subprocess.run(["cc", "-std=gnu17", "-D_GNU_SOURCE", "-O2", "-o", run / "mock", HERE / "mock_upstream.c"], check=True)
        mock = subprocess.Popen([run / "mock", "-p", "0", "-c", "0"], stdout=open(run / "port", "w"), stderr=subprocess.DEVNULL)
        while not (run / "port").read_text().strip():
            time.sleep(0.05)
        gates = []
        try:
            for k in a.k.split(","):
                print(f"-- {k} keys", file=sys.stderr)
                gates.append(Gate(run, int(k), (run / "port").read_text().strip()))
            for r in range(a.n):
                print(f"-- round {r + 1} of {a.n}", file=sys.stderr)
                for g in gates:
                    g.measure("one", a.c, a.s)
                    g.measure("many", a.c, a.s)
            print("| keys | CPU us/request, one key | drawn from all | x the first row | start ms | RSS MiB | revoked everywhere after ms |\n|--:|--:|--:|--:|--:|--:|--:|")
            first = statistics.median(gates[0].many)
            for g in gates:
                m = statistics.median(g.many)
                print(f"| {g.n:,} | {statistics.median(g.one):.1f} | {m:.1f} ({min(g.many):.1f}-{max(g.many):.1f}) | {m / first:.2f} | {g.start_ms:.0f} | {g.rss_mb():.0f} | {g.revoke_ms():.0f} |")
        finally:
            for g in gates:
                g.stop()
            mock.terminate()
            mock.wait()


if __name__ == "__main__":
    main()
