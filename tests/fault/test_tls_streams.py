"""TLS connections under load and in trouble: what test_wire, test_relay and test_lifecycle prove of plain ones holds behind TLS (S2-58, S2-59), where bytes come in records and some wait inside the library."""
import hashlib
import json
import os
import signal
import socket
import ssl
import threading
import time

import pytest

from lib.gate import ADMIN, READ, model
from lib.raw import SLOW, SSE_HEAD, RawWorker, Stream, chat, chat_body, exchange, rss_kb, sse_event, until
from lib.tls import NAME, Door, client, metric, tls_gate, tls_port
from lib.wire import answers, request

V = ssl.TLSVersion
BOTH = pytest.mark.parametrize("version", [V.TLSv1_2, V.TLSv1_3], ids=["1.2", "1.3"])


@pytest.fixture(scope="module")
def w(module_worker):
    return module_worker()


@pytest.fixture(scope="module")
def g(module_gate, w):
    return tls_gate(module_gate, models=[model("m", w, queue=1000)], server={"max_body_bytes": 16 << 20})


@pytest.fixture(autouse=True)
def calm(request):
    if "w" in request.fixturenames:
        w = request.getfixturevalue("w")
        w.behave()
        w.clear()


def read_all(s):
    out = b""
    while got := s.recv(1 << 18):
        out += got
    return out


def ended(g):
    """It has been told to: a second signal would hurry it."""
    g.proc.wait(20 * SLOW)
    g.stop()


def send_in(s, data, size):
    for i in range(0, len(data), size):
        s.sendall(data[i:i + size])  # each a record of its own


def post(text, headers=()):
    return request("POST", "/v1/chat/completions", [("X-API-Key", READ), ("Content-Type", "application/json"), ("Connection", "close"), *headers], chat_body(text))


def content(answer):
    return answer.json()["choices"][0]["message"]["content"]


@BOTH
@pytest.mark.parametrize("length,size", [(0, 1), (300, 1), (20000, 7), (300000, 137), (300000, 16384), (3000000, 1 << 20), (70000, 65536)])
def test_bodies_both_ways(g, w, version, length, size):
    """Requests in records of any size, echoed: the same bytes come back, the worker got them whole."""
    text = "".join(chr(97 + (i * 7919) % 26) for i in range(length)) or "x"
    with Door(g, client(version), ragged=False).connect(timeout=60) as s:
        send_in(s, post(text), size)
        a = answers(read_all(s))[0]  # ragged=False: the end came with close_notify
    assert a.status == 200 and a.whole and content(a) == text
    assert w.last.json()["messages"][0]["content"] == text


@BOTH
def test_chunked_body_in_crumbs(g, w, version):
    """Chunks and records that do not fit each other."""
    body = chat_body("y" * 50000)
    wire = b"".join(b"%x\r\n%s\r\n" % (len(body[i:i + 333]), body[i:i + 333]) for i in range(0, len(body), 333)) + b"0\r\n\r\n"
    head = request("POST", "/v1/chat/completions", [("X-API-Key", READ), ("Content-Type", "application/json"), ("Transfer-Encoding", "chunked"), ("Connection", "close")])
    with Door(g, client(version)).connect(timeout=30) as s:
        send_in(s, head + wire, 211)
        a = answers(read_all(s))[0]
    assert a.status == 200 and content(a) == "y" * 50000


@BOTH
@pytest.mark.parametrize("size", [1 << 14, 40, 5000])
def test_pipelined(g, version, size):
    """Many requests in one record, or a record that ends in the midst of one: all are answered, in order; none waits inside the library for a byte that never comes."""
    n = 60
    data = b"".join(request("GET", "/livez", [("X-Request-ID", f"r-{i}")], host=NAME) for i in range(n))
    with Door(g, client(version)).connect(timeout=10 * SLOW) as s:
        send_in(s, data, size)
        out = b""
        while out.count(b"HTTP/1.1 200 OK") < n or not out.endswith(b"\n") and not out.endswith(b"}"):
            got = s.recv(65536)
            assert got, out[-300:]
            out += got
    assert [a.header("x-request-id") for a in answers(out)] == [f"r-{i}" for i in range(n)]


