"""
The way between client and worker when something goes wrong: who leaves, in which phase, what the other side sees, what is logged, which clock ends it, who
waits for a slot, and that no slot, connection or memory stays behind. What passes when nothing goes wrong is in test_wire.py.
"""
import json
import re
import socket
import threading
import time

import pytest

from lib.gate import ADMIN, free_port, model
from lib.raw import CHAT, GOOD_ANSWER, SLOW, SSE_HEAD, RawWorker, Stream, chat, exchange, until

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


# ------------------------------------------------------------------------------------------------ a head without its body

HEADS = {"length": GOOD_ANSWER.partition(b"\r\n\r\n")[0] + b"\r\n\r\n",
         "chunked": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"}


def after_head(head, then):
    def script(c):
        c.read_request()
        c.send(head)
        then(c)
    return script


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS.keys())
def test_a_worker_that_ends_between_head_and_body_costs_nothing(gate, worker, head):
    """As uvicorn and llama-server send them: nothing has reached the client yet, so another worker answers. With nobody else it is a 502, not half an answer."""
    with RawWorker(after_head(head, lambda c: c.s.close())) as dies:
        good = worker().behave(delay=0.05)
        g = gate(models=[model("m", dies.url, good), model("alone", dies.url)], toml={"server": {"threads": 1}})
        statuses = [plain(g).statuses for _ in range(4)]
        assert statuses == [[200]] * 4 and len(dies.connections) >= 1
        assert any(r["retries"] == 1 and r["worker"] == "m/1" for r in g.requests(0.3))
        r = plain(g, model="alone")
        assert r.statuses == [502] and "broke off" in r.answers[0].json()["error"]["message"]
        rec = g.record(r.answers[0].header("x-request-id"))
        assert rec["reason"] == "worker_gone" and not rec["partial"]


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS.keys())
def test_a_head_and_then_nothing_is_a_timeout_of_the_first_byte(gate, head):
    with RawWorker(after_head(head, lambda c: c.wait_closed(10 * SLOW))) as w:
        g = gate(models=[model("m", w.url, first_byte_ms=500 * SLOW)])
        r = plain(g)
        assert r.statuses == [504] and r.answers[0].json()["error"]["code"] == "first_byte_timeout"


def test_head_and_body_that_come_apart_leave_together(gate):
    """And the time between them is the worker's, not ours."""
    head, _, body = GOOD_ANSWER.partition(b"\r\n\r\n")

    def then(c):
        time.sleep(0.3)
        c.send(body)
    with RawWorker(after_head(head + b"\r\n\r\n", then)) as w:
        g = gate(models=[model("m", w.url)])
        with g.connect(timeout=10) as s:
            s.sendall(chat(headers=[("Connection", "close")]))
            first = s.recv(1 << 16)
        assert first.endswith(body)
        rec = next(r for r in g.requests(0.3) if r["endpoint"] == CHAT)
        assert rec["overhead_us"] < 100000 and rec["first_byte_ms"] >= 290


def test_the_head_of_a_stream_does_not_wait(gate):
    """It tells the client that its request is being worked on."""
    with RawWorker(after_head(SSE_HEAD, lambda c: c.wait_closed(10 * SLOW))) as w:
        g = gate(models=[model("m", w.url)])
        with Stream(g) as s:
            assert s.head().status == 200 and s.headers["content-type"].startswith("text/event-stream")
