"""
The way between client and worker when something goes wrong, and when nothing does: who leaves, in which phase, what the other side sees, what is logged,
and that no slot, connection or memory stays behind.
"""
import hashlib
import json
import re
import socket
import threading
import time

import pytest

from lib.gate import ADMIN, READ, free_port, has_ipv6, model
from lib.raw import (CHAT, GOOD_ANSWER, SLOW, SSE_HEAD, Gone, RawWorker, Stream, chat, chat_body, exchange, rss_kb, sse_event, until)
from lib.wire import answers, request, sse

SOON = 0.1 * SLOW  # F25: the worker is free again that soon after its client left


def gauges(g):
    """Gauges of /metrics that must be zero when nothing goes on (the request that reads them is in flight itself)."""
    text = g.client(ADMIN).get("/metrics").text
    got = {name: float(value) for name, value in re.findall(r"^(tollgate_requests_in_flight|tollgate_streams|tollgate_requests_queued) (\S+)$", text, re.M)}
    assert len(got) == 3, text[:2000]
    got["slots"] = sum(float(v) for v in re.findall(r"^tollgate_worker_slots_in_use\{[^}]*\} (\S+)$", text, re.M))
    got["tollgate_requests_in_flight"] -= 1
    return got


def all_free(g):
    until(lambda: not any(gauges(g).values()), 3 * SLOW, "everything coming back to zero")


def plain(g, text="hello", **kw):
    return exchange(g, chat(text, headers=[("Connection", "close")], **kw), timeout=10 * SLOW)


def in_threads(jobs):
    """Runs the calls at once; their results in order."""
    out = [None] * len(jobs)

    def one(i):
        out[i] = jobs[i]()
    ts = [threading.Thread(target=one, args=(i,), daemon=True) for i in range(len(jobs))]
    for t in ts:
        t.start()
    for t in ts:
        t.join(30 * SLOW)
    assert not any(t.is_alive() for t in ts)
    return out


class Busy:
    """For behave(by=...): takes its time inside the worker and counts how many are there at once (exactly: each has left before its answer goes out)."""

    def __init__(self, seconds=0.0, until=None):
        self.seconds, self.hold, self.lock, self.now, self.top = seconds, until, threading.Lock(), 0, 0

    def __call__(self, request):
        with self.lock:
            self.now += 1
            self.top = max(self.top, self.now)
        if self.hold:
            self.hold.wait(30)
        time.sleep(self.seconds)
        with self.lock:
            self.now -= 1


# ------------------------------------------------------------------------------------------------ the client leaves (F25)

LEAVE = [pytest.param(lambda s: s.vanish(), id="rst"), pytest.param(lambda s: s.close() or time.monotonic(), id="fin")]


@pytest.mark.parametrize("leave", LEAVE)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
def test_client_leaves_before_the_first_byte(gate, worker, stream, leave):
    w = worker().behave(delay=20)
    g = gate(models=[model("m", w, slots=1)])
    s = Stream(g, stream=stream)
    req = w.wait(1)[0]
    time.sleep(0.05)
    left = leave(s)
    req.wait_end(3 * SLOW)
    assert req.client_closed_at - left < SOON
    rec = g.wait_log(lambda r: r["reason"] == "client_gone")
    assert rec["partial"] is True and rec["first_byte_ms"] is None and rec["model"] == "m" and rec["worker"]
    w.behave()
    assert plain(g).statuses == [200]  # the only slot is free
    all_free(g)


@pytest.mark.parametrize("leave", LEAVE)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
def test_client_leaves_in_the_middle(gate, worker, stream, leave):
    w = worker().behave(chunks=500, pace=0.02, text="x" * 500, chunked=True)
    g = gate(models=[model("m", w, slots=1)])
    s = Stream(g, stream=stream).head()
    assert s.status == 200
    if stream:
        for _ in range(3):
            assert s.event().startswith(b"data: {")
    else:
        s.more()
    left = leave(s)
    req = w.requests[0].wait_end(3 * SLOW)
    assert req.client_closed_at - left < SOON
    rec = g.wait_log(lambda r: r["reason"] == "client_gone")
    assert rec["partial"] is True and rec["status"] == 200 and rec["stream"] is stream and rec["first_byte_ms"] is not None and rec["bytes_out"] > 0
    if stream:
        assert rec["completion_tokens"] >= 3  # what it used is counted though its usage was never told
    w.behave()
    assert plain(g).statuses == [200]
    all_free(g)