@BOTH
def test_body_with_the_next_request_in_one_record(g, version):
    """What stands behind a body in its record belongs to the next request."""
    one = chat("first")
    two = chat("second", headers=[("Connection", "close")])
    with Door(g, client(version)).connect(timeout=10 * SLOW) as s:
        s.sendall(one + two)
        got = answers(read_all(s))
    assert [content(a) for a in got] == ["first", "second"]


def test_body_far_longer_than_a_turn(g):
    """A body over the limit with everything in flight: the answer is seen, nothing of it is kept."""
    before = rss_kb(g.pid)
    body = b"x" * (20 << 20)
    with Door(g).connect(timeout=30) as s:
        sender = threading.Thread(target=lambda: quietly(s.sendall, request("POST", "/v1/chat/completions", [("X-API-Key", READ), ("Content-Type", "application/json")], body)), daemon=True)
        sender.start()
        a = answers(read_all(s))[0]
        quietly(s.shutdown, socket.SHUT_RDWR)
        sender.join(30)  # one that still sent would do so into whoever has the descriptor next
    assert a.status == 413
    assert rss_kb(g.pid) - before < 24 * 1024 * SLOW


def quietly(f, *args):
    try:
        f(*args)
    except OSError:
        pass


@BOTH
def test_streams_event_by_event(g, w, version):
    """Each event arrives when it is sent, not when a record is full."""
    w.behave(chunks=6, pace=0.15)
    with Stream(Door(g, client(version))) as s:
        at = []
        while s.event() is not None:
            at.append(s.at)
        gaps = [b - a for a, b in zip(at, at[1:])]
        assert s.whole and sum(x > 0.08 for x in gaps) >= 4, gaps


def test_many_streams(g, w):
    """60 at once over both loops, each its own text, every event in order."""
    w.behave(chunks=30, pace=0.02)
    texts = [" ".join(f"w{i}-{k}" for k in range(60)) for i in range(60)]
    out = [None] * 60

    def one(i):
        with Stream(Door(g), texts[i], timeout=60) as s:
            events = s.rest()
            out[i] = (s.whole, events[-1], "".join((json.loads(e[6:])["choices"] or [{"delta": {}}])[0]["delta"].get("content") or "" for e in events[:-1]))
    threads = [threading.Thread(target=one, args=(i,), daemon=True) for i in range(60)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert out == [(True, b"data: [DONE]", t) for t in texts]


@BOTH
def test_client_that_does_not_read(g, w, version):
    """Back-pressure: the worker is not read while the client takes nothing, memory stays; when it reads, all of it comes, in order."""
    event = b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": "z" * 8000}}]}).encode() + b"\n\n"
    w.once(events=[event] * 3000)  # 24 MB
    before = rss_kb(g.pid)
    with Stream(Door(g, client(version), rcvbuf=4096), timeout=60) as s:
        s.head()
        time.sleep(1.5)
        sent = w.last.sent
        assert sent < 2800, "the worker was read to its end"
        time.sleep(0.3)
        assert w.last.sent - sent <= 2
        assert rss_kb(g.pid) - before < 6 * 1024 * SLOW
        digest = hashlib.sha256()
        for e in s.rest():
            digest.update(e)
        assert s.whole
    assert digest.hexdigest() == hashlib.sha256(event[:-2] * 3000).hexdigest()


def test_client_that_never_reads_is_cut(gate, worker):
    """The write clock runs behind TLS too; a cut answer has no close_notify."""
    w = worker()
    w.behave(events=[b"data: " + b"q" * 8000 + b"\n\n"] * 5000)
    g = tls_gate(gate, models=[model("m", w)], server={"write_stall_ms": 500 * SLOW})
    with Stream(Door(g, rcvbuf=4096, ragged=False), timeout=30) as s:
        s.head()
        r = g.wait_log(lambda r: r.get("reason") == "write_timeout", 10 * SLOW)
        assert r["partial"]
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            while s.s.recv(1 << 20):
                pass


@BOTH
def test_client_that_leaves(g, w, version):
    """By close_notify, by closing, or without a word: its worker is free at once."""
    for leave in ("notify", "close", "reset"):
        w.clear()
        w.once(chunks=2000, pace=0.01)
        s = Stream(Door(g, client(version)))
        s.event()
        r = w.last
        left = time.monotonic()
        if leave == "notify":
            s.s.settimeout(0.01)
            quietly(s.s.unwrap)
        elif leave == "close":
            s.close()
        else:
            s.vanish()
        until(lambda: r.client_closed_at, 2 * SLOW, f"the worker's connection being closed ({leave})")
        assert r.client_closed_at - left < 0.5 * SLOW
        s.close()


@BOTH
def test_close_notify_is_answered(g, version):
    """An idle client that says goodbye is told the same, and not before."""
    with Door(g, client(version), ragged=False).connect(timeout=5 * SLOW) as s:
        s.sendall(request("GET", "/livez", host=NAME))
        assert s.recv(65536).startswith(b"HTTP/1.1 200 ")
        s.unwrap().close()


def test_idle_ones_are_told(gate):
    """keepalive_ms over: close_notify, then the end."""
    g = tls_gate(gate, server={"keepalive_ms": 300})
    with Door(g, ragged=False).connect(timeout=5 * SLOW) as s:
        s.sendall(request("GET", "/livez", host=NAME))
        assert s.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert s.recv(1) == b""


def test_cut_answers_look_cut(gate):
    """A worker that breaks off: its client gets no close_notify, so that what came cannot be taken for the whole (RFC 8446 section 6.1)."""
    def script(c):
        c.read_request()
        c.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"half\":")
        time.sleep(0.2)
    with RawWorker(script) as bad:
        g = tls_gate(gate, models=[model("m", bad)])
        with Door(g, ragged=False).connect(timeout=10) as s:
            s.sendall(chat("x"))
            with pytest.raises((ssl.SSLError, ConnectionResetError)):
                while s.recv(65536):
                    pass


