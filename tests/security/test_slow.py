"""Slow clients (threats T-SLOW): each phase has its clock, and many slow ones do not hold up a quick one."""
import time

import pytest

from lib.gate import READ, model
from lib.raw import SLOW, chat, exchange
from lib.wire import request

MS = 400 * SLOW
LATE = 1.5 * SLOW


@pytest.fixture(scope="module")
def worker_(module_worker):
    return module_worker()


@pytest.fixture(scope="module")
def g(module_gate, worker_):
    return module_gate(models=[model("m", worker_)], toml={"server": {"head_ms": MS, "body_idle_ms": MS, "keepalive_ms": MS, "max_connections": 2000}})


def dribble(g, data, step, seconds):
    """One piece each `step` seconds until the gate closes: what came back, and after how long."""
    start, out = time.monotonic(), b""
    with g.connect() as s:
        s.settimeout(step)
        pieces = iter(data)
        while time.monotonic() - start < seconds:
            try:
                s.sendall(next(pieces, b"x"))
            except (BrokenPipeError, ConnectionResetError):
                pass
            try:
                got = s.recv(65536)
            except TimeoutError:
                continue
            except ConnectionResetError:
                return out, time.monotonic() - start
            if not got:
                return out, time.monotonic() - start
            out += got
    raise AssertionError(f"still open after {seconds} s; so far {out!r}")


@pytest.mark.parametrize("head", [
    pytest.param(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 2000, id="header"),
    pytest.param(b"POST /v1/chat/" + b"a" * 2000, id="target"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: a\r\n" % i for i in range(90)), id="headers"),
    pytest.param(b"\r\n" * 2000, id="empty_lines"),
])
def test_a_head_has_a_deadline_however_steadily_it_drips(g, head):
    out, took = dribble(g, [head[i:i + 1] for i in range(len(head))], 0.03 * SLOW, 10 * SLOW)
    assert out.startswith(b"HTTP/1.1 408 ") and b"connection: close" in out.lower()
    assert MS / 1000 * 0.8 < took < MS / 1000 + LATE
    assert g.wait_log(lambda r: r["reason"] == "head_timeout")["status"] == 408


def test_half_a_head_and_silence(g):
    r = exchange(g, b"GET / HTTP/1.1\r\nHost", timeout=10 * SLOW)
    assert r.statuses == [408] and r.closed and r.seconds < MS / 1000 + LATE


def test_silence_from_the_start_ends(g):
    r = exchange(g, b"", timeout=10 * SLOW)
    assert r.closed and r.seconds < MS / 1000 + LATE and r.statuses in ([], [408])


@pytest.mark.parametrize("framing", [b"Content-Length: 1000\r\n", b"Transfer-Encoding: chunked\r\n"], ids=["length", "chunked"])
@pytest.mark.parametrize("start", [b"", b'5\r\n{"mod\r\n'], ids=["nothing", "something"])
def test_a_body_that_stops(g, worker_, framing, start):
    worker_.clear()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-API-Key: " + READ.encode() + b"\r\nContent-Type: application/json\r\n" + framing + b"\r\n"
    r = exchange(g, head + start, timeout=10 * SLOW)
    assert r.statuses == [408] and r.closed and MS / 1000 * 0.8 < r.seconds < MS / 1000 + LATE
    assert g.record(r.answers[0].header("x-request-id"))["reason"] == "body_timeout"
    assert not worker_.requests, "half a request reached the worker"


def test_a_slow_body_that_goes_on_is_served(g, worker_):
    data = chat("slowly", headers=[("Connection", "close")])
    head, body = data[:data.index(b"\r\n\r\n") + 4], data[data.index(b"\r\n\r\n") + 4:]
    step = len(body) // 6
    r = exchange(g, [head] + [body[i:i + step] for i in range(0, len(body), step)], timeout=20 * SLOW, pause=MS / 1000 * 0.4)
    assert r.statuses == [200] and r.seconds > MS / 1000 * 2


def test_an_idle_connection_is_closed_without_a_word(g):
    r = exchange(g, request("GET", "/health"), timeout=10 * SLOW)
    assert r.statuses == [200] and r.closed and not r.reset
    assert r.seconds < MS / 1000 + LATE
    assert r.raw.endswith(r.answers[0].body), "something was said on an idle connection"


def test_keep_alive_off(gate):
    g = gate(toml={"server": {"keepalive_ms": 0}})
    r = exchange(g, request("GET", "/health") * 3, timeout=5 * SLOW)
    assert r.statuses == [200] and r.closed and r.seconds < 2 * SLOW and r.answers[0].header("connection") == "close"


def test_two_hundred_slow_ones_do_not_hold_up_a_quick_one(g, worker_):
    """Heads and bodies that never come, 200 at once; meanwhile every quick request is answered quickly."""
    worker_.clear()
    slow = []
    try:
        for i in range(200):
            s = g.connect()
            s.sendall(b"GET / HTTP/1.1\r\nHos" if i % 2 else chat("never")[:-5])
            slow.append(s)
        times = []
        for _ in range(40):
            t = time.monotonic()
            assert exchange(g, chat("quick", headers=[("Connection", "close")]), timeout=5 * SLOW).statuses == [200]
            times.append(time.monotonic() - t)
        assert sorted(times)[-3] < 0.25 * SLOW, f"slowest {sorted(times)[-3:]}"
        deadline = time.monotonic() + MS / 1000 + LATE + 1
        for s in slow:
            s.settimeout(max(0.1, deadline - time.monotonic()))
            try:
                while s.recv(65536):
                    pass
            except ConnectionResetError:
                pass
    finally:
        for s in slow:
            s.close()
    assert {x.json()["messages"][0]["content"] for x in worker_.requests} == {"quick"}
