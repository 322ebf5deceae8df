"""
Which workers are trusted: what requests meet counts first. Workers that fail, hang, shut their door, answer rubbish or are merely slow, beside good ones; requests that fail
everywhere; the way back. And that a sick worker holds up nobody but those who were with it.
"""
import json
import os
import re
import socket
import threading
import time
from pathlib import Path

import pytest

from lib.gate import ADMIN, model
from lib.misdeeds import MISDEEDS, endless_event, resolver_shim, two_answers
from lib.pool import Clients, all_up, pool, reconcile, started, status
from lib.raw import CHAT, GOOD_ANSWER, SLOW, RawWorker, Stream, chat, exchange, rss_kb, until

CLOSE = ("Connection", "close")


def plain(g, text="hello", timeout=20, **kw):
    return exchange(g, chat(text, headers=[CLOSE], **kw), timeout=timeout * SLOW)


def state(g, worker, name="m"):
    return next(w["state"] for w in pool(g, name) if w["worker_id"] == worker)


def is_state(g, worker, want, timeout=10, name="m"):
    until(lambda: state(g, worker, name) == want, timeout * SLOW, f"worker {worker} being {want}")


def arrivals(*workers):
    out = {}
    for i, w in enumerate(workers):
        for r in w.requests:
            out.setdefault(r.header("x-request-id"), []).append(i)
    return out


def metric(g, line):
    text = g.client(ADMIN).get("/metrics").text
    got = re.search(rf"^{re.escape(line)} ([0-9.]+)$", text, re.M)
    return float(got.group(1)) if got else 0.0


# ------------------------------------------------------------------------------------------------ failures are weighed

@pytest.mark.parametrize("how", [dict(status=500), dict(status=503), dict(raw=b"rubbish\r\n\r\n"), dict(cut_head=True)], ids=["500", "503", "rubbish", "cut_head"])
def test_a_worker_that_fails_everything_is_out_within_seconds(gate, worker, how):
    """Its port is open and its health check is fine; what counts is that it fails what it is asked. And it fails fast, which makes it look least busy."""
    bad, good = worker().behave(**how), [worker(), worker()]
    g = gate(models=[model("m", bad, *good)])
    start = time.monotonic()
    while state(g, 0) != "down":
        assert time.monotonic() - start < 10 * SLOW, "it was never taken out"
        plain(g)
    failed = len(bad.requests)
    assert failed <= 12, f"{failed} requests were given to it"
    # From now on nobody meets it, but for one request at a time that tries whether it is back: and that is answered by another where it fails with a status.
    results = [plain(g, f"after {i}").statuses for i in range(30)]
    if "status" in how:
        assert results == [[200]] * 30
    else:
        assert results.count([200]) >= 28
    assert metric(g, 'tollgate_worker_ejections_total{model="m",worker="m/0"}') == 1


def test_half_open_one_request_brings_it_back(gate, worker):
    """After its time away one real request decides; a probe alone does not, since the health check was fine all along."""
    bad, good = worker().behave(status=500), worker()
    g = gate(models=[model("m", bad, good)])
    until(lambda: plain(g) and state(g, 0) == "down", 10 * SLOW, "it being taken out")
    before = len(bad.requests)
    time.sleep(2.2)  # it is probed meanwhile, and answers its probes
    assert state(g, 0) == "down" and len(bad.requests) == before
    # Trials, while it is still sick: one at a time, and no caller sees them.
    assert [plain(g).statuses for _ in range(10)] == [[200]] * 10
    assert len(bad.requests) == before + 1
    bad.behave()
    until(lambda: plain(g).statuses == [200] and state(g, 0) == "up", 15 * SLOW, "it being back", step=0.1)
    assert [plain(g).statuses for _ in range(5)] == [[200]] * 5


def test_requests_that_fail_everywhere_take_nobody_out(gate, worker):
    """A caller with prompts that every worker fails raises everybody's share alike: it cannot take the model from others."""
    ws = [worker().behave(by=lambda r: {"status": 500} if b"poison" in r.body else {}) for _ in range(3)]
    g = gate(models=[model("m", *ws)])
    for i in range(60):
        assert plain(g, "poison").statuses == [500]
        if i % 4 == 0:
            assert plain(g, "fine").statuses == [200]
    assert [state(g, i) for i in range(3)] == ["up"] * 3