def test_client_leaves_while_it_waits(gate, worker):
    """Queued: it never reaches a worker, and its place goes to the next."""
    w = worker().behave(delay=0.6 * SLOW)
    g = gate(models=[model("m", w, slots=1)])
    first = Stream(g, "first", stream=False)
    w.wait(1)
    waiting = Stream(g, "leaver", stream=False)
    until(lambda: gauges(g)["tollgate_requests_queued"] == 1, what="queueing")
    behind = Stream(g, "behind", stream=False)
    time.sleep(0.05)
    waiting.vanish()
    rec = g.wait_log(lambda r: r["reason"] == "client_gone")
    assert rec["worker"] is None and rec["bytes_out"] == 0
    assert first.head().status == 200 and behind.head().status == 200
    assert [r.json()["messages"][0]["content"] for r in w.requests] == ["first", "behind"]
    all_free(g)


def test_client_leaves_while_its_body_is_on_the_way(gate, worker):
    w = worker()
    g = gate(models=[model("m", w, slots=1)])
    data = chat("x" * 300_000)
    s = Stream(g, data=data[:200_000])
    time.sleep(0.05)
    s.vanish()
    rec = g.wait_log(lambda r: r["reason"] == "client_gone")
    assert rec["worker"] is None and not w.requests
    all_free(g)


def test_many_clients_leave(gate, worker):
    """F25 in small: 150 clients that leave at all sorts of moments; afterwards every slot is there and nothing runs."""
    w = worker().behave(by=lambda r: {"delay": (r.json()["n"] % 5) * 0.01, "chunks": 200, "pace": 0.005, "text": "y" * 400, "chunked": True})
    g = gate(models=[model("m", w, slots=4, queue=1000)])

    def one(i):
        s = Stream(g, stream=bool(i % 3), n=i + 1)
        time.sleep((i % 7) * 0.01)
        if i % 4 == 0:
            try:
                s.head()
            except (AssertionError, OSError):
                pass
        s.vanish() if i % 2 else s.close()
    for start in range(0, 150, 10):
        in_threads([lambda i=i: one(i) for i in range(start, start + 10)])
    all_free(g)
    w.idle(5 * SLOW)
    busy = Busy(0.2 * SLOW)
    w.behave(by=busy)
    assert [r.statuses for r in in_threads([lambda: plain(g)] * 4)] == [[200]] * 4
    assert busy.top == 4
    w.idle()
    recs = [r for r in g.requests(0.3) if r["endpoint"] == CHAT]
    assert len(recs) == 154, "not one line a request"
    assert all(r["worker"] for r in recs if r["partial"])


# ------------------------------------------------------------------------------------------------ the worker leaves

@pytest.mark.parametrize("how", [dict(drop=True), dict(drop=True, reset=True), dict(early=True, drop=True, reset=True)], ids=["close", "reset", "reset_before_body"])
def test_worker_dies_before_the_first_byte_another_takes_over(gate, worker, how):
    bad, good = worker().behave(**how), worker()
    g = gate(models=[model("m", bad, good)], toml={"server": {"threads": 1}})
    rs = [plain(g, stream=bool(i % 2)) for i in range(8)]
    assert [r.statuses for r in rs] == [[200]] * 8
    recs = [g.record(r.answers[0].header("x-request-id")) for r in rs]
    assert sum(r["retries"] for r in recs) == len(bad.requests) >= 1
    assert all(r["retries"] <= 1 and r["status"] == 200 for r in recs)
    assert len(good.requests) == 8


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
def test_worker_dies_before_the_first_byte_and_is_alone(gate, worker, stream):
    w = worker().behave(drop=True)
    g = gate(models=[model("m", w)])
    r = plain(g, stream=stream)
    assert r.statuses[0] in (502, 503) and r.answers[0].json()["request_id"]
    assert len(w.requests) == 1, "sent again to the same worker"
    w.behave()
    until(lambda: plain(g).statuses == [200], 5 * SLOW, "the worker being used again")


def test_it_is_tried_twice_at_most(gate, worker):
    ws = [worker().behave(drop=True) for _ in range(3)]
    g = gate(models=[model("m", *ws)])
    assert plain(g).statuses[0] in (502, 503)
    assert sum(len(w.requests) for w in ws) == 2


def test_no_second_try_once_an_answer_has_begun(gate, worker):
    """Half a head is a beginning: that worker has worked, and another would do it a second time."""
    ws = [worker().behave(cut_head=True) for _ in range(2)]
    g = gate(models=[model("m", *ws)])
    assert plain(g).statuses == [502]
    assert sum(len(w.requests) for w in ws) == 1


def test_a_stale_connection_is_not_the_callers_problem(gate, worker):
    """A worker that closes kept-alive connections as it likes: no caller sees it."""
    w = worker()
    g = gate(models=[model("m", w)], toml={"server": {"threads": 1}})
    for i in range(10):
        assert plain(g, f"a{i}").statuses == [200]
        w.once(drop=True)  # the next request on the kept connection meets a worker that has just closed it
        r = plain(g, f"b{i}")
        assert r.statuses == [200]
        assert g.record(r.answers[0].header("x-request-id"))["retries"] <= 1
    for _ in range(5):
        w.once(raw=GOOD_ANSWER, raw_close=True)
        assert plain(g).statuses == [200] and plain(g).statuses == [200]


