"""
Faults that an audit of the gate found, one test each, clients' side: floods, slow readers, dripped bodies, the drain. Each docstring says what went
wrong. What workers did wrong is in test_regressions_workers.py.
"""
import os
import re
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lib.gate import ADMIN, READ, model
from lib.raw import CHAT, SLOW, chat, exchange, rss_kb, until
from lib.wire import request

CLOSE = ("Connection", "close")
METRICS = request("GET", "/metrics", [("X-API-Key", ADMIN)])
BIG = b'{"x":"' + b"a" * (3 << 20) + b'"}'


def narrow(g, data, rcvbuf=4096, timeout=20):
    """A client whose kernel takes little on its behalf, so that what it does not read is soon the gate's."""
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
    s.settimeout(timeout)
    s.connect(("127.0.0.1", g.port))
    s.sendall(data)
    return s


def read_all(s, seconds=20):
    """Bytes until the gate closes, and whether it did so in order."""
    out, end = bytearray(), time.monotonic() + seconds
    try:
        while (left := end - time.monotonic()) > 0:
            s.settimeout(left)
            if not (got := s.recv(1 << 18)):
                return bytes(out), True
            out += got
    except (TimeoutError, ConnectionResetError):
        pass
    return bytes(out), False


def statuses(raw):
    """Of answers with Content-Length that follow each other; the last must end where the bytes end."""
    at, out = 0, []
    while at < len(raw):
        end = raw.index(b"\r\n\r\n", at) + 4
        out.append(int(raw[at + 9:at + 12]))
        at = end + int(re.search(rb"\r\nContent-Length: (\d+)\r\n", raw[at:end]).group(1))
    assert at == len(raw), f"the last of {len(out)} answers lacks {at - len(raw)} bytes"
    return out


def livez(g, timeout=10):
    return exchange(g, request("GET", "/livez", [CLOSE]), timeout=timeout)


# ------------------------------------------------------------------------------------------------ clients that do not read

def test_a_flood_of_pipelined_requests_holds_up_nobody(gate):
    """Requests were worked through, and answers heaped up, as fast as one client could send, read or not: others waited seconds, memory grew by gigabytes."""
    stall = 1.2 * SLOW
    g = gate(toml={"server": {"threads": 1, "write_stall_ms": int(stall * 1000)}})
    assert livez(g).statuses == [200]
    before, cut, sent, flood = rss_kb(g.pid), [], 0, request("GET", "/nope") * 2000
    s = g.connect(timeout=30)

    def send():
        nonlocal sent
        try:
            while sent < 1 << 30:
                s.sendall(flood)
                sent += len(flood)
        except OSError as e:
            cut.append((time.monotonic(), e))
    start = time.monotonic()
    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    slowest = top = 0
    while not cut and time.monotonic() - start < 20:
        r = livez(g)
        assert r.statuses == [200]
        slowest, top = max(slowest, r.seconds), max(top, rss_kb(g.pid))
        time.sleep(0.05)
    s.close()
    sender.join(10)
    assert cut and not isinstance(cut[0][1], TimeoutError), f"never cut off; it had sent {sent} bytes"
    assert cut[0][0] - start < 3 * stall + 2 * SLOW, "cut far too late"
    assert slowest < 0.5 * SLOW, f"another client waited {slowest:.2f} s"
    if SLOW == 1:
        assert top - before < 8192, f"grew by {top - before} KiB"


def test_the_body_clock_runs_behind_answers_that_were_pending(gate, worker):
    """A body that stopped coming, behind earlier answers not yet taken: the moment they were taken its clock was stopped, and the connection stayed for ever."""
    g = gate(models=[model("m", worker())], toml={"server": {"threads": 1, "body_idle_ms": 1600 * SLOW, "write_stall_ms": 60000, "keepalive_ms": 60000}})
    n = 600
    s = narrow(g, METRICS * n + chat("x" * 100000)[:300])
    time.sleep(0.8)
    start = time.monotonic()
    raw, closed = read_all(s, 12 * SLOW)
    s.close()
    assert closed, f"still open after {time.monotonic() - start:.1f} s"
    assert statuses(raw) == [200] * n + [408]
    assert g.wait_log(lambda r: r["reason"] == "body_timeout")["status"] == 408