def test_the_last_one_is_never_taken_out_for_its_failures(gate, worker):
    """There is nothing better to turn to: its answers pass as they are."""
    w = worker().behave(status=500)
    g = gate(models=[model("m", w)])
    for _ in range(20):
        r = plain(g)
        assert r.statuses == [500] and r.answers[0].json()["error"]["message"] == "the worker says no"
    assert state(g, 0) == "up"


def test_clients_that_leave_say_nothing_about_a_worker(gate, worker):
    a, b = worker().behave(delay=5), worker()
    g = gate(models=[model("m", a, b)], toml={"server": {"threads": 1}})
    for _ in range(8):
        s = Stream(g, "x")
        time.sleep(0.05)
        s.vanish()
    a.behave()
    assert [state(g, i) for i in range(2)] == ["up", "up"]
    assert sum(w["errors"] for w in pool(g, "m")) == 0


def test_it_begins_gently_when_it_is_back(gate, worker):
    """A worker that has just come back is preferred by nobody at first: under load it gets less than its share."""
    a, b = worker().behave(delay=0.02), worker().behave(delay=0.02)
    g = gate(models=[model("m", a, b, slots=8)])
    a.down()
    until(lambda: plain(g) and state(g, 0) == "down", 5 * SLOW, "it being down")
    clients = Clients(g, 8)
    time.sleep(0.2)
    a.up()
    is_state(g, 0, "up")
    a.clear(), b.clear()
    time.sleep(1.0)
    early = len(a.requests) / max(1, len(a.requests) + len(b.requests))
    clients.stop()
    assert not clients.bad
    assert early < 0.42, f"it got {early:.0%} in its first second"
    # It is used all the same when it is the only one with a free slot.
    b.behave(delay=3)
    a.clear()
    streams = [Stream(g, f"s{i}", stream=False, timeout=20 * SLOW) for i in range(14)]
    until(lambda: len(a.requests) >= 6, 2 * SLOW, "the worker that is back being used")
    for s in streams:
        assert s.head().status == 200
        s.close()


# ------------------------------------------------------------------------------------------------ F3: hanging

def test_a_hung_worker_is_out_after_its_first_timeout(gate, worker):
    """F3, a process that is stopped: its port takes connections, nothing answers. The first request that times out makes it doubtful, its silent health check puts it out; the
    next ones are answered by others at once. When it goes on, it is used again."""
    g = gate(models=[started("m", 2, first_byte_ms=500 * SLOW)])
    ws = all_up(g, "m", 2)
    os.kill(ws[0]["pid"], 19)
    try:
        results, start = [], time.monotonic()
        while state(g, 0) != "down":
            assert time.monotonic() - start < 20 * SLOW, "it was never taken out"
            results.append(plain(g).statuses)
        assert results.count([504]) <= 3 and [200] in results
        rec = g.wait_log(lambda r: r["reason"] == "first_byte_timeout")
        assert rec["status"] == 504
        for _ in range(10):
            r = plain(g)
            assert r.statuses == [200] and r.seconds < 0.4 * SLOW
    finally:
        os.kill(ws[0]["pid"], 18)
    until(lambda: plain(g).statuses == [200] and state(g, 0) == "up", 15 * SLOW, "it being used again", step=0.1)
    assert [w["pid"] for w in pool(g, "m")] == [w["pid"] for w in ws], "it was started again although it had only slept"
    assert metric(g, 'tollgate_timeouts_total{model="m",clock="first_byte"}') >= 1