@pytest.mark.parametrize("reset", [False, True], ids=["close", "reset"])
def test_worker_dies_in_the_middle_of_a_stream(gate, worker, reset):
    w = worker().behave(chunks=10, pace=0.02, stop_after=3, reset=reset, text="0123456789")
    g = gate(models=[model("m", w)])
    with Stream(g) as s:
        events = s.head().rest()
        assert s.status == 200
        assert s.wait_closed(3 * SLOW)
    bodies = [json.loads(e.removeprefix(b"data: ")) for e in events]
    assert "".join(b["choices"][0]["delta"]["content"] for b in bodies[:-1]) == "012"
    error = bodies[-1]["error"]
    assert error["message"] and error["type"] and isinstance(error["code"], str)
    assert b"[DONE]" not in b"".join(events)
    rec = g.wait_log(lambda r: r["reason"] == "worker_gone")
    assert rec["partial"] is True and rec["status"] == 200 and rec["retries"] == 0 and rec["completion_tokens"] == 3
    assert len(w.requests) == 1, "a stream that had begun was sent again"
    all_free(g)


def test_a_stream_without_its_end_mark_is_whole_if_its_framing_is(gate, worker):
    """The worker ended its body in order and only left [DONE] out: that is its answer, not an error of ours."""
    w = worker().behave(done=False)
    g = gate(models=[model("m", w)])
    with Stream(g) as s:
        events = s.rest()
        assert s.whole and not any(b"error" in e for e in events) and events


@pytest.mark.parametrize("how", [dict(stop_after=10), dict(stop_after=10, reset=True), dict(chunked=True, chunks=10, pace=0.02, stop_after=3)],
                         ids=["length", "length_reset", "chunked"])
def test_worker_dies_in_the_middle_of_a_body(gate, worker, how):
    w = worker().behave(**how)
    g = gate(models=[model("m", w)])
    r = exchange(g, chat() + chat("behind"), timeout=5 * SLOW)
    assert r.closed and len(r.answers) == 1
    assert r.statuses == [502] or not r.answers[0].whole, "a short body was passed on as whole"
    assert b'data: {"error"' not in r.raw
    rec = g.wait_log(lambda x: x["reason"] == "worker_gone")
    assert rec["partial"] is True
    assert "behind" not in str([q.body for q in w.requests])
    all_free(g)


def test_no_worker_listens(gate):
    g = gate(models=[model("m", f"http://127.0.0.1:{free_port()}")])
    for stream in (False, True):
        r = plain(g, stream=stream)
        assert r.statuses == [503] and int(r.answers[0].header("retry-after")) >= 1
        assert r.answers[0].json()["code"] == "UNAVAILABLE" and r.seconds < 2 * SLOW
        assert g.record(r.answers[0].header("x-request-id"))["reason"] == "no_worker"


def test_a_worker_that_comes_back_is_used(gate, worker):
    w = worker()
    g = gate(models=[model("m", w)])
    assert plain(g).statuses == [200]
    w.down()
    assert plain(g).statuses[0] in (502, 503)
    until(lambda: plain(g).statuses == [503], 3 * SLOW, "the worker being seen as down")
    w.up()
    until(lambda: plain(g).statuses == [200], 5 * SLOW, "the worker being seen as up")


def test_a_down_worker_is_left_alone_while_another_is_up(gate, worker):
    a, b = worker(), worker()
    g = gate(models=[model("m", a, b)])
    a.down()
    assert [plain(g).statuses for _ in range(20)] == [[200]] * 20
    assert len(b.requests) == 20


# ------------------------------------------------------------------------------------------------ clocks

def took(r, ms, late=1.5):
    assert ms / 1000 * 0.8 < r.seconds < ms / 1000 + late * SLOW, r.seconds


MS = 300 * SLOW


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
def test_first_byte_clock(gate, worker, stream):
    w = worker().behave(hang=True)
    g = gate(models=[model("m", w, first_byte_ms=MS, slots=1)])
    r = plain(g, stream=stream)
    assert r.statuses == [504] and r.answers[0].json()["code"] == "GATEWAY_TIMEOUT"
    took(r, MS)
    assert w.last.wait_end(2 * SLOW).client_closed_at is not None
    assert g.record(r.answers[0].header("x-request-id"))["reason"] == "first_byte_timeout"
    assert len(w.requests) == 1
    w.behave()
    assert plain(g).statuses == [200]


