#!/usr/bin/env python3
"""
What faults cost: the table of docs/reliability.md. `make reliability` runs this; two minutes.

    reliability.py [-r ROUNDS=10] [F1 F2 ... orphans reload]

Each row starts a gate with workers (processes of tests/lib/child_worker.py, or threads behind URLs), keeps it under load by clients that send one request after the
other, does the worst, and counts: what the clients saw, what the workers saw and what the log says are three sets of request ids that must agree. Times are
taken from the log's own time stamps.
"""
import argparse
import datetime
import json
import os
import platform
import signal
import statistics
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.gate import ADMIN, BINARY, Gate, model  # noqa: E402
from lib.misdeeds import MISDEEDS, resolver_shim  # noqa: E402
from lib.pool import Clients, all_up, ids_of, pool, processes, reconcile, running, started  # noqa: E402
from lib.raw import RawWorker, chat, exchange, until  # noqa: E402
from lib.worker import Worker  # noqa: E402

CLOSE = ("Connection", "close")
SERVED = {"queue": 1000, "queue_ms": 60000, "slots": 4}


@contextmanager
def gate(models, **kw):
    g = Gate(models=models, **kw)
    try:
        yield g
        g.stop()
    finally:
        g.kill()
        g.remove()


@contextmanager
def workers(n, **behaviour):
    made = [Worker().behave(**behaviour) for _ in range(n)]
    try:
        yield made
    finally:
        for w in made:
            w.close()


@contextmanager
def folder():
    with tempfile.TemporaryDirectory(prefix="tollgate-reliability-") as d:
        yield Path(d)


def stamp(record):
    return datetime.datetime.fromisoformat(record["ts"].replace("Z", "+00:00")).timestamp()


def after(g, when, event, worker=None, timeout=30):
    """Milliseconds from `when` (time.time()) to the first such event at or after it; the log's stamps are whole milliseconds."""
    def look():
        return [r for r in g.log() if r.get("event") == event and (worker is None or r["worker"] == worker) and stamp(r) >= when - 0.001]
    return max(0.0, (stamp(until(look, timeout, f"{event} of {worker}", step=0.02)[0]) - when) * 1000)


def ms(values):
    values = list(values)
    if not values:
        return ""
    return f"{statistics.median(values):.0f}" + (f" (at most {max(values):.0f})" if len(values) > 1 else "")


def p99(clients, since=0.0, to=float("inf")):
    times = sorted(s for rid, (_, _, _, s) in clients.got.items() if since <= clients.began[rid] < to)
    return times[int(len(times) * 0.99)] * 1000 if times else float("nan")


def tell(name, what, requests="", lost="", truncated="", out="", back="", note=""):
    print(f"| {name} | {what} | {requests} | {lost} | {truncated} | {out} | {back} | {note} |", flush=True)


def show(clients, lost, arrived, lines):
    for rid in lost:
        print(f"lost: client {clients.got[rid]}, workers {arrived.get(rid)}, log {lines[rid]}", file=sys.stderr)


def plain(g, text="hello", timeout=20, **kw):
    return exchange(g, chat(text, headers=[CLOSE], **kw), timeout=timeout)


def arrivals(ws):
    out = {}
    for i, w in enumerate(ws):
        for r in w.requests:
            out.setdefault(r.header("x-request-id"), []).append(i)
    return out


# ---------------------------------------------------------------------------------------------------------------------------------- the faults