def test_a_hung_worker_holds_up_nobody_else(gate, worker):
    """All its slots hang; another worker of the same model, and another model, go on as if nothing were."""
    hung, good, other = worker().behave(hang=True), worker(), worker()
    g = gate(models=[model("m", hung, good, slots=2), model("n", other, slots=2)], toml={"server": {"threads": 1}})
    held = []
    for session in "abcdefgh":  # one whose first request meets the one that hangs stays with it
        headers = [("X-Session-ID", session)]
        held.append(Stream(g, data=chat("held", headers=headers), timeout=30 * SLOW))
        time.sleep(0.1)
        if hung.requests:
            held.append(Stream(g, data=chat("held", headers=headers), timeout=30 * SLOW))
            break
    until(lambda: len(hung.requests) == 2, 5 * SLOW, "all its slots hanging")
    start = time.monotonic()
    assert [plain(g, f"m{i}").statuses for i in range(20)] == [[200]] * 20
    assert [plain(g, f"n{i}", model="n").statuses for i in range(20)] == [[200]] * 20
    assert time.monotonic() - start < 5 * SLOW
    for s in held:
        s.close()


def test_an_idle_worker_that_hangs_is_found_without_a_request(gate):
    """Its probes are not answered; nobody had to wait for it first."""
    g = gate(models=[started("m", 2, probe_ms=500)])
    ws = all_up(g, "m", 2)
    os.kill(ws[1]["pid"], 19)
    try:
        is_state(g, 1, "down", 10)
        assert [plain(g).statuses for _ in range(6)] == [[200]] * 6
    finally:
        os.kill(ws[1]["pid"], 18)
    is_state(g, 1, "up")


def test_a_busy_worker_of_one_thread_is_not_taken_for_dead(gate):
    """While it works it cannot answer its health check: that is no reason to take it out."""
    done = threading.Event()

    def one_thing_at_a_time(listener):
        while not done.is_set():
            try:
                s, _ = listener.accept()
            except OSError:
                return
            with s:
                got = s.recv(65536)
                if got.startswith(b"POST"):
                    time.sleep(4)
                    s.sendall(GOOD_ANSWER.replace(b"Content-Type", b"Connection: close\r\nContent-Type"))
                elif got:
                    s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(16)
    threading.Thread(target=one_thing_at_a_time, args=(listener,), daemon=True).start()
    try:
        g = gate(models=[model("m", "http://127.0.0.1:%d" % listener.getsockname()[1], slots=1, probe_ms=200)])
        is_state(g, 0, "up")
        seen = set()
        t = threading.Thread(target=lambda: [seen.add(state(g, 0)) or time.sleep(0.1) for _ in range(38)])
        t.start()
        assert plain(g).statuses == [200]
        t.join()
        assert seen == {"up"}
    finally:
        done.set()
        listener.close()


# ------------------------------------------------------------------------------------------------ F4: nobody is there

def test_all_down_is_said_at_once(gate, worker):
    """F4: 503 with Retry-After in milliseconds, health degraded, liveness as ever; and back by itself."""
    ws = [worker(), worker()]
    g = gate(models=[model("m", *ws)])
    assert plain(g).statuses == [200]
    for w in ws:
        w.down()
    until(lambda: all(state(g, i) == "down" for i in range(2)) or not plain(g), 10 * SLOW, "both being down")
    for _ in range(5):
        r = plain(g)
        assert r.statuses == [503] and int(r.answers[0].header("retry-after")) >= 1 and r.seconds < 0.3 * SLOW
    c = g.client()
    assert c.get("/health").json()["status"] == "degraded" and c.get("/health").status_code == 200 and c.get("/livez").status_code == 200
    ws[0].up()
    until(lambda: plain(g).statuses == [200], 5 * SLOW, "the worker being used again")


# ------------------------------------------------------------------------------------------------ F6: slow

def test_a_slow_worker_gets_less(gate, worker):
    """F6: one of three becomes twenty times as slow; what it takes less goes to the others."""
    slow, fast = worker().behave(delay=0.02), [worker().behave(delay=0.02) for _ in range(2)]
    g = gate(models=[model("m", slow, *fast)])
    clients = Clients(g, 9, prefix="f6")
    time.sleep(1.0 * SLOW)
    before = len(slow.requests) / max(1, sum(len(w.requests) for w in (slow, *fast)))
    slow.behave(delay=0.4 * SLOW)
    time.sleep(0.5)
    for w in (slow, *fast):
        w.clear()
    time.sleep(1.5 * SLOW)
    after = len(slow.requests) / max(1, sum(len(w.requests) for w in (slow, *fast)))
    clients.stop()
    assert not clients.bad
    assert before > 0.2 and after < before / 2, (before, after)
    assert [state(g, i) for i in range(3)] == ["up"] * 3, "slow is not sick"


