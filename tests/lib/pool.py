"""
Workers that the gate starts, and what becomes of requests when workers die: helpers for the suites of the pool.

    started(name, workers=1, child=[...], **options)   a [[model]] row whose command is lib/child_worker.py with these arguments
    status(g), pool(g, name)                            /status as it is now; one model's workers
    all_up(g, name, n)                                  waits until n workers of a model are up, returns them
    zombies(pid)                                        children of a process that it has not reaped
    processes(mark)                                     pids of every process that has `mark` in its environment or command line
    Clients(g, n, ...)                                  n threads that send chat requests one after the other; what each got, by request id
    reconcile(g, clients, ids)                          the three sets of ids: clients', workers', the log's
"""
import json
import os
import sys
import threading
import time
from pathlib import Path

from .gate import ADMIN, READ
from .raw import CHAT, SLOW, Stream, chat, exchange, until

CHILD = Path(__file__).resolve().parent / "child_worker.py"


def started(name, workers=1, child=(), place="{port}", **options):
    return {"name": name, "workers": workers, "command": [sys.executable, str(CHILD), *(["--socket", "{socket}"] if place == "{socket}" else [place]), *map(str, child)], **options}


def status(g):
    r = g.client(ADMIN).get("/status")
    assert r.status_code == 200, r.text
    return r.json()


def pool(g, name):
    return status(g)["model_pools"][name]


def all_up(g, name, n=1, timeout=15):
    def look():
        got = [w for w in pool(g, name) if w["state"] == "up"]
        return got if len(got) == n else None
    return until(look, timeout * SLOW, f"{n} workers of {name} being up", step=0.05)


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def zombies(parent):
    """Children of a process that have ended and that it has not reaped."""
    out = []
    for p in Path("/proc").iterdir():
        if p.name.isdigit():
            try:
                fields = (p / "stat").read_text(errors="replace").rsplit(")", 1)[1].split()
            except OSError:
                continue
            if fields[0] == "Z" and int(fields[1]) == parent:
                out.append(int(p.name))
    return out


def gone(pids, timeout=8):
    until(lambda: not any(running(p) for p in pids), timeout * SLOW, f"processes {[p for p in pids if running(p)]} ending")


def processes(mark):
    """Living processes that were started with `mark` in their arguments or environment: what a gate could leave behind."""
    out, word = [], os.fsencode(str(mark))
    for p in Path("/proc").iterdir():
        if not p.name.isdigit() or int(p.name) == os.getpid():
            continue
        try:
            if (word in (p / "cmdline").read_bytes() or word in (p / "environ").read_bytes()) and running(int(p.name)):
                out.append(int(p.name))
        except OSError:
            pass
    return out


class Clients:
    """
    Each thread sends one request after the other on connections of its own until stop(). got: rid -> (status, whole, text, seconds); text None for an error body.
    good: answered whole; truncated: a stream that had begun and ended with an error event, as it should when its worker dies; bad: all that is not good.
    """

    def __init__(self, g, n=4, model="m", stream=False, key=READ, text="{rid}", timeout=30, pause=0.0, prefix="c", max_requests=None):
        self.g, self.model, self.stream, self.key, self.text, self.timeout, self.pause = g, model, stream, key, text, timeout, pause
        self.prefix, self.max_requests = prefix, max_requests
        self.got, self.began, self.truncated, self.lock, self._stop = {}, {}, set(), threading.Lock(), threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(i,), daemon=True) for i in range(n)]
        for t in self.threads:
            t.start()

    def _one(self, rid):
        text = self.text.format(rid=rid)
        headers = [("X-Request-ID", rid), ("Connection", "close")]
        start = time.monotonic()
        if self.stream:
            with Stream(self.g, data=chat(text, key=self.key, headers=headers, model=self.model, stream=True), timeout=self.timeout * SLOW) as s:
                events = s.head().rest()
                whole = s.whole and bool(events) and events[-1] == b"data: [DONE]"
                if s.status == 200 and events and events[-1].startswith(b'data: {"error"') and b"[DONE]" not in b"".join(events):
                    self.truncated.add(rid)
                parts = [json.loads(e[6:]) for e in events if e.startswith(b"data: {")]
                told = "".join(c["choices"][0]["delta"].get("content", "") for c in parts if c.get("choices")) if s.status == 200 else None
                return s.status, whole and not any("error" in c for c in parts), told, time.monotonic() - start
        r = exchange(self.g, chat(text, key=self.key, headers=headers, model=self.model), timeout=self.timeout * SLOW)
        if not r.answers:
            return None, False, None, time.monotonic() - start
        a = r.answers[0]
        told = a.json()["choices"][0]["message"]["content"] if a.status == 200 and a.whole else None
        return a.status, a.whole, told, time.monotonic() - start

    def _run(self, i):
        n = 0
        while not self._stop.is_set() and (self.max_requests is None or n < self.max_requests):
            rid = f"{self.prefix}{i}-{n}"
            n += 1
            with self.lock:
                self.began[rid] = time.monotonic()
            try:
                result = self._one(rid)
            except (OSError, AssertionError) as e:
                result = (None, False, repr(e), time.monotonic() - self.began[rid])
            with self.lock:
                self.got[rid] = result
            if self.pause:
                time.sleep(self.pause)

    def stop(self):
        self._stop.set()
        return self.join()

    def join(self):
        for t in self.threads:
            t.join(60 * SLOW)
            assert not t.is_alive(), "a client hangs"
        return self

    @property
    def good(self):
        return {rid for rid, (st, whole, told, _) in self.got.items() if st == 200 and whole and told == self.text.format(rid=rid)}

    @property
    def bad(self):
        return {rid: r for rid, r in self.got.items() if rid not in self.good}


def ids_of(files):
    """What started workers wrote down: (arrivals by rid, answered by rid), each a list of pids."""
    arrived, ended = {}, {}
    for f in files:
        for line in Path(f).read_text().splitlines() if Path(f).exists() else []:
            r = json.loads(line)
            (arrived if r["what"] == "arrived" else ended).setdefault(r["rid"], []).append(r["pid"])
    return arrived, ended


def reconcile(g, clients, arrived, at_most=2):
    """Every request of the clients has exactly one line in the log, with what the client saw; no request reached workers more than twice, and none that was answered
    was answered by nobody. arrived: rid -> list of workers it reached."""
    lines = {}
    for r in g.requests(0.3):
        if r["endpoint"] == CHAT:
            lines.setdefault(r["request_id"], []).append(r)
    for rid, (st, whole, told, _) in clients.got.items():
        assert len(lines.get(rid, [])) == 1, (rid, st, lines.get(rid))
        rec = lines[rid][0]
        if st is not None:
            assert rec["status"] == st, (rid, st, rec)
        assert len(arrived.get(rid, [])) <= at_most, (rid, arrived[rid])
        if st == 200 and whole:
            assert arrived.get(rid), f"{rid} was answered by nobody"
            assert not rec["partial"], rec
    unknown = {r for r in arrived if r not in clients.got}
    assert not unknown, f"workers saw requests that no client sent: {unknown}"
    return lines


__all__ = ["CHILD", "Clients", "all_up", "gone", "ids_of", "pool", "processes", "reconcile", "running", "started", "status", "zombies"]
