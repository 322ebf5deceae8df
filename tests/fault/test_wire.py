"""
What passes between client and worker, and how much of it lies in the gate meanwhile: back-pressure, big bodies and their bounds, then HTTP/1.1 on the good
path: chunks, pipelines, kept connections, HTTP/1.0, Unix sockets, IPv6, events as they come.
"""
import hashlib
import json
import re
import socket
import time

import pytest

from lib.gate import READ, free_port, has_ipv6, model
from lib.raw import CHAT, SLOW, SSE_HEAD, Gone, RawWorker, Stream, chat, chat_body, exchange, rss_kb, sse_event, until
from lib.wire import answers, request, sse


def plain(g, text="hello", **kw):
    return exchange(g, chat(text, headers=[("Connection", "close")], **kw), timeout=10 * SLOW)


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
            s.sendall(big[:450_000])  # two bodies of 500 KB are on their way: the bound is nearly reached (what is only announced costs nothing)
            held.append(s)
        time.sleep(0.3)
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