# ------------------------------------------------------------------------------------------------ F7: what no worker should do

def fds(g):
    return len(list(Path(f"/proc/{g.pid}/fd").iterdir()))


@pytest.mark.parametrize("misdeed", MISDEEDS.values(), ids=MISDEEDS.keys())
def test_misdeeds(gate, misdeed):
    """The client gets a 502 (or an answer that is visibly short), no descriptor and no memory stays."""
    with RawWorker(misdeed) as w:
        g = gate(models=[model("m", w.url, probe_ms=0, first_byte_ms=3000 * SLOW, idle_ms=3000 * SLOW)], toml={"server": {"threads": 1}})
        is_state(g, 0, "up")
        plain(g)
        time.sleep(0.2)
        before, memory = fds(g), rss_kb(g.pid)
        for _ in range(5):
            r = exchange(g, chat(headers=[CLOSE]), timeout=10 * SLOW)
            assert r.closed
            assert r.statuses in ([502], [503]) or (r.statuses == [200] and not r.answers[0].whole), (r.statuses, r.raw[:200])
        until(lambda: fds(g) <= before + 1, 10 * SLOW, "descriptors coming back")
        if SLOW == 1:
            assert rss_kb(g.pid) - memory < 2048, "memory grew"


@pytest.mark.parametrize("name", ["rubbish", "tls_hello"])
def test_after_rubbish_the_connection_is_closed(gate, name):
    """The worker would go on with it: the gate does not, and says so at once."""
    def stays(c):
        MISDEEDS[name](c)
        c.wait_closed(10 * SLOW)
    with RawWorker(stays) as w:
        g = gate(models=[model("m", w.url, probe_ms=0)], toml={"server": {"threads": 1}})
        is_state(g, 0, "up")
        for _ in range(3):
            assert plain(g).statuses == [502]
        met = [c for c in w.connections if c.number]  # the first one was the probe's
        assert len(met) >= 3
        until(lambda: all(c.closed_at for c in met), 3 * SLOW, "the gate closing them")
        assert not any(b"POST" in c.buf for c in met), "a connection was used again"


def test_more_than_one_answer_spoils_the_connection(gate):
    with RawWorker(two_answers) as w:
        g = gate(models=[model("m", w.url, probe_ms=0)], toml={"server": {"threads": 1}})
        for _ in range(4):
            assert plain(g).statuses == [200]
        assert len([c for c in w.connections]) >= 4


@pytest.mark.release_only
def test_a_stream_without_end(gate):
    """An event that never ends and a worker that never stops: passed on with back-pressure, the gate holds next to nothing of it, and the total clock ends it."""
    with RawWorker(endless_event) as w:
        g = gate(models=[model("m", w.url, total_ms=2000)], toml={"server": {"threads": 1}})
        is_state(g, 0, "up")
        memory = rss_kb(g.pid)
        with g.connect(timeout=20) as s:
            s.sendall(chat(stream=True))
            got, peak, start = 0, 0, time.monotonic()
            while data := s.recv(1 << 20):
                got += len(data)
                peak = max(peak, rss_kb(g.pid))
        assert time.monotonic() - start < 6 and got > 10 << 20
        assert peak - memory < 6144, f"{peak - memory} KiB for one stream"
        assert g.wait_log(lambda r: r["reason"] == "total_timeout")["partial"] is True