def test_error_event_at_the_end_of_a_stream(gate):
    """A stream that breaks off ends with an error event, its chunks and close_notify."""
    def script(c):
        c.read_request()
        c.send(SSE_HEAD)
        c.chunk(sse_event("one"))
        time.sleep(0.2)
    with RawWorker(script) as bad:
        g = tls_gate(gate, models=[model("m", bad)])
        with Stream(Door(g, ragged=False)) as s:
            events = s.rest()
            assert s.whole and b'"error"' in events[-1]
            assert s.wait_closed()


@BOTH
def test_resumption_over_loops(g, version):
    """A ticket is good on every loop, however often; the count tells."""
    _, first = Door(g, client(version)).get()
    ctx = client(version)
    _, first = Door(g, ctx).get()
    assert not first.reused
    before, session = metric(g, ADMIN, "tollgate_tls_resumed_total"), first.session
    for _ in range(24):
        _, facts = Door(g, ctx, session).get()
        assert facts.reused
        session = facts.session
    assert metric(g, ADMIN, "tollgate_tls_resumed_total") == before + 24
    assert g.reload()["event"] == "config.reloaded"
    for _ in range(8):
        assert Door(g, ctx, session).get()[1].reused, "after a reload"


def test_tickets_of_another_gate(gate, g):
    """Keys are drawn at each start: what another process sealed is a full handshake, no error."""
    ctx = client(V.TLSv1_3)
    _, first = Door(g, ctx).get()
    h = tls_gate(gate)
    text, facts = Door(h, ctx, first.session).get()
    assert text.startswith("HTTP/1.1 200 ") and not facts.reused


def test_counts(gate):
    g = tls_gate(gate)
    for _ in range(5):
        Door(g).get()
    assert metric(g, ADMIN, "tollgate_tls_handshakes_total") == 5
    assert metric(g, ADMIN, "tollgate_tls_handshakes_failed_total") == 0