def kill_under_load(name, rounds, stream):
    """One of four started workers after the other is killed, each a second after the last one was back."""
    behave = {"chunks": 20, "pace": 0.02} if stream else {"delay": 0.03}
    with folder() as d, gate([started("m", 4, ["--ids", d / "ids", "--behave", json.dumps(behave)], **SERVED)]) as g:
        all_up(g, "m", 4)
        clients = Clients(g, 12, stream=stream, text="{rid} " + "x" * 60 if stream else "{rid}")
        out, back, killed = [], [], set()
        for i in range(rounds):
            time.sleep(0.8)
            w = all_up(g, "m", 4)[i % 4]
            when = time.time()
            os.kill(w["pid"], signal.SIGKILL)
            killed.add(w["pid"])
            out.append(after(g, when, "worker.died", w["name"]))
            back.append(after(g, when, "worker.ready", w["name"]))
        time.sleep(0.5)
        clients.stop()
        arrived, ended = ids_of([d / "ids"])
        lines = reconcile(g, clients, arrived)
        lost = set(clients.bad) - clients.truncated
        show(clients, lost, arrived, lines)
        # Those that a killed worker had begun to answer, and only those, may be cut.
        on_it = {rid for rid, pids in arrived.items() if pids[-1] in killed and rid not in ended}
        assert clients.truncated <= on_it, clients.truncated - on_it
        assert all(lines[rid][0]["partial"] and lines[rid][0]["completion_tokens"] >= 0 for rid in clients.truncated)
        retried = sum(1 for x in lines.values() if x[0]["retries"])
        note = f"{retried} requests went on at another worker" if not stream else \
            f"{len(on_it)} streams had a worker die under them: each cut one ends with an error event and has its tokens in the log, {retried} had no byte yet and went on elsewhere"
        tell(name, f"SIGKILL of one of 4 started workers, {rounds} times, 12 clients, {'streams of 20 events' if stream else 'answers after 30 ms'}", len(clients.got), len(lost),
             len(clients.truncated), ms(out), ms(back), note)


def f1(rounds):
    kill_under_load("F1", rounds, False)
    with workers(4, delay=0.03) as ws, gate([model("m", *ws, **SERVED)]) as g:
        clients = Clients(g, 12)
        out, back = [], []
        for i in range(rounds):
            time.sleep(0.5)
            w = ws[i % 4]
            name = pool(g, "m")[i % 4]["name"]
            when = time.time()
            w.down()
            out.append(after(g, when, "worker.down", name))
            time.sleep(0.3)
            when = time.time()
            w.up()
            back.append(after(g, when, "worker.up", name))
        clients.stop()
        lines = reconcile(g, clients, arrivals(ws))
        show(clients, clients.bad, arrivals(ws), lines)
        tell("F1", f"one of 4 workers behind URLs drops every connection and its port, {rounds} times, 12 clients", len(clients.got), len(clients.bad), 0, ms(out), ms(back),
             f"{sum(1 for x in lines.values() if x[0]['retries'])} requests went on at another worker")


def f2(rounds):
    kill_under_load("F2", rounds, True)