def test_requests_behind_pending_answers_are_not_forgotten(gate, worker):
    """While answers are pending nothing more is read or begun: once they are taken, what was sent meanwhile must be answered, in its order."""
    g = gate(models=[model("m", worker().behave(text="fine"), connect_ms=10000, first_byte_ms=20000)], toml={"server": {"threads": 1}})
    s = narrow(g, METRICS * 400 + chat("x" * 5000) + request("GET", "/livez") + chat("y" * 100000)[:70000])
    time.sleep(0.8)
    s.sendall(chat("y" * 100000)[70000:] + request("GET", "/nope", [("X-API-Key", READ), CLOSE]))
    raw, closed = read_all(s, 10 * SLOW)
    s.close()
    assert closed and statuses(raw) == [200] * 403 + [404]


def test_a_client_that_reads_slowly_but_steadily_is_not_cut(gate, worker):
    """The write clock was only reset when the socket became writable, a third of its buffer later: who read slowly but without a pause was cut."""
    w = worker().behave(body=BIG * 4)
    g = gate(models=[model("m", w)], toml={"server": {"threads": 1, "write_stall_ms": 1000}})
    s = narrow(g, chat(headers=[CLOSE]), rcvbuf=65536)
    got, end = 0, time.monotonic() + 4
    while time.monotonic() < end:
        piece = s.recv(8192)
        assert piece, f"cut after {got} bytes"
        got += len(piece)
        time.sleep(0.02)
    assert got < 4 << 20, "it was read so fast that nothing was proven"
    raw, closed = read_all(s, 10 * SLOW)
    s.close()
    assert closed and got + len(raw) > len(BIG) * 4 and raw.endswith(b'a"}')
    assert g.wait_log(lambda r: r["endpoint"] == CHAT)["status"] == 200


# ------------------------------------------------------------------------------------------------ request bodies

def test_announced_bodies_take_nothing_from_others(gate, worker):
    """
    The announced length of a body was counted as memory in use, and only pauses were timed: a few connections that announced 10 MiB and sent a byte now and
    then made the gate refuse everybody's bodies for as long as they liked.
    """
    body_s = 2.0 * SLOW
    w = worker().behave(text="fine")
    g = gate(models=[model("m", w)], toml={"server": {"threads": 1, "body_ms": int(body_s * 1000), "body_idle_ms": 60000, "max_buffered_bytes": 25 * 10485760}})
    head = request("POST", CHAT, [("X-API-Key", READ), ("Content-Type", "application/json"), ("Content-Length", 10485760)])
    socks, stop = [], threading.Event()
    for _ in range(25):
        s = g.connect(timeout=30)
        s.sendall(head + b'{"model":"m"')
        socks.append(s)
    start = time.monotonic()

    def drip():
        while not stop.wait(0.1):
            for s in socks:
                try:
                    s.send(b" ")
                except OSError:
                    pass
    dripper = threading.Thread(target=drip)
    dripper.start()
    try:
        time.sleep(0.3)
        assert exchange(g, chat("y" * (1 << 20), headers=[CLOSE]), timeout=10 * SLOW).statuses == [200]
        assert time.monotonic() - start < body_s, "too slow a machine: the drippers were gone already"
        for s in socks:
            s.settimeout(10 * SLOW)
            assert s.recv(1000).startswith(b"HTTP/1.1 408 ")
        took = time.monotonic() - start
        assert 0.8 * body_s < took < body_s + 2 * SLOW
    finally:
        stop.set()
        dripper.join()
        for s in socks:
            s.close()
    assert len(w.requests) == 1


def test_bodies_that_came_with_their_head_count_as_memory(gate, worker):
    """Only bodies that came in several reads were counted: hundreds of 60 KB bodies could lie in memory past server.max_buffered_bytes."""
    w = worker().behave(hang=True)
    g = gate(models=[model("m", w)], toml={"server": {"threads": 1, "max_buffered_bytes": 1 << 20, "max_body_bytes": 1000000}})
    data, socks = chat("x" * 60000), []
    try:
        for _ in range(80):
            s = g.connect()
            s.sendall(data)
            socks.append(s)
        refused = 0
        end = time.monotonic() + 1.5 * SLOW
        for s in socks:
            s.settimeout(max(0.01, min(0.3, end - time.monotonic())))
            try:
                answer = s.recv(4000)
            except TimeoutError:
                continue
            assert answer.startswith(b"HTTP/1.1 503 ") and b"\r\nRetry-After: " in answer
            refused += 1
        assert len(w.requests) + refused == 80
        assert 1 <= len(w.requests) <= (1 << 20) // 60000, f"{len(w.requests)} bodies of 60 KB lie in 1 MiB"
    finally:
        for s in socks:
            s.close()
    w.behave(text="fine")
    until(lambda: exchange(g, chat("y" * 900000, headers=[CLOSE]), timeout=5 * SLOW).statuses == [200], 5 * SLOW, "the memory being given back")