def test_idle_clock_in_a_stream(gate, worker):
    w = worker().behave(chunks=10, hang_after=2)
    g = gate(models=[model("m", w, idle_ms=MS)])
    with Stream(g) as s:
        start = time.monotonic()
        events = s.rest()
        assert MS / 1000 * 0.8 < time.monotonic() - start < MS / 1000 + 1.5 * SLOW
        assert s.wait_closed(2 * SLOW)
    assert len(events) == 3 and b'"error"' in events[-1] and b"[DONE]" not in events[-1]
    rec = g.wait_log(lambda r: r["reason"] == "idle_timeout")
    assert rec["partial"] is True
    assert w.last.wait_end(2 * SLOW).client_closed_at is not None


def test_idle_clock_in_a_body(gate, worker):
    w = worker().behave(chunked=True, chunks=10, hang_after=2)
    g = gate(models=[model("m", w, idle_ms=MS)])
    r = plain(g)
    assert r.closed and (r.statuses == [504] or not r.answers[0].whole)
    took(r, MS)
    assert g.wait_log(lambda x: x["reason"] == "idle_timeout")["partial"] is True


def test_a_slow_stream_is_not_an_idle_one(gate, worker):
    w = worker().behave(chunks=5, pace=MS / 1000 * 0.6)
    g = gate(models=[model("m", w, idle_ms=MS, first_byte_ms=MS)])
    with Stream(g, timeout=20 * SLOW) as s:
        assert s.rest()[-1] == b"data: [DONE]"


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
def test_total_clock(gate, worker, stream):
    w = worker().behave(chunks=1000, pace=0.03, text="z" * 1000, chunked=True)
    g = gate(models=[model("m", w, total_ms=2 * MS)])
    start = time.monotonic()
    if stream:
        with Stream(g) as s:
            events = s.rest()
            assert b'"error"' in events[-1] and len(events) > 3
            assert s.wait_closed(2 * SLOW)
    else:
        r = plain(g)
        assert r.closed and (r.statuses == [504] or not r.answers[0].whole)
    assert 2 * MS / 1000 * 0.8 < time.monotonic() - start < 2 * MS / 1000 + 1.5 * SLOW
    assert g.wait_log(lambda x: x["reason"] == "total_timeout")["partial"] is True
    assert w.last.wait_end(2 * SLOW).client_closed_at is not None