def test_a_worker_that_never_reads(gate):
    """A request larger than any socket buffer, and a worker that takes none of it: the first-byte clock ends it, and the memory comes back."""
    def never(c):
        c.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        head = c.s.recv(4)
        if head == b"GET ":
            c.s.recv(4096)
            c.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        time.sleep(30)
    with RawWorker(never) as w:
        g = gate(models=[model("m", w.url, first_byte_ms=700 * SLOW, probe_ms=0)], toml={"server": {"threads": 1, "max_body_bytes": 16 << 20}})
        is_state(g, 0, "up")
        r = exchange(g, chat("x" * (9 << 20), headers=[CLOSE]), timeout=15 * SLOW)
        assert r.statuses == [504] and r.answers[0].json()["error"]["code"] == "first_byte_timeout"
        assert r.seconds < 5 * SLOW


def test_says_200_and_hangs(gate, worker):
    """A head and then nothing: the idle clock cuts it, and a worker that does so all the time is taken out."""
    bad, good = worker().behave(hang_after=0), worker()
    g = gate(models=[model("m", bad, good, idle_ms=300 * SLOW)], toml={"server": {"threads": 1}})
    start = time.monotonic()
    while state(g, 0) != "down":
        assert time.monotonic() - start < 20 * SLOW
        with Stream(g, "x", timeout=10 * SLOW) as s:
            s.head().rest()
    assert len(bad.requests) <= 8
    assert metric(g, 'tollgate_timeouts_total{model="m",clock="idle"}') >= 3
    assert [plain(g).statuses for _ in range(10)].count([200]) >= 9


# ------------------------------------------------------------------------------------------------ F8: names

@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    return resolver_shim(tmp_path_factory.mktemp("shim"))


@pytest.mark.release_only  # a sanitizer's runtime must come first
def test_names(gate, worker, shim, tmp_path):
    """F8: a name is looked up; when the resolver fails or sleeps the last good address stays and the loops do not notice; a new address is taken when there is one."""
    a, b = worker(), worker()
    port = a.port
    b.down()
    b.host, b.port = "127.0.0.3", port
    b.up()
    told = tmp_path / "resolver"
    told.write_text("127.0.0.1\n")
    g = gate(models=[model("m", f"http://worker.test:{port}"), model("other", worker())], env={"LD_PRELOAD": str(shim), "RESOLVER_FILE": str(told)}, toml={"server": {"threads": 1}})
    assert plain(g).statuses == [200] and len(a.requests) == 1
    # The resolver fails, then hangs, while the worker is down and asked for again and again: no request of the other model is held up.
    for words in ("fail\n", "sleep 5\n"):
        told.write_text(words)
        a.down()
        until(lambda: state(g, 0) == "down" or not plain(g), 10, "it being down")
        slowest = max(plain(g, model="other").seconds for _ in range(60) if not time.sleep(0.02))
        assert slowest < 0.25, f"a request of another model took {slowest:.3f} s"
        a.up()
        until(lambda: plain(g).statuses == [200], 10, "the last good address being used")
    assert any(r["event"] == "worker.unresolved" and r["last_address_kept"] is True for r in g.log())
    # Another address, where the old one is dead.
    told.write_text("127.0.0.3\n")
    a.down()
    until(lambda: plain(g).statuses == [200], 15, "the new address being used", step=0.1)
    assert b.requests


@pytest.mark.release_only
def test_a_slow_resolver_does_not_hold_up_the_start(gate, worker, shim, tmp_path):
    told = tmp_path / "resolver"
    told.write_text("sleep 20\n")
    start = time.monotonic()
    g = gate(models=[model("m", "http://worker.test:80"), model("n", worker())], env={"LD_PRELOAD": str(shim), "RESOLVER_FILE": str(told)})
    assert time.monotonic() - start < 8
    assert plain(g, model="n").statuses == [200]
    r = plain(g)
    assert r.statuses == [503]
    start = time.monotonic()
    g.stop()
    assert time.monotonic() - start < 5, "the end waited for the resolver"


# ------------------------------------------------------------------------------------------------ many, and clocks

