"""
tollgate-engine by itself, without a gate: a process, a client on its Unix socket, and a look at its processes and its spool.

    e = Engine(tmp_path)                # folders spool, models, datasets and the socket below it
    e.client                            # httpx.Client by the socket
    e.intake("train", job, body)        # POST /intake/...
    e.train(job, "linear_regression")   # lines of the answer, parsed
    e.stop()                            # SIGTERM; asserts exit 0 and no sanitizer report
"""
import json
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx

from lib.gate import BINARY, REPORT, START_S, clean_env

ENGINE = (BINARY.resolve().parent if BINARY.exists() else BINARY.parent) / "tollgate-engine"
TRAIN = {"columns": ["rainfall", "mean_temperature", "disease_cases"],
         "data": [[100.5, 25.3, 12], [85.2, 27.1, 8], [120.8, 24.5, 15], [95.3, 26.2, 10], [110.0, 26.0, 13], [75.5, 28.0, 6], [130.2, 23.8, 18], [88.9, 27.5, 9]]}
FUTURE = {"columns": ["rainfall", "mean_temperature"], "data": [[110.0, 26.0], [90.0, 28.0], [125.0, 24.0], [80.0, 29.0]]}
PREDICTED = [13.046377018145838, 8.628929113083778, 16.566732497622098, 6.420205160552747]
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def ulid(n):
    """The n-th id of a test."""
    out = ""
    for _ in range(16):
        out = ALPHABET[n % 32] + out
        n //= 32
    return "01KTEST000" + out


def parents():
    """pid -> (parent, state) of all processes."""
    out = {}
    for p in Path("/proc").iterdir():
        if p.name.isdigit():
            try:
                state, parent = (p / "stat").read_text().rpartition(")")[2].split()[:2]
                out[int(p.name)] = (int(parent), state)
            except (OSError, ValueError):
                pass
    return out


def children(pid):
    return [p for p, (parent, state) in parents().items() if parent == pid and state != "Z"]


def gone(pid):
    return parents().get(pid, (0, "Z"))[1] in "ZX"


def until(what, seconds=20.0, why="something"):
    end = time.monotonic() + seconds * (3 if START_S > 20 else 1)
    while time.monotonic() < end:
        got = what()
        if got:
            return got
        time.sleep(0.02)
    raise AssertionError(f"{why} did not come")


class Engine:
    def __init__(self, folder, *args, wait=True):
        self.dir = Path(folder)
        self.spool, self.models, self.datasets, self.socket = self.dir / "spool", self.dir / "models", self.dir / "datasets", self.dir / "s"
        self.stderr_file = open(self.dir / "stderr", "w+")
        self.proc = subprocess.Popen(self.command(*args), env=clean_env(), stdin=subprocess.DEVNULL, stdout=self.stderr_file, stderr=self.stderr_file)
        self.client = None
        if wait:
            until(lambda: "ready" in self.stderr() or self.proc.poll() is not None, why="the engine's start")
            assert self.proc.poll() is None, self.stderr()
            self.client = self.new_client()

    def command(self, *args):
        return [str(ENGINE), "--socket", str(self.socket), "--spool", str(self.spool), "--models", str(self.models), "--datasets", str(self.datasets), *args]

    def new_client(self):
        return httpx.Client(transport=httpx.HTTPTransport(uds=str(self.socket)), base_url="http://engine", timeout=120)

    def raw(self, data, timeout=10.0):
        """Bytes out, bytes back until the end."""
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(str(self.socket))
            s.settimeout(timeout)
            s.sendall(data)
            out = b""
            while piece := s.recv(65536):
                out += piece
            return out

    def stderr(self):
        return (self.dir / "stderr").read_text()

    # --- the protocol ----------------------------------------------------------------------------------------------------------
    def intake(self, kind, job, body, **params):
        return self.client.post(f"/intake/{kind}/{job}", params=params, **({"json": body} if isinstance(body, dict) else {"content": body}))

    def plan(self, job, method="linear_regression", target=None, **more):
        return {"job": job, "method": method, "target": target, "features": None, "seed": 42, "test_size": 0, "cv_folds": 0, "undersample": False, **more}

    def train(self, job, method="linear_regression", target=None, **more):
        r = self.client.post("/train", json=self.plan(job, method, target, **more))
        assert r.status_code == 200 and r.headers["content-type"] == "application/x-ndjson", r.text
        return [json.loads(line) for line in r.text.splitlines()]

    def model(self, job, name, *args, data=TRAIN, **more):
        """Trains with data and does what the gate does with the file: the result."""
        assert self.intake("train", job, {"data": data}).status_code == 200
        result = self.train(job, *args, **more)[-1]["result"]
        os.rename(self.spool / result["file"], self.models / name)
        return result

    def predict(self, job, name, sha256, client=None, **more):
        r = (client or self.client).post("/predict", json={"job": job, "model": name, "sha256": sha256, "as": "frame", "threshold": None, "include_probabilities": True, **more})
        assert r.status_code == 200, r.text
        return r.json()

    def left(self, job):
        return sorted(p.name for p in self.spool.iterdir() if p.name.startswith(job))

    # --- its processes ---------------------------------------------------------------------------------------------------------
    @property
    def zygote(self):
        [z] = children(self.proc.pid)
        return z

    def trainings(self):
        return children(self.zygote)

    def stop(self, sig=signal.SIGTERM, expect=0):
        if self.proc is None:
            return
        if self.client:
            self.client.close()
        if self.proc.poll() is None:
            os.kill(self.proc.pid, sig)
        try:
            rc = self.proc.wait(30)
        except subprocess.TimeoutExpired:
            self.proc.kill()
            self.proc.wait()
            raise AssertionError(f"the engine did not end: {self.stderr()}") from None
        finally:
            self.proc = None
            self.stderr_file.close()
        assert not REPORT.search(self.stderr()), self.stderr()
        assert re.search("ready", self.stderr()) is None or rc == expect, f"exit status {rc}: {self.stderr()}"


def long_data(rows=10000, columns=12):
    """Numbers that take a forest many seconds; the last column is the target."""
    x, out = 12345, []
    for _ in range(rows):
        row = []
        for _ in range(columns):
            x = (1103515245 * x + 12345) % 2**31
            row.append(x % 1000)
        out.append([*row, int(sum(row[:3]) + row[-1] > 2000)])
    return {"columns": [f"c{i}" for i in range(columns)] + ["y"], "data": out}