def test_connect_clock(gate):
    """A worker whose accept queue is full does not answer the SYN."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    fill = []
    try:
        for _ in range(4):
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex(listener.getsockname())
            fill.append(s)
        g = gate(models=[model("m", "http://127.0.0.1:%d" % listener.getsockname()[1], connect_ms=MS)])
        r = plain(g)
        assert r.statuses == [503] and int(r.answers[0].header("retry-after")) >= 1
        assert r.seconds < MS / 1000 + 2 * SLOW
    finally:
        for s in fill:
            s.close()
        listener.close()


# ------------------------------------------------------------------------------------------------ back-pressure and sizes

def flood(pieces, size=65536, seen=None):
    """A worker that sends a stream of pieces x size bytes as fast as it is taken; `seen` gets (bytes taken, closed early)."""
    def script(c):
        c.read_request()
        n = 0
        try:
            c.send(SSE_HEAD)
            line = b"data: " + b"x" * (size - 8) + b"\n\n"
            for _ in range(pieces):
                c.chunk(line)
                n += size
            c.chunk(b"data: [DONE]\n\n")
            c.send(b"0\r\n\r\n")
        except Gone:
            if seen is not None:
                seen.append((n, time.monotonic()))
            raise
        c.read_request()
    return RawWorker(script)


@pytest.mark.release_only
def test_a_client_that_does_not_read_costs_no_memory_and_is_cut(gate):
    """50 MB for a client that takes none of it: they stay with the worker, and the write clock ends it."""
    seen = []
    with flood(800, seen=seen) as w:
        g = gate(models=[model("m", w.url)], toml={"server": {"write_stall_ms": 1200, "threads": 1}})
        plain_health = exchange(g, request("GET", "/health", [("Connection", "close")]))
        assert plain_health.statuses == [200]
        before = rss_kb(g.pid)
        with Stream(g, rcvbuf=4096) as s:
            start, top = time.monotonic(), 0
            while not seen and time.monotonic() - start < 6:
                top = max(top, rss_kb(g.pid))
                time.sleep(0.02)
            assert seen, "the stalled answer was never ended"
            assert 1.0 < seen[0][1] - start < 4
            assert top - before < 2048, f"grew by {top - before} KiB"
            assert seen[0][0] < 20 << 20, "the gate took it all from the worker"
        rec = g.wait_log(lambda r: r["reason"] == "write_timeout")
        assert rec["partial"] is True


@pytest.mark.release_only
def test_a_client_that_reads_slowly_gets_it_all(gate):
    pieces = 160
    with flood(pieces) as w:
        g = gate(models=[model("m", w.url)], toml={"server": {"write_stall_ms": 1500, "threads": 1}})
        exchange(g, request("GET", "/health", [("Connection", "close")]))
        before, top = rss_kb(g.pid), 0
        with Stream(g, rcvbuf=65536, timeout=20) as s:
            s.head()
            got = digest = 0
            h = hashlib.sha256()
            n = 0
            while (e := s.event()) is not None:
                n += 1
                h.update(e)
                if n % 20 == 0:
                    time.sleep(0.1)
                    top = max(top, rss_kb(g.pid))
            assert s.whole
        want = hashlib.sha256((b"data: " + b"x" * 65528) * pieces + b"data: [DONE]").hexdigest()
        assert n == pieces + 1 and h.hexdigest() == want
        assert top - before < 2048, f"grew by {top - before} KiB"


def test_a_client_that_does_not_read_its_answers_stops_being_read(gate, worker):
    """Pipelined requests without end from a client that takes no answer: what the gate holds for it is bounded."""
    w = worker().behave(text="x" * 20000)
    g = gate(models=[model("m", w)], toml={"server": {"write_stall_ms": 1500 * SLOW}})
    before = rss_kb(g.pid)
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.settimeout(0.5)
    s.connect(("127.0.0.1", g.port))
    one, sent = chat("p"), 0
    try:
        while sent < 32 << 20:
            sent += s.send(one * 100)
    except OSError:
        pass
    s.close()
    assert sent < 32 << 20, "32 MB of requests were taken from a client that takes no answer"
    assert SLOW > 1 or rss_kb(g.pid) - before < 4096
    assert plain(g).statuses == [200]


@pytest.mark.parametrize("framing", ["length", "chunked", "chunked_small"])
def test_big_bodies(gate, worker, framing):
    """9 MiB through the gate, byte for byte, to a worker that reads slowly at first."""
    w = worker().behave(read_delay=0.2, text="ok")
    g = gate(models=[model("m", w)])
    text = "".join(f"{i:07d} ä😀\\\"\n" for i in range(9 * 2**20 // 20 - 10))
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}, ensure_ascii=False).encode()
    assert 8.9 * 2**20 < len(body) < 9 * 2**20
    head = [("X-API-Key", READ), ("Content-Type", "application/json"), ("Connection", "close")]
    if framing == "length":
        data = request("POST", CHAT, head, body)
    else:
        step = 100_003 if framing == "chunked" else 4099
        data = request("POST", CHAT, head + [("Transfer-Encoding", "chunked")]) + b"".join(
            b"%x\r\n%s\r\n" % (len(body[i:i + step]), body[i:i + step]) for i in range(0, len(body), step)) + b"0\r\n\r\n"
    r = exchange(g, data, timeout=30 * SLOW)
    assert r.statuses == [200]
    assert w.last.body == body and w.last.header("content-length") == str(len(body))


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit(gate, worker, chunked):
    w = worker()
    g = gate(models=[model("m", w)], toml={"server": {"max_body_bytes": 100_000}})
    body = chat_body("x" * 150_000)
    head = [("X-API-Key", READ), ("Content-Type", "application/json")]
    data = request("POST", CHAT, head + [("Transfer-Encoding", "chunked")]) + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if chunked else request("POST", CHAT, head, body)
    r = exchange(g, data + chat("behind"), timeout=5 * SLOW)
    assert r.statuses == [413] and r.closed and not r.reset
    assert "100000" in r.answers[0].json()["detail"]
    assert not w.requests
    exact = chat_body("x" * (100_000 - len(chat_body(""))))
    assert len(exact) == 100_000
    assert exchange(g, request("POST", CHAT, head + [("Connection", "close")], exact), timeout=5 * SLOW).statuses == [200]


def test_bodies_in_memory_have_a_bound(gate, worker):
    """server.max_buffered_bytes: past it requests get 503, and what was refused is given back."""
    w = worker()
    g = gate(models=[model("m", w)], toml={"server": {"max_buffered_bytes": 1 << 20, "max_body_bytes": 600_000}})
    big = chat("x" * 500_000)
    held = []
    try:
        for _ in range(2):
            s = g.connect()
            s.sendall(big[:100_000])  # two bodies of 500 KB are on their way: the bound is nearly reached
            held.append(s)
        time.sleep(0.1)
        r = plain(g, "y" * 500_000)
        assert r.statuses == [503] and r.answers[0].header("retry-after")
    finally:
        for s in held:
            s.close()
    until(lambda: plain(g, "z" * 500_000).statuses == [200], 3 * SLOW, "the memory being given back")


# ------------------------------------------------------------------------------------------------ HTTP/1.1, the good path

def test_expect_100_continue(gate, worker):
    w = worker()
    g = gate(models=[model("m", w)], toml={"server": {"max_body_bytes": 100_000}})
    data = chat("patient", headers=[("Expect", "100-continue"), ("Connection", "close")])
    cut = data.index(b"\r\n\r\n") + 4
    with Stream(g, data=data[:cut]) as s:
        s.s.settimeout(3 * SLOW)
        s.more()
        assert s.buf == b"HTTP/1.1 100 Continue\r\n\r\n"
        s.s.sendall(data[cut:])
        assert s.wait_closed()
        assert [a.status for a in answers(s.buf)] == [100, 200]
    for head, status in ((chat("x", key="wrong", headers=[("Expect", "100-continue")]), 401), (chat("x" * 100_001, headers=[("Expect", "100-continue")]), 413),
                         (chat("x", headers=[("Expect", "100-continue")]).replace(b"application/json", b"text/plain"), 415)):
        r = exchange(g, head[:head.index(b"\r\n\r\n") + 4], timeout=5 * SLOW)  # refused before the body is asked for
        assert r.statuses == [status] and not r.interim and r.closed
    assert len(w.requests) == 1


@pytest.mark.parametrize("step", [1, 7, 100])
def test_chunked_requests(gate, worker, step):
    w = worker()
    g = gate(models=[model("m", w)])
    body = chat_body("über 😀 \\ \" \n", stream=False)
    data = request("POST", CHAT, [("X-API-Key", READ), ("Content-Type", "application/json"), ("Transfer-Encoding", "chunked"), ("Connection", "close")])
    r = exchange(g, data + b"".join(b"%X\r\n%s\r\n" % (len(body[i:i + step]), body[i:i + step]) for i in range(0, len(body), step)) + b"0\r\n\r\n", timeout=5 * SLOW)
    assert r.statuses == [200] and r.answers[0].json()["choices"][0]["message"]["content"] == "über 😀 \\ \" \n"
    assert w.last.body == body


@pytest.mark.parametrize("cut", [None, 1000, 4096])
def test_pipelining_is_answered_in_order(gate, worker, cut):
    """Twenty requests at once, slow and quick ones, forwarded and local: twenty answers in their order, on one connection."""
    w = worker().behave(by=lambda r: {"delay": 0.05 if r.json()["messages"][0]["content"].endswith("0") else 0})
    g = gate(models=[model("m", w)])
    parts, want = [], []
    for i in range(20):
        if i % 5 == 3:
            parts.append(request("GET", "/v1/models", [("X-API-Key", READ)]))
            want.append("models")
        elif i % 7 == 6:
            parts.append(chat(f"n{i}", stream=True))
            want.append(f"stream n{i}")
        else:
            parts.append(chat(f"n{i}" + "-" * (i * 100)))
            want.append(f"n{i}" + "-" * (i * 100))
    data = b"".join(parts) + request("GET", "/livez", [("Connection", "close")])
    r = exchange(g, [data] if cut is None else [data[i:i + cut] for i in range(0, len(data), cut)], timeout=10 * SLOW, pause=0.002)
    assert r.statuses == [200] * 21 and r.closed
    got = []
    for a in r.answers[:-1]:
        if a.header("content-type").startswith("text/event-stream"):
            got.append("stream " + "".join(json.loads(d)["choices"][0]["delta"].get("content", "") for d in sse(a.body)[:-1]))
        else:
            doc = a.json()
            got.append("models" if doc["object"] == "list" else doc["choices"][0]["message"]["content"])
    assert got == want


def test_a_thousand_requests_on_one_connection(gate, worker):
    """S3-81: the same key, the same connection."""
    w = worker()
    g = gate(models=[model("m", w)])
    one = chat("k") + request("GET", "/v1/models", [("X-API-Key", READ)])
    with g.connect() as s:
        s.settimeout(10 * SLOW)
        buf, done = b"", 0
        for _ in range(500):
            s.sendall(one)
            want = done + 2
            while done < want:
                got = s.recv(65536)
                assert got, "closed early"
                buf += got
                while b"\r\n\r\n" in buf:
                    head, _, rest = buf.partition(b"\r\n\r\n")
                    n = int(re.search(rb"(?i)content-length: (\d+)", head).group(1))
                    if len(rest) < n:
                        break
                    assert head.startswith(b"HTTP/1.1 200 ") and b"close" not in head.lower()
                    buf, done = rest[n:], done + 1
    assert done == 1000 and len(w.requests) == 500
    assert len({r.connection for r in w.requests}) <= 4, "the worker's connections are not kept"


def test_http_1_0(gate, worker):
    w = worker().behave(chunked=True)
    g = gate(models=[model("m", w)])
    r = exchange(g, chat("old", version="1.0"), timeout=5 * SLOW)  # the answer's length is not known: it ends with the connection
    assert r.statuses == [200] and r.closed and r.answers[0].header("transfer-encoding") is None
    assert r.answers[0].json()["choices"][0]["message"]["content"] == "old"
    r = exchange(g, chat("old", version="1.0", stream=True), timeout=5 * SLOW)
    assert r.closed and r.answers[0].header("transfer-encoding") is None and sse(r.answers[0].body)[-1] == "[DONE]"
    r = exchange(g, request("GET", "/livez", version="1.0", host=None), timeout=5 * SLOW)
    assert r.statuses == [200] and r.closed and r.seconds < 2 * SLOW
    r = exchange(g, request("GET", "/livez", [("Connection", "keep-alive")], version="1.0") + request("GET", "/livez", version="1.0"), timeout=5 * SLOW)
    assert r.statuses == [200, 200] and r.closed and r.answers[0].header("connection").lower() == "keep-alive"


def test_unix_sockets_on_both_sides(gate, worker, tmp_path):
    w = worker(unix=str(tmp_path / "w.sock"))
    path = tmp_path / "gate.sock"
    g = gate(models=[model("m", w)], listen=["127.0.0.1:0", f"unix:{path}"])
    for stream in (False, True):
        r = exchange(g, chat("via unix", headers=[("Connection", "close")], stream=stream), timeout=5 * SLOW, unix=path)
        assert r.statuses == [200]
        assert g.record(r.answers[0].header("x-request-id"))["client"] == "unix"
    assert plain(g).statuses == [200]
    # a Unix peer is never a local caller: /infer without a key is refused
    r = exchange(g, request("POST", "/infer", [("Content-Type", "application/json"), ("Connection", "close")], b'{"model_name":"m","request_body":{"input":"x"}}'), unix=path)
    assert r.statuses == [401]
    g.stop()
    assert not path.exists(), "the socket file stays behind"


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 loopback here")
def test_ipv6(gate, worker):
    w = worker()
    g = gate(models=[model("m", w)], listen=["[::1]:0"])
    with socket.create_connection(("::1", g.tcp("::1")[0]), 5) as s:
        s.sendall(chat("six", headers=[("Connection", "close")], host=f"[::1]:{g.tcp('::1')[0]}"))
        out = b""
        while got := s.recv(65536):
            out += got
    a = answers(out)[0]
    assert a.status == 200
    assert g.record(a.header("x-request-id"))["client"] == "::1"


def test_two_addresses_at_once(gate, worker):
    w = worker()
    g = gate(models=[model("m", w)], listen=["127.0.0.1:0", f"127.0.0.1:{free_port()}"])
    ports = g.tcp()
    assert len(ports) == 2 and ports[0] != ports[1]
    for p in ports:
        with g.client(READ, url=f"http://127.0.0.1:{p}") as c:
            assert c.post(CHAT, json={"model": "m", "messages": [{"role": "user", "content": "x"}]}).status_code == 200


@pytest.mark.parametrize("first_byte", [False, True])
def test_events_are_passed_on_as_they_come(gate, first_byte):
    """Each event reaches the client within 50 ms, although more is to come: nothing waits to be filled."""
    sent = []

    def script(c):
        c.read_request()
        c.send(SSE_HEAD)
        for i in range(8):
            time.sleep(0.08)
            sent.append(time.monotonic())
            e = sse_event(f"t{i}", usage=None)
            if i == 3 and first_byte:  # an event in two pieces: its first half alone must not hold up what is whole
                c.chunk(sse_event("t3a", usage=None) + e[:20])
                time.sleep(0.02)
                c.chunk(e[20:])
                sent.insert(-1, sent[-1])
                sent[-1] += 0.02
            else:
                c.chunk(e)
        c.chunk(b"data: [DONE]\n\n")
        c.send(b"0\r\n\r\n")
        c.read_request()
    with RawWorker(script) as w:
        g = gate(models=[model("m", w.url)])
        with Stream(g) as s:
            times = []
            while (e := s.event()) is not None and e != b"data: [DONE]":
                times.append(s.at)
            assert s.whole or s.event() is None
        assert len(times) == len(sent)
        late = [t - u for t, u in zip(times, sent)]
        assert max(late) < 0.05 * SLOW, late


def test_a_head_is_passed_on_before_its_body(gate):
    """A worker that sends its head and then thinks: the client knows the status at once."""
    def script(c):
        c.read_request()
        c.send(SSE_HEAD)
        time.sleep(0.6 * SLOW)
        c.chunk(sse_event("late") + b"data: [DONE]\n\n")
        c.send(b"0\r\n\r\n")
        c.read_request()
    with RawWorker(script) as w:
        g = gate(models=[model("m", w.url)])
        with Stream(g) as s:
            start = time.monotonic()
            s.head()
            assert time.monotonic() - start < 0.4 * SLOW and s.status == 200
            assert s.rest()[-1] == b"data: [DONE]"


def test_stream_head(gate, worker):
    w = worker()
    g = gate(models=[model("m", w)])
    with Stream(g) as s:
        s.rest()
        assert s.headers["content-type"].startswith("text/event-stream") and s.headers["cache-control"] == "no-cache" and s.headers["x-accel-buffering"] == "no"
        assert s.headers["x-request-id"] and "content-length" not in s.headers


# ------------------------------------------------------------------------------------------------ slots and the queue

def test_first_come_first_served(gate, worker):
    go = threading.Event()
    busy = Busy(until=go)
    w = worker().behave(by=busy)
    g = gate(models=[model("m", w, slots=1, queue=16)])
    streams = []
    for i in range(7):
        streams.append(Stream(g, f"n{i}", stream=False))
        if i == 0:
            w.wait(1)
        else:
            until(lambda: gauges(g)["tollgate_requests_queued"] == i, 3 * SLOW, f"request {i} queueing", step=0.001)
    go.set()
    assert [s.head().status for s in streams] == [200] * 7
    assert [r.json()["messages"][0]["content"] for r in w.requests] == [f"n{i}" for i in range(7)]
    assert busy.top == 1
    all_free(g)


def test_slots_are_per_worker_and_none_is_idle(gate, worker):
    busy = [Busy(0.3 * SLOW) for _ in range(3)]
    ws = [worker().behave(by=b) for b in busy]
    g = gate(models=[model("m", *ws, slots=2, queue=64)])
    rs = in_threads([lambda: plain(g)] * 18)
    assert [r.statuses for r in rs] == [[200]] * 18
    assert [b.top for b in busy] == [2, 2, 2]
    assert sorted(len(w.requests) for w in ws) == [6, 6, 6]
    all_free(g)


def test_queue_full(gate, worker):
    w = worker().behave(delay=0.8 * SLOW)
    g = gate(models=[model("m", w, slots=1, queue=2)])
    s = [Stream(g, "a", stream=False)]
    w.wait(1)
    s += [Stream(g, "b", stream=False), Stream(g, "c", stream=False)]
    until(lambda: gauges(g)["tollgate_requests_queued"] == 2, 2 * SLOW, "two queueing", step=0.001)
    r = plain(g, "d")
    assert r.statuses == [503] and r.seconds < 0.4 * SLOW and int(r.answers[0].header("retry-after")) >= 1
    assert g.record(r.answers[0].header("x-request-id"))["reason"] == "queue_full"
    assert [x.head().status for x in s] == [200] * 3
    assert len(w.requests) == 3


def test_no_queue(gate, worker):
    w = worker().behave(delay=0.5 * SLOW)
    g = gate(models=[model("m", w, slots=1, queue=0)])
    s = Stream(g, stream=False)
    w.wait(1)
    assert plain(g).statuses == [503]
    assert s.head().status == 200


def test_queue_clock(gate, worker):
    w = worker().behave(delay=2 * SLOW)
    g = gate(models=[model("m", w, slots=1, queue=4, queue_ms=MS)])
    s = Stream(g, stream=False)
    w.wait(1)
    r = plain(g)
    assert r.statuses == [503] and int(r.answers[0].header("retry-after")) >= 1
    took(r, MS)
    assert g.record(r.answers[0].header("x-request-id"))["reason"] == "queue_timeout"
    assert s.head().status == 200 and len(w.requests) == 1
    w.behave()
    assert plain(g).statuses == [200]
    all_free(g)


def test_a_queue_whose_worker_dies_is_answered(gate, worker):
    w = worker().behave(delay=30)
    g = gate(models=[model("m", w, slots=1, queue=8, queue_ms=3000 * SLOW)])
    streams = [Stream(g, f"n{i}", stream=False, timeout=15 * SLOW) for i in range(4)]
    w.wait(1)
    time.sleep(0.1)
    w.down()
    assert all(s.head().status in (502, 503) for s in streams)
    all_free(g)


@pytest.mark.parametrize("threads", [1, 2])
def test_many_at_once(gate, worker, threads):
    """60 clients x 10 requests, plain and streamed, over 3 workers with slots: each gets its own answer."""
    busy = [Busy() for _ in range(3)]
    ws = [worker().behave(by=b) for b in busy]
    g = gate(models=[model("m", *ws, slots=4, queue=1000)], toml={"server": {"threads": threads}})

    def one(n):
        for i in range(10):
            text = f"c{n}-{i}"
            if i % 3 == 2:
                with Stream(g, text, timeout=30 * SLOW) as s:
                    got = "".join(json.loads(e[6:])["choices"][0]["delta"].get("content", "") for e in s.rest()[:-1])
            else:
                r = plain(g, text)
                assert r.statuses == [200]
                got = r.answers[0].json()["choices"][0]["message"]["content"]
            assert got == text
        return True
    assert in_threads([lambda n=n: one(n) for n in range(60)]) == [True] * 60
    assert sum(len(w.requests) for w in ws) == 600
    assert all(1 <= b.top <= 4 for b in busy)
    all_free(g)
    assert len([r for r in g.requests(0.3) if r["endpoint"] == CHAT]) == 600