# ------------------------------------------------------------------------------------------------ the drain

def test_what_was_answered_arrives_whole_although_it_ends(gate, worker):
    """At SIGTERM a connection between two requests was closed at once: answers still pending for a slow reader were lost although logged as given."""
    g = gate(models=[model("m", worker().behave(body=BIG * 3))], toml={"server": {"threads": 1}})
    local, far = narrow(g, METRICS * 500), narrow(g, chat())
    time.sleep(0.8)
    os.kill(g.pid, signal.SIGTERM)
    time.sleep(0.8)  # longer than an idle connection is kept then
    far_raw, far_closed = read_all(far)
    raw, closed = read_all(local)
    local.close()
    far.close()
    assert far_closed and statuses(far_raw) == [200] and far_raw.endswith(BIG)
    got = statuses(raw)
    assert closed and set(got) == {200}
    assert g.proc.wait(20 * SLOW) == 0
    assert sum(r["endpoint"] == "/metrics" for r in g.requests()) == len(got), "what was logged as answered is not what arrived"


def taken_for(g, s):
    """How much the gate's kernel holds for a client, once it takes no more: tx_queue of /proc/net/tcp."""
    ends = f":{g.port:04X}", f":{s.getsockname()[1]:04X}"
    last, same = 0, 0
    while same < 5:
        time.sleep(0.05)
        rows = [line.split() for line in open("/proc/net/tcp")]
        [now] = [int(r[4].split(":")[0], 16) for r in rows if r[1].endswith(ends[0]) and r[2].endswith(ends[1])]
        last, same = now, same + 1 if now and now == last else 0
    return last


def test_an_answer_that_ends_while_it_is_written_keeps_no_drain_waiting(gate, worker):
    """A connection that took the rest of its last answer after draining had begun was kept as long as any idle one: the gate ended at its deadline only."""
    line = b'data: {"choices":[{"delta":{"content":"' + b"a" * 16000 + b'"}}]}\n\n'
    w = worker().behave(body=BIG * 5)
    g = gate(models=[model("m", w)], toml={"server": {"threads": 1, "drain_ms": 60000, "keepalive_ms": 60000}})
    s = narrow(g, chat())
    room = taken_for(g, s)
    s.close()
    # The last of an answer is to be what no longer fits: whichever of these it is, it has all the others to show that they do not mind.
    socks = []
    for n in range(-16, 16):
        w.once(events=[line, line * (room // len(line) + n)], pace=1.5)
        socks.append(narrow(g, chat(stream=True)))
    time.sleep(0.7)
    os.kill(g.pid, signal.SIGTERM)
    time.sleep(1.5 * SLOW)
    try:
        with ThreadPoolExecutor(len(socks)) as pool:
            got = list(pool.map(lambda s: read_all(s, 10 * SLOW), socks))
        for raw, closed in got:
            assert closed and raw.endswith(b"0\r\n\r\n"), (closed, len(raw))
        assert g.proc.wait(5 * SLOW) == 0
    finally:
        for s in socks:
            s.close()


@pytest.mark.parametrize("kind", ["stream", "plain", "local"])
def test_a_stalled_client_does_not_spoil_the_end(gate, worker, kind):
    """A client that took nothing outlived the drain deadline until the write clock: the gate was ended by force, with exit code 1."""
    event = b'data: {"choices":[{"delta":{"content":"' + b"a" * 60000 + b'"}}]}\n\n'
    w = worker().behave(**({"events": [event] * 300} if kind == "stream" else {"body": BIG * 5}))
    g = gate(models=[model("m", w)], toml={"server": {"threads": 1, "drain_ms": 400, "write_stall_ms": 60000}})
    s = narrow(g, METRICS * 600 if kind == "local" else chat(stream=kind == "stream"))
    time.sleep(0.7)
    start = time.monotonic()
    g.stop()  # asserts that it ends with 0
    took = time.monotonic() - start
    s.close()
    assert took < 4 * SLOW
    assert not [r for r in g.log() if r["event"] == "gate.forced_end"]