@BOTH
def test_drain(gate, worker, version):
    """SIGTERM: streams end whole and in due form, an idle connection is told, one that has been told it may go on is answered once more, new ones are refused."""
    w = worker()
    w.behave(chunks=30, pace=0.05)
    g = tls_gate(gate, models=[model("m", w)])
    port, door = tls_port(g), Door(g, client(version), ragged=False)
    idle = door.connect(timeout=10)
    idle.sendall(request("GET", "/livez", host=NAME))
    assert idle.recv(65536).startswith(b"HTTP/1.1 200 ")
    with Stream(door) as s:
        s.event()
        os.kill(g.pid, signal.SIGTERM)
        g.wait_log(lambda r: r["event"] == "gate.draining")
        idle.sendall(request("GET", "/livez", host=NAME))
        last = read_all(idle)
        assert last.startswith(b"HTTP/1.1 ") and b"Connection: close" in last
        events = s.rest()
        assert s.whole and events[-1] == b"data: [DONE]" and s.wait_closed()
    idle.close()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port), 2)
    ended(g)


def test_drain_with_a_handshake_on_its_way(gate):
    """It does not hold the end up."""
    g = tls_gate(gate)
    half = socket.create_connection(("127.0.0.1", tls_port(g)))
    half.sendall(b"\x16\x03\x01")
    time.sleep(0.1)
    start = time.monotonic()
    g.stop()
    assert time.monotonic() - start < 4 * SLOW
    half.close()


def test_drain_deadline(gate, worker):
    """A stream that is still running then gets its error event, over TLS too."""
    w = worker()
    w.behave(chunks=1000, pace=0.05)
    g = tls_gate(gate, models=[model("m", w)], server={"drain_ms": 300})
    with Stream(Door(g, ragged=False)) as s:
        s.event()
        os.kill(g.pid, signal.SIGTERM)
        events = s.rest()
        assert s.whole and b'"error"' in events[-1]
    ended(g)


def test_memory_of_idle_connections(gate):
    """SSL_MODE_RELEASE_BUFFERS: a connection that is idle costs about 15 KiB, not 50."""
    g = tls_gate(gate, server={"threads": 1})
    ctx, held = client(), []
    for _ in range(50):
        Door(g, ctx).get()
    before, n = rss_kb(g.pid), 400
    for _ in range(n):
        s = Door(g, ctx).connect()
        s.sendall(request("GET", "/livez", host=NAME))
        assert s.recv(65536).startswith(b"HTTP/1.1 200 ")
        held.append(s)
    each = (rss_kb(g.pid) - before) / n
    for s in held:
        s.close()
    print(f"{each:.1f} KiB a connection")
    assert each < 30 * (SLOW if SLOW == 1 else 20)


def test_the_worker_side_stays_plain(g, w):
    """What a TLS client asks reaches the worker as ever; the record says TLS."""
    r = exchange(Door(g), chat("hello", headers=[("Connection", "close")]), timeout=10)
    assert r.statuses == [200] and g.record(r.answers[0].header("x-request-id"))["tls"] == "TLSv1.3"
    assert w.last.header("host") and "tls" not in w.last.head.decode().lower()


@pytest.mark.slow
def test_soak(g, w):
    """Clients of every kind for a while: no error but theirs, and memory stays."""
    end = time.monotonic() + min(float(os.environ.get("TOLLGATE_SOAK", "60")), 600)
    w.behave(chunks=5)
    faults, done = [], [0]

    def go(i):
        ctx, session, k = client((V.TLSv1_2, V.TLSv1_3)[i % 2]), None, 0
        while time.monotonic() < end:
            k += 1
            try:
                if (i + k) % 5 == 0:
                    s = Stream(Door(g, ctx, session))
                    s.event()
                    s.vanish()
                else:
                    with Door(g, ctx, session).connect(timeout=30) as s:
                        send_in(s, post("t" * (k * 997 % 100000)), 1 + k * 13 % 9000)
                        a = answers(read_all(s))[0]
                        session = s.session
                        if a.status != 200 or content(a) != "t" * (k * 997 % 100000):
                            faults.append((a.status, len(a.body)))
                done[0] += 1
            except OSError as e:
                faults.append(repr(e))
    threads = [threading.Thread(target=go, args=(i,), daemon=True) for i in range(6)]
    time.sleep(0)
    for t in threads:
        t.start()
    time.sleep(5)
    early = rss_kb(g.pid)
    for t in threads:
        t.join(700)
    assert not faults and done[0] > 50, faults[:5]
    assert rss_kb(g.pid) - early < 16 * 1024