def test_more_workers_than_are_looked_at(gate, worker):
    """Twenty workers (of two choices): everybody gets some, nobody gets much more than others, a dead one nothing."""
    ws = [worker().behave(delay=0.01) for _ in range(20)]
    g = gate(models=[model("m", *ws, slots=2)])
    ws[7].down()
    until(lambda: plain(g) and state(g, 7) == "down", 10 * SLOW, "the dead one being known")
    for w in ws:
        w.clear()
    clients = Clients(g, 16, max_requests=25, prefix="p2c")
    clients.join()
    assert not clients.bad
    counts = [len(w.requests) for w in ws]
    assert counts[7] == 0 and min(c for i, c in enumerate(counts) if i != 7) >= 5 and max(counts) <= 60, counts
    assert max(w.max_running for w in ws) <= 2


def test_each_clock_has_its_own_error_and_its_own_count(gate, worker):
    ms = 300 * SLOW
    first, idle, total = worker().behave(hang=True), worker().behave(hang_after=1), worker().behave(chunks=200, pace=0.05)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    fill = [socket.socket() for _ in range(4)]
    for s in fill:
        s.setblocking(False)
        s.connect_ex(listener.getsockname())
    try:
        g = gate(models=[model("first", first, first_byte_ms=ms), model("idle", idle, idle_ms=ms), model("total", total, total_ms=2 * ms),
                         model("connect", "http://127.0.0.1:%d" % listener.getsockname()[1], connect_ms=ms)])
        for name, status_, code in (("first", 504, "first_byte_timeout"), ("connect", 503, "connect_timeout")):
            r = plain(g, model=name)
            assert r.statuses == [status_] and r.answers[0].json()["error"]["code"] == code, (name, r.raw[:300])
        for name, code in (("idle", "idle_timeout"), ("total", "total_timeout")):
            with Stream(g, "xyz", model=name, timeout=20 * SLOW) as s:
                events = s.head().rest()
            assert json.loads(events[-1][6:])["error"]["code"] == code
        for name, clock in (("first", "first_byte"), ("connect", "connect"), ("idle", "idle"), ("total", "total")):
            assert metric(g, f'tollgate_timeouts_total{{model="{name}",clock="{clock}"}}') >= 1, name
            assert g.wait_log(lambda r, n=name: r["model"] == n)["reason"] == f"{clock}_timeout"
    finally:
        for s in (*fill, listener):
            s.close()


def test_a_dead_worker_among_four_costs_no_request(gate, worker):
    """F1 with a worker behind a URL: killed under load; what it had in hand goes on at another, what comes later never meets it."""
    ws = [worker().behave(delay=0.01) for _ in range(4)]
    g = gate(models=[model("m", *ws, slots=4, queue=1000)])
    clients = Clients(g, 12, prefix="f1")
    time.sleep(0.4)
    ws[2].down()
    until(lambda: state(g, 2) == "down", 10 * SLOW, "the dead one being met")
    time.sleep(0.3 * SLOW)
    clients.stop()
    assert not clients.bad, dict(list(clients.bad.items())[:5])
    reconcile(g, clients, arrivals(*ws))


def test_a_request_whose_worker_died_waits_for_another_with_a_slot(gate, worker):
    """All slots of the others are taken: it is not refused, it goes to the head of the queue, and not to the one that has just dropped it."""
    drops, busy = worker().once(delay=0.3 * SLOW, drop=True), worker().behave(delay=1.0 * SLOW)
    g = gate(models=[model("m", drops, busy, slots=1, queue=8, queue_ms=20000 * SLOW)], toml={"server": {"threads": 1}})
    streams = []
    for text in ("one", "two"):
        streams.append(Stream(g, text, stream=False, timeout=30 * SLOW))
        time.sleep(0.05)
    until(lambda: drops.requests and busy.requests, 5 * SLOW, "both being at work")
    until(lambda: status(g)["models"][0]["queue_length"] == 1, 5 * SLOW, "the dropped one waiting")
    for s in streams:
        assert s.head().status == 200
        s.close()
    assert len(drops.requests) == 1 and len(busy.requests) == 2
    recs = [r for r in g.requests(0.3) if r["endpoint"] == CHAT]
    assert [r["status"] for r in recs] == [200, 200] and sum(r["retries"] for r in recs) == 1