def f3(rounds):
    """A process that is stopped: the port takes connections, nothing answers."""
    with folder() as d, gate([started("m", 4, ["--ids", d / "ids", "--behave", '{"delay": 0.03}'], first_byte_ms=1000, **SERVED)]) as g:
        ws = all_up(g, "m", 4)
        clients = Clients(g, 12, pause=0.02)
        out, back, calm, ill, lost = [], [], [], [], 0
        for i in range(max(1, rounds // 3)):
            time.sleep(1)
            t0 = time.monotonic()
            w, when = ws[i % 4], time.time()
            os.kill(w["pid"], signal.SIGSTOP)
            out.append(after(g, when, "worker.down", w["name"]))
            t1 = time.monotonic()
            time.sleep(3)
            calm.append(p99(clients, t0 - 1, t0 - 0.1))
            ill.append(p99(clients, t1, t1 + 2.5))
            when = time.time()
            os.kill(w["pid"], signal.SIGCONT)
            back.append(after(g, when, "worker.up", w["name"]))
        clients.stop()
        lines = reconcile(g, clients, ids_of([d / "ids"])[0])
        lost = [rid for rid, r in clients.bad.items() if r[0] != 504]
        timed_out = [rid for rid, r in clients.bad.items() if r[0] == 504]
        assert all(lines[rid][0]["reason"] == "first_byte_timeout" for rid in timed_out)
        tell("F3", f"SIGSTOP of one of 4 started workers for some seconds, {len(out)} times, 12 clients, first_byte_ms = 1000", len(clients.got), len(lost), 0, ms(out), ms(back),
             f"{len(timed_out)} requests that were with it got 504; p99 of the others {ms(ill)} ms, {ms(calm)} ms before")


def f4(rounds):
    with workers(3) as ws, gate([model("m", *ws, probe_ms=1000)]) as g:
        times, back, late = [], [], []
        c = g.client(ADMIN)
        for _ in range(rounds):
            until(lambda: plain(g).statuses == [200], 10, "an answer")
            for w in ws:
                w.down()
            first = plain(g)
            for _ in range(20):
                r = plain(g)
                assert r.statuses == [503] and r.answers[0].header("retry-after"), r.raw
                times.append(r.seconds * 1000)
            late.append(first.seconds * 1000)
            assert c.get("/livez").status_code == 200 and c.get("/health").json()["status"] != "healthy"
            when = time.time()
            for w in ws:
                w.up()
            back.append(after(g, when, "worker.up"))
        tell("F4", f"all 3 workers behind URLs are gone, {rounds} times", len(times) + rounds, 0, 0, f"503 after {ms(late)}, then {statistics.median(times):.1f}", ms(back),
             "with Retry-After; /health degraded, /livez as ever")


def f5(rounds):
    worst, refused = 0, 0
    for _ in range(max(1, rounds // 3)):
        with gate([started("m", 4, ["--poison", "poison"], **SERVED)]) as g:
            before = {w["pid"] for w in all_up(g, "m", 4)}
            for _ in range(10):
                r = plain(g, "poison")
                assert r.statuses == [502]
                refused += r.answers[0].json()["error"]["code"] == "request_ends_workers"
            worst = max(worst, len(before - {w["pid"] for w in all_up(g, "m", 4)}))
            assert plain(g, "wholesome").statuses == [200]
    tell("F5", f"a request that kills its worker, sent 10 times, {max(1, rounds // 3)} times", 10 * max(1, rounds // 3), 0, 0, "", "",
         f"at most {worst} workers lost; {refused} refused without one; others are answered meanwhile")


def f6(_):
    with workers(3, delay=0.02) as ws, gate([model("m", *ws)]) as g:
        clients = Clients(g, 9)
        time.sleep(2)

        def share():
            n = [len(w.requests) for w in ws]
            for w in ws:
                w.clear()
            return 100 * n[0] / sum(n)
        before = share()
        ws[0].behave(delay=0.4)
        time.sleep(0.5)
        share()
        time.sleep(3)
        slow = share()
        ws[0].behave(delay=0.02)
        time.sleep(0.5)
        share()
        time.sleep(2)
        again = share()
        clients.stop()
        tell("F6", "one of 3 workers takes 400 ms instead of 20, 9 clients", len(clients.got), len(clients.bad), 0, "", "",
             f"its share of the requests: {before:.0f} %, {slow:.0f} % while it is slow, {again:.0f} % afterwards")


def f7(rounds):
    leaked, asked, wrong = 0, 0, 0
    for script in MISDEEDS.values():
        with RawWorker(script) as w, gate([model("m", w.url, probe_ms=0, first_byte_ms=2000, idle_ms=2000)], toml={"server": {"threads": 1}}) as g:
            fds = Path(f"/proc/{g.pid}/fd")
            until(lambda: pool(g, "m")[0]["state"] == "up", 5, "the worker being up")
            plain(g)
            time.sleep(0.2)
            before = len(list(fds.iterdir()))
            for _ in range(rounds):
                r = plain(g)
                asked += 1
                wrong += not (r.statuses in ([502], [503]) or (r.statuses == [200] and not r.answers[0].whole))
            time.sleep(0.5)
            leaked += max(0, len(list(fds.iterdir())) - before)
    tell("F7", f"{len(MISDEEDS)} kinds of answers that no worker should give ({', '.join(MISDEEDS).replace('_', ' ')})", asked, wrong, "", "", "",
         f"502, 503 or visibly short; descriptors leaked: {leaked}")


def f8(_):
    with folder() as d, workers(2) as ws:
        told = d / "resolver"
        told.write_text("127.0.0.1\n")
        with gate([model("m", f"http://worker.test:{ws[0].port}"), model("other", ws[1])], env={"LD_PRELOAD": str(resolver_shim(d)), "RESOLVER_FILE": str(told)},
                  toml={"server": {"threads": 1}}) as g:
            assert plain(g).statuses == [200]
            slowest, n = 0.0, 0
            for words in ("fail\n", "sleep 5\n"):
                told.write_text(words)
                ws[0].down()
                plain(g)
                end = time.monotonic() + 6
                while time.monotonic() < end:
                    slowest = max(slowest, plain(g, model="other").seconds * 1000)
                    n += 1
                    time.sleep(0.005)
                ws[0].up()
                until(lambda: plain(g).statuses == [200], 10, "the last good address being used")
            tell("F8", "the resolver says NXDOMAIN, then takes 5 s, while the worker is down; one loop", n, 0, 0, "", "",
                 f"the slowest request for another model took {slowest:.1f} ms; the last good address is used when the worker is back")


def orphans(rounds):
    times, left = [], 0
    with folder() as d:
        mark = d / "mark"
        row = ["--pids", f"{mark}-{{model}}-{{index}}"]
        for n in range(rounds):
            g = Gate(models=[started("a", 1, row), started("b", 4, row + ["--escape"]), started("c", 1, row + ["--deaf"])])
            try:
                all_up(g, "b", 4)
                g.kill()
                start = time.monotonic()
                while processes(mark) and time.monotonic() < start + 10:
                    time.sleep(0.02)
                times.append((time.monotonic() - start) * 1000)
                for pid in processes(mark):
                    left += running(pid)
                    os.kill(pid, signal.SIGKILL)
            finally:
                g.remove()
    tell("gate", f"SIGKILL of the gate with 6 started workers, {rounds} times: one deaf to SIGTERM, four with a helper in a session of its own", "", "", "",
         "", f"all gone after {ms(times)}", f"orphans: {left}")


def reload(rounds):
    with folder() as d:
        def rows(n):
            return [started("m", n, ["--ids", d / "ids", "--behave", '{"delay": 0.01}'], **SERVED)]
        with gate(rows(2)) as g:
            all_up(g, "m", 2)
            clients = Clients(g, 8)
            for i in range(rounds):
                n = 1 + i * 2 % 5
                g.write_config(models=rows(n))
                g.reload()
                all_up(g, "m", n)
            clients.stop()
            reconcile(g, clients, ids_of([d / "ids"])[0])
            tell("reload", f"SIGHUP with another number of started workers (1 to 5), {rounds} times, 8 clients", len(clients.got), len(clients.bad), 0)


FAULTS = {"F1": f1, "F2": f2, "F3": f3, "F4": f4, "F5": f5, "F6": f6, "F7": f7, "F8": f8, "orphans": orphans, "reload": reload}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("-r", "--rounds", type=int, default=10)
    p.add_argument("faults", nargs="*", choices=[[], *FAULTS], default=[])
    a = p.parse_args()
    assert BINARY.exists(), f"{BINARY} is missing: make build"
    print(f"{platform.system()} {platform.release()}, {os.cpu_count()} cores\n\n| | what is done | requests | lost | streams cut | out after ms | back after ms | |\n|---|---|--:|--:|--:|--:|--:|---|")
    for f in a.faults or FAULTS:
        FAULTS[f](a.rounds)


if __name__ == "__main__":
    main()
