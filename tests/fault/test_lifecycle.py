"""Start, reload, log rotation, drain and end of the gate, and `tollgate run`: with requests under way, and with everything that may be wrong."""
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from lib.gate import BINARY, READ, REPORT, clean_env, free_port, model, run_cli
from lib.pool import CHILD, gone, running
from lib.raw import CHAT, SLOW, Stream, chat, exchange, until
from lib.wire import answers, request


def plain(g, text="hello", **kw):
    return exchange(g, chat(text, headers=[("Connection", "close")], **kw), timeout=10 * SLOW)


def ended(g, timeout=10):
    """The gate's exit status, once it has ended."""
    until(lambda: not g.alive(), timeout * SLOW, "the gate's end")
    return g.proc.returncode


def refused(port):
    try:
        socket.create_connection(("127.0.0.1", port), 2).close()
        return False
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        return False  # the kernel had taken it in the moment in which the listener closed


# ------------------------------------------------------------------------------------------------ SIGTERM (F18)

def test_streams_finish(gate, worker):
    """Open streams run to their end, new connections are refused meanwhile, and the gate exits with 0 when the last is done."""
    w = worker().behave(chunks=20, pace=0.06 * SLOW, text="x" * 200)
    g = gate(models=[model("m", w)])
    streams = [Stream(g, timeout=20 * SLOW).head() for _ in range(6)]
    firsts = [s.event() for s in streams]
    assert all(firsts)
    port = g.port
    os.kill(g.pid, signal.SIGTERM)
    until(lambda: refused(port), 2 * SLOW, "new connections being refused")
    assert g.alive()
    for s in streams:
        events = s.rest()
        assert s.whole and events[-1] == b"data: [DONE]" and not any(b'"error"' in e for e in events)
        assert s.wait_closed(3 * SLOW)
    assert ended(g) == 0
    assert len([r for r in g.requests() if r["endpoint"] == CHAT and r["status"] == 200 and not r["partial"]]) == 6


def test_a_connection_that_was_told_it_may_go_on_gets_one_more_answer(gate, worker):
    """The head of its stream had left without Connection: close when the end was asked for: its next request is answered, and told."""
    g = gate(models=[model("m", worker().behave(chunks=6, pace=0.08 * SLOW, text="x" * 60))])
    with Stream(g, timeout=20 * SLOW) as s:
        assert s.head().headers.get("connection", "") != "close"
        s.event()
        os.kill(g.pid, signal.SIGTERM)
        assert s.rest()[-1] == b"data: [DONE]" and s.whole
        s.s.sendall(chat("one more"))
        raw = b""
        while got := s.s.recv(65536):
            raw += got
    (a,) = answers(raw)
    assert a.status == 200 and a.whole and a.header("connection") == "close"
    assert ended(g) == 0


def test_no_answered_request_is_lost_under_load(gate, worker):
    """Clients that send all the time: every request that was taken is answered whole; every answer has its log line; none comes twice."""
    w = worker().behave(delay=0.002)
    g = gate(models=[model("m", w, slots=8, queue=1000)])
    stop, faults, good = threading.Event(), [], []

    def client(n):
        i = 0
        while not stop.is_set():
            try:
                s = g.connect(timeout=10 * SLOW)
            except OSError:
                return  # refused: the gate is draining
            with s:
                last = False
                while not stop.is_set() and not last:
                    rid = f"load-{n}-{i}"
                    i += 1
                    try:
                        s.sendall(chat(rid, headers=[("X-Request-ID", rid)]))
                        buf = b""
                        while True:
                            got = s.recv(65536)
                            buf += got
                            if not got:
                                break
                            head, sep, rest = buf.partition(b"\r\n\r\n")
                            m = re.search(rb"(?i)content-length: (\d+)", head)
                            if sep and m and len(rest) >= int(m.group(1)):
                                break
                    except (ConnectionResetError, BrokenPipeError, TimeoutError) as e:
                        faults.append((rid, repr(e)))
                        return
                    if not buf:
                        faults.append((rid, "closed without an answer"))
                        return
                    a = answers(buf)[0]
                    if a.status != 200 or not a.whole or a.json()["choices"][0]["message"]["content"] != rid:
                        faults.append((rid, a.status, a.whole))
                    else:
                        good.append(rid)
                    last = a.header("connection") == "close"
    threads = [threading.Thread(target=client, args=(n,), daemon=True) for n in range(12)]
    for t in threads:
        t.start()
    time.sleep(0.7 * SLOW)
    os.kill(g.pid, signal.SIGTERM)
    status = ended(g)
    stop.set()
    for t in threads:
        t.join(10 * SLOW)
    assert status == 0 and not faults, faults[:5]
    assert len(good) > 50
    lines = [r["request_id"] for r in g.requests() if r["status"] == 200]
    assert sorted(lines) == sorted(good)
    assert sorted(r.json()["messages"][0]["content"] for r in w.requests) == sorted(good)


def test_readyz_and_connection_close_while_draining(gate, worker):
    """A connection that is open already is still served: /readyz tells the balancer to stay away, answers say close."""
    w = worker().behave(chunks=200, pace=0.05, text="x" * 200)
    g = gate(models=[model("m", w)])
    conn = g.connect(timeout=5)
    conn.sendall(request("GET", "/readyz"))
    first = answers(conn.recv(65536))[0]
    assert first.status == 200 and first.header("connection") != "close"
    s = Stream(g).head()
    s.event()
    os.kill(g.pid, signal.SIGTERM)
    until(lambda: refused(g.port), 2 * SLOW, "draining")
    conn.sendall(request("GET", "/readyz"))
    a = answers(conn.recv(65536))[0]
    assert a.status == 503 and a.header("connection") == "close"
    assert conn.recv(65536) == b""
    conn.close()
    s.vanish()
    assert ended(g) == 0


def test_idle_connections_do_not_hold_it_up(gate):
    g = gate(toml={"server": {"drain_ms": 20000}})
    idle = []
    for i in range(20):
        s = g.connect(timeout=5)
        if i % 2:
            s.sendall(request("GET", "/livez"))
            assert s.recv(65536).startswith(b"HTTP/1.1 200 ")
        idle.append(s)
    start = time.monotonic()
    os.kill(g.pid, signal.SIGTERM)
    assert ended(g) == 0 and time.monotonic() - start < 4 * SLOW
    for s in idle:
        s.close()


def test_the_deadline_cuts_what_is_left(gate, worker):
    """server.drain_ms: a stream that goes on gets one error event, a plain answer is cut short, a queued request an answer or a close; then exit 0."""
    w = worker().behave(by=lambda r: {"delay": 0, "chunks": 10_000, "pace": 0.05, "text": "x" * 20_000, "chunked": True})
    g = gate(models=[model("m", w, slots=3, queue=8)], toml={"server": {"drain_ms": 800 * SLOW}})
    a, b = Stream(g, timeout=15 * SLOW).head(), Stream(g, timeout=15 * SLOW).head()
    a.event(), b.event()
    body = Stream(g, stream=False, timeout=15 * SLOW).head()
    w.wait(3)
    queued = Stream(g, "queued", stream=False, timeout=15 * SLOW)
    time.sleep(0.1)
    start = time.monotonic()
    os.kill(g.pid, signal.SIGTERM)
    for s in (a, b):
        events = s.rest()
        error = json.loads(events[-1].removeprefix(b"data: "))["error"]
        assert error["message"] and not any(b"[DONE]" in e for e in events)
        assert s.wait_closed(3 * SLOW)
    assert body.wait_closed(3 * SLOW) and not body.buf.endswith(b"0\r\n\r\n")
    assert queued.wait_closed(3 * SLOW) and (not queued.buf or queued.buf.startswith(b"HTTP/1.1 503 "))
    assert ended(g) == 0
    assert 0.6 * SLOW < time.monotonic() - start < 4 * SLOW
    recs = [r for r in g.requests() if r["reason"] == "draining"]
    assert len(recs) == 4 and sum(r["partial"] for r in recs) >= 3
    for r in w.requests:
        assert r.wait_end(2 * SLOW).client_closed_at is not None


@pytest.mark.parametrize("more", [[signal.SIGHUP], [signal.SIGHUP, signal.SIGHUP]], ids=["hup", "hup_hup"])
def test_a_reload_while_draining_does_no_harm(gate, worker, more):
    w = worker().behave(chunks=12, pace=0.05, text="x" * 100)
    g = gate(models=[model("m", w)])
    s = Stream(g).head()
    s.event()
    os.kill(g.pid, signal.SIGTERM)
    for sig in more:
        time.sleep(0.1)
        os.kill(g.pid, sig)
    s.rest()
    assert s.whole
    assert ended(g) == 0


def test_many_reloads_are_asked_for_and_few_are_done(gate, worker, tmp_path):
    """Asked for faster than they can be done, one does for all that came meanwhile, the last one asked for sees what is there by then, and SIGTERM does not wait for the rest."""
    keys = tmp_path / "keys.txt"
    keys.write_text("\n".join(f"{n:032x}" for n in range(20000 // SLOW**2)))
    keys.chmod(0o600)
    g = gate(models=[model("one", worker())], env={"CHAPKIT_API_KEY_FILE": str(keys)})

    def done():
        return sum(r.get("event") == "config.reloaded" for r in g.log())

    def storm():
        for _ in range(100):
            os.kill(g.pid, signal.SIGHUP)
            time.sleep(0.001)

    storm()
    g.write_config(models=[model("two", worker())])
    os.kill(g.pid, signal.SIGHUP)
    until(lambda: models_of(g) == ["two"], 10 * SLOW, "the last one's models")
    before = done()
    assert 1 <= before < 50
    storm()
    os.kill(g.pid, signal.SIGTERM)
    assert ended(g) == 0 and done() - before < 50


def test_asked_twice_it_does_not_wait(gate, worker):
    """A second SIGTERM is the deadline come early: what runs is cut, and the end is still an orderly one."""
    w = worker().behave(chunks=10_000, pace=0.05, text="x" * 20_000)
    g = gate(models=[model("m", w)])
    s = Stream(g, timeout=10 * SLOW).head()
    s.event()
    start = time.monotonic()
    os.kill(g.pid, signal.SIGTERM)
    until(lambda: refused(g.port), 2 * SLOW, "draining")
    os.kill(g.pid, signal.SIGTERM)
    events = s.rest()
    assert b'"error"' in events[-1] and b"[DONE]" not in events[-1]
    assert ended(g) == 0 and time.monotonic() - start < 10 * SLOW  # the answer goes on for minutes


def test_sigint_ends_it_too(gate):
    g = gate()
    os.kill(g.pid, signal.SIGINT)
    assert ended(g) == 0


# ------------------------------------------------------------------------------------------------ SIGHUP

def models_of(g):
    return [m["id"] for m in g.client(READ).get("/v1/models").json()["data"]]


def test_reload_adds_and_removes_models(gate, worker):
    a, b = worker(), worker()
    g = gate(models=[model("one", a)])
    assert models_of(g) == ["one"]
    g.write_config(models=[model("one", a), model("two", b)])
    assert g.reload()["event"] == "config.reloaded"
    assert sorted(models_of(g)) == ["one", "two"]
    assert plain(g, model="two").statuses == [200] and len(b.requests) == 1
    g.write_config(models=[model("two", b)])
    assert g.reload()["event"] == "config.reloaded"
    assert models_of(g) == ["two"]
    r = plain(g, model="one")
    assert r.statuses == [404] and r.answers[0].json()["error"]["code"] == "model_not_found"
    until(lambda: a.open == 0, 3 * SLOW, "the connections to a worker that is no longer named being closed")


def test_reload_changes_keys(gate, worker):
    """Keys of a list in the file and of api_keys.json."""
    w = worker()
    one, two, three = "list-key-aaaaaaaaaaaaaaaa", "list-key-bbbbbbbbbbbbbbbb", "file-key-cccccccccccccccc"
    g = gate(models=[model("m", w)], toml={"auth": {"keys": [one]}})
    assert [plain(g, key=k).statuses for k in (one, two, three)] == [[200], [401], [401]]
    g.write_config(toml={"auth": {"keys": [two]}})
    g.write_keys({"valid_keys": [three], "require_auth_for_external": True, "local_networks": ["127.0.0.1"]})
    assert g.reload()["event"] == "config.reloaded"
    assert [plain(g, key=k).statuses for k in (one, two)] == [[401], [200]]
    until(lambda: plain(g, key=three).statuses == [200], 1.5 * SLOW, "the key file being taken over")


def test_reload_changes_limits_and_sizes(gate, worker):
    g = gate(models=[model("m", worker())])
    assert plain(g).statuses == [200]
    g.write_config(toml={"limits": {"infer": "2/hour"}, "server": {"max_body_bytes": 2000}})
    g.reload()
    assert [plain(g, "x" * 3000).statuses, plain(g).statuses, plain(g).statuses] == [[413], [200], [429]]


BROKEN = {
    "syntax": ("[server\nlisten = 3\n", r"tollgate\.toml:1"),
    "unknown_key": ("[server]\nlisten = [\"127.0.0.1:0\"]\nthreats = 2\n", r"tollgate\.toml:3.*threats.*threads"),
    "unknown_table": ("[sever]\nthreads = 2\n", r"tollgate\.toml:1.*sever.*server"),
    "wrong_type": ("[server]\nthreads = \"two\"\n", r"tollgate\.toml:2.*threads"),
    "out_of_bounds": ("[server]\nmax_headers = 100000\n", r"tollgate\.toml:2.*max_headers"),
    "model_without_name": ("[[model]]\nurls = [\"http://127.0.0.1:1\"]\n", r"tollgate\.toml:1.*name"),
    "bad_url": ("[[model]]\nname = \"m\"\nurls = [\"ftp://x\"]\n", r"tollgate\.toml:\d.*urls"),
    "same_model_twice": ("[[model]]\nname = \"m\"\nurls = [\"http://127.0.0.1:1\"]\n[[model]]\nname = \"m\"\nurls = [\"http://127.0.0.1:1\"]\n", r"tollgate\.toml:\d.*m\b"),
    "bad_rate": ("[limits]\ninfer = \"ten/minute\"\n", r"tollgate\.toml:2.*infer"),
    "empty_secret_file": ("[auth]\nadmin_key = \"file:/nonexistent/key\"\n", r"admin_key"),
}


@pytest.mark.parametrize("text,why", [pytest.param(*v, id=k) for k, v in BROKEN.items()])
def test_a_broken_file_keeps_what_was(gate, worker, text, why):
    w = worker()
    g = gate(models=[model("m", w)], keys="read" if "admin_key" in text else True)
    with Stream(g, timeout=10 * SLOW) as s:  # and what runs goes on
        w.behave(chunks=10, pace=0.02)
        g.replace("tollgate.toml", text)
        rec = g.reload()
        assert rec["event"] == "config.reload_failed" and rec["level"] in ("error", "warn")
        assert re.search(why, json.dumps(rec)), rec
        s.rest()
        assert s.whole
    assert plain(g).statuses == [200] and models_of(g) == ["m"]


@pytest.mark.parametrize("text,why", [pytest.param(*v, id=k) for k, v in BROKEN.items()])
def test_a_broken_file_at_the_start(gate, text, why):
    g = gate(start=False, keys="read" if "admin_key" in text else True)
    g.replace("tollgate.toml", text)
    p = run_cli("serve", "--config", g.config, cwd=g.dir, env=g.env)
    assert p.returncode == 2 and re.search(why, p.stderr), p.stderr
    assert not (g.dir / "logs").exists() or "listening" not in p.stderr


def test_a_missing_file_keeps_what_was(gate, worker):
    g = gate(models=[model("m", worker())])
    os.unlink(g.config)
    assert g.reload()["event"] == "config.reload_failed"
    assert plain(g).statuses == [200]


def test_what_needs_a_restart_is_named(gate, worker):
    w = worker()
    g = gate(models=[model("m", w)])
    old = g.port
    g.write_config(toml={"server": {"threads": 1, "listen": [f"127.0.0.1:{free_port()}"], "max_connections": 77}}, models=[model("m", w), model("n", w)])
    g.reload()
    seen = json.dumps([r for r in g.log() if "restart" in json.dumps(r) or "reload" in r.get("event", "")])
    assert "threads" in seen and "listen" in seen and "max_connections" in seen and "restart" in seen
    assert sorted(models_of(g)) == ["m", "n"] and g.port == old and plain(g).statuses == [200]


def test_reload_under_load(gate, worker):
    """Thirty reloads while clients send: no request fails, streams that began before go on to their end."""
    a, b = worker(), worker()
    g = gate(models=[model("m", a)])
    a.behave(chunks=40, pace=0.05, text="x" * 400)
    long = Stream(g, timeout=20 * SLOW).head()
    long.event()
    a.behave()
    stop, bad, count = threading.Event(), [], [0]

    def client():
        while not stop.is_set():
            r = plain(g)
            count[0] += 1
            if r.statuses != [200]:
                bad.append(r.raw[:300])
    threads = [threading.Thread(target=client, daemon=True) for _ in range(4)]
    for t in threads:
        t.start()
    for i in range(30):
        g.write_config(models=[model("m", b if i % 2 else a, slots=i % 3)])
        assert g.reload()["event"] == "config.reloaded"
    stop.set()
    for t in threads:
        t.join(10 * SLOW)
    assert not bad and count[0] > 30, bad[:3]
    long.rest()
    assert long.whole


def test_a_queue_lives_through_a_reload(gate, worker):
    w = worker().behave(delay=0.5 * SLOW)
    g = gate(models=[model("m", w, slots=1, queue=8)])
    streams = [Stream(g, f"n{i}", stream=False) for i in range(3)]
    w.wait(1)
    g.write_config(models=[model("m", w, slots=2, queue=8)])
    g.reload()
    assert [s.head().status for s in streams] == [200] * 3
    w.behave()
    assert plain(g).statuses == [200]


def test_the_log_is_opened_again(gate, worker):
    """As logrotate does it: rename, SIGHUP; no line is lost and none is cut."""
    g = gate(models=[model("m", worker())])
    ids = [plain(g).answers[0].header("x-request-id") for _ in range(5)]
    g.record(ids[-1])
    moved = g.log_path().with_name("app.log.old")
    os.rename(g.log_path(), moved)
    between = plain(g).answers[0].header("x-request-id")  # goes to the renamed file, or to the new one
    os.kill(g.pid, signal.SIGHUP)
    until(lambda: g.log_path().exists(), 3 * SLOW, "a new log")
    after = plain(g).answers[0].header("x-request-id")
    g.record(after)

    def both():
        return [json.loads(x) for x in moved.read_text().splitlines()], g.log()

    def seen():
        return sorted(r["request_id"] for r in sum(both(), []) if "endpoint" in r)
    until(lambda: len(seen()) >= 7, 2 * SLOW, "every line")  # each loop writes its own within 100 ms
    assert seen() == sorted(ids + [between, after])
    old, new = both()
    assert after in [r.get("request_id") for r in new] and after not in [r.get("request_id") for r in old]


# ------------------------------------------------------------------------------------------------ systemd

class Notify:
    """The socket a service manager would listen on."""

    def __init__(self, abstract=False):
        self.s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.dir = tempfile.TemporaryDirectory()
        path = f"\0tollgate-test-{os.getpid()}" if abstract else self.dir.name + "/notify"
        self.s.bind(path)
        self.env = {"NOTIFY_SOCKET": path.replace("\0", "@")}
        self.s.settimeout(10 * SLOW)

    def until(self, word):
        """Messages up to the one that has this assignment."""
        got = []
        while True:
            got.append(self.s.recv(4096).decode())
            if word in got[-1].split("\n"):
                return got

    def close(self):
        self.s.close()
        self.dir.cleanup()


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_sd_notify(gate, worker, abstract):
    n = Notify(abstract)
    try:
        g = gate(models=[model("m", worker())], env=n.env)
        assert "READY=1" in n.until("READY=1")[-1]
        os.kill(g.pid, signal.SIGHUP)
        reloading = n.until("RELOADING=1")[-1]
        assert re.search(r"MONOTONIC_USEC=\d+", reloading)  # sd_notify(3): Type=notify-reload needs it
        n.until("READY=1")
        g.replace("tollgate.toml", "[server\n")
        os.kill(g.pid, signal.SIGHUP)
        n.until("RELOADING=1")
        n.until("READY=1")  # also after a reload that was refused: it serves
        os.kill(g.pid, signal.SIGTERM)
        n.until("STOPPING=1")
        assert ended(g) == 0
    finally:
        n.close()


def test_notify_socket_that_is_not_there(gate, worker):
    g = gate(models=[model("m", worker())], env={"NOTIFY_SOCKET": "/nonexistent/notify"})
    assert plain(g).statuses == [200]


# ------------------------------------------------------------------------------------------------ addresses

def taken_port():
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    s.listen(1)
    return s, s.getsockname()[1]


def test_a_taken_port_stops_the_start(gate):
    s, port = taken_port()
    with s:
        g = gate(start=False, listen=["127.0.0.1:0", f"127.0.0.1:{port}"])
        p = run_cli("serve", "--config", g.config, cwd=g.dir, env=g.env)
        assert p.returncode == 1 and f"127.0.0.1:{port}" in p.stderr
        assert "ready" not in p.stderr.splitlines()


def test_also_with_a_taken_port_is_skipped(gate, worker):
    s, port = taken_port()
    free = free_port()
    with s:
        g = gate(models=[model("m", worker())], args=["--also", f"127.0.0.1:{port}", "--also", f"127.0.0.1:{free}"])
        assert f"127.0.0.1:{port}" in g.stderr() and port not in g.tcp() and free in g.tcp()
        assert plain(g).statuses == [200]
        with g.client(READ, url=f"http://127.0.0.1:{free}") as c:
            assert c.get("/v1/models").status_code == 200


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.1:99999", "nonsense", "[::1", "unix:", "127.0.0.1:port"])
def test_an_address_that_is_none(gate, address):
    g = gate(start=False, listen=[address])
    p = run_cli("serve", "--config", g.config, cwd=g.dir, env=g.env)
    assert p.returncode == 2 and "listen" in p.stderr


def test_a_socket_file_left_behind_is_taken_over(gate, worker, tmp_path):
    """After a crash the file is still there: nobody listens on it, so the next start takes it. One that is in use is left alone."""
    path = tmp_path / "g.sock"
    g = gate(models=[model("m", worker())], listen=[f"unix:{path}"])
    os.kill(g.pid, signal.SIGKILL)
    g.proc.wait()
    g.kill()
    assert path.exists()
    g2 = gate(models=[model("m", worker())], listen=[f"unix:{path}"])
    assert exchange(g2, request("GET", "/livez", [("Connection", "close")]), unix=path).statuses == [200]
    g3 = gate(start=False, listen=[f"unix:{path}"])
    p = run_cli("serve", "--config", g3.config, cwd=g3.dir, env=g3.env)
    assert p.returncode == 1 and str(path) in p.stderr
    assert exchange(g2, request("GET", "/livez", [("Connection", "close")]), unix=path).statuses == [200]


def test_two_gates_in_a_row(gate, worker):
    """One gate as the other's worker: ids, streams and errors pass through both."""
    w = worker()
    inner = gate(models=[model("m", w)])
    outer = gate(models=[model("m", inner.url, api_key=READ)])
    r = exchange(outer, chat("both", headers=[("Connection", "close"), ("X-Request-ID", "through-both")]), timeout=5 * SLOW)
    assert r.statuses == [200] and r.answers[0].header("x-request-id") == "through-both"
    assert inner.record("through-both")["status"] == outer.record("through-both")["status"] == 200
    with Stream(outer, "abcd") as s:
        assert s.rest()[-1] == b"data: [DONE]" and s.whole
    w.behave(chunks=10, pace=0.02, stop_after=3)
    with Stream(outer) as s:
        events = s.rest()
        assert b'"error"' in events[-1] and sum(b'"error"' in e for e in events) == 1
    w.behave(delay=20)
    s = Stream(outer)
    req = w.wait(4)[-1]
    left = s.vanish()
    assert req.wait_end(3 * SLOW).client_closed_at - left < 0.2 * SLOW


def test_two_gates_side_by_side(gate, worker):
    """Two processes on one worker: neither knows of the other, both work, one's end does not touch the other."""
    w = worker()
    a, b = gate(models=[model("m", w)]), gate(models=[model("m", w)])
    assert plain(a).statuses == plain(b).statuses == [200]
    a.stop()
    assert plain(b).statuses == [200]


def test_start_and_end_leave_nothing_behind(gate, worker, tmp_path):
    g = gate(models=[model("m", worker())])
    fds = Path(f"/proc/{g.pid}/fd")
    for _ in range(3):
        plain(g)
    before = len(list(fds.iterdir()))
    for i in range(200):
        assert plain(g, stream=bool(i % 2)).statuses == [200]
    until(lambda: len(list(fds.iterdir())) <= before + 2, 3 * SLOW, "file descriptors coming back")


# ------------------------------------------------------------------------------------------------ tollgate run

class Run:
    """`tollgate run` as a process; out grows as it writes."""

    def __init__(self, tmp_path, *args, child=(), listen="127.0.0.1:0"):
        self.pids_file = tmp_path / "pids"
        command = [sys.executable, str(CHILD), "{port}", "--pids", str(self.pids_file), *child]
        self.p = subprocess.Popen([str(BINARY), "run", "--name", "m", "--listen", listen, *args, "--", *command], cwd=tmp_path, env=clean_env(),
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.lines = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.p.stdout:
            self.lines.append(line)

    @property
    def out(self):
        return "".join(self.lines)

    def ready(self):
        until(lambda: "tollgate: ready" in self.out or self.p.poll() is not None, 20 * SLOW, "readiness")
        assert self.p.poll() is None, self.out
        self.port = int(re.search(r"listening on 127\.0\.0\.1:(\d+)", self.out).group(1))
        self.key = re.search(r"key: (tg_\w+_[\w-]{32,})", self.out).group(1)
        return self

    def connect(self, source=None, timeout=10, unix=None):
        return socket.create_connection(("127.0.0.1", self.port), timeout)

    def pids(self):
        return [int(x) for x in until(lambda: self.pids_file.exists() and self.pids_file.read_text(), 10 * SLOW, "the child's start").split()]

    def end(self, sig=signal.SIGTERM, timeout=15):
        if sig:
            self.p.send_signal(sig)
        code = self.p.wait(timeout * SLOW)
        self.reader.join(5)
        assert not REPORT.search(self.out), self.out
        return code


@pytest.fixture
def run(tmp_path):
    made = []

    def start(*args, **kw):
        made.append(Run(tmp_path, *args, **kw))
        return made[-1]
    yield start
    for r in made:
        if r.p.poll() is None:
            r.p.kill()
            r.p.wait()
        if r.pids_file.exists():
            for pid in r.pids():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass


def test_run_serves_a_command(run, tmp_path):
    r = run(child=["--delay", "0.5"]).ready()
    body = exchange(r, chat("through run", key=r.key, headers=[("Connection", "close")]), timeout=5 * SLOW)
    assert body.statuses == [200] and body.answers[0].json()["choices"][0]["message"]["content"] == "through run"
    with Stream(r, "abc", key=r.key) as s:
        assert s.rest()[-1] == b"data: [DONE]"
    assert exchange(r, chat("x", key="wrong", headers=[("Connection", "close")]), timeout=5 * SLOW).statuses == [401]
    assert exchange(r, request("GET", "/v1/models", [("Connection", "close")]), timeout=5 * SLOW).statuses == [401]
    assert "loading the model" in r.out, "the command's output is not shown"
    child, helper = r.pids()
    assert os.getpgid(child) == os.getpgid(helper) != os.getpgid(r.p.pid), "the command has no process group of its own"
    assert [p.name for p in tmp_path.iterdir()] == ["pids"], "run left files"
    assert r.end() == 0
    gone([child, helper])


def test_run_makes_a_fresh_key_each_time(run):
    keys = set()
    for _ in range(2):
        r = run().ready()
        keys.add(r.key)
        assert r.end() == 0
    assert len(keys) == 2


def test_run_waits_for_readiness(run):
    """Nothing listens before the command answers."""
    r = run(child=["--delay", "1.0"])
    r.pids()
    time.sleep(0.3)
    assert "listening on" not in r.out
    r.ready()
    assert r.end() == 0


def test_run_ends_when_its_command_dies(run):
    r = run(child=["--die-after-requests", "1"]).ready()
    pids = r.pids()
    assert exchange(r, chat("x", key=r.key, headers=[("Connection", "close")]), timeout=5 * SLOW).statuses == [200]
    code = r.end(sig=None)
    assert code not in (0, None) and code > 0
    assert "out of memory on purpose" in r.out.split("the command has ended")[1] and "7" in r.out
    gone(pids)


def test_run_with_a_command_that_never_starts(run):
    r = run(child=["--exit-at-once", "3"])
    assert r.end(sig=None) == 1
    assert "no such file" in r.out and "ready" not in r.out.replace("--ready", "").split("\n")


def test_run_with_a_command_that_does_not_exist(tmp_path):
    p = run_cli("run", "--listen", "127.0.0.1:0", "--", "/nonexistent/llama-server", "--port", "{port}", cwd=tmp_path)
    assert p.returncode == 1 and "/nonexistent/llama-server" in p.stderr


def test_run_gives_up_on_a_command_that_does_not_answer(run):
    r = run("--ready-seconds", "1", child=["--delay", "60"])
    pids = r.pids()
    assert r.end(sig=None) == 1 and "within 1 seconds" in r.out
    gone(pids)


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_run_takes_its_command_along(run, sig):
    r = run().ready()
    pids = r.pids()
    assert all(running(p) for p in pids)
    assert r.end(sig) == 0
    gone(pids)


def test_run_takes_a_deaf_command_along(run):
    r = run(child=["--deaf"]).ready()
    pids = r.pids()
    assert r.end(timeout=20) == 0
    gone(pids)


def test_run_killed_leaves_no_child(run):
    r = run().ready()
    pids = r.pids()
    r.p.send_signal(signal.SIGKILL)
    r.p.wait()
    gone(pids)


def test_run_killed_before_it_is_ready_leaves_no_child(run):
    r = run(child=["--delay", "60"])
    pids = r.pids()
    r.p.send_signal(signal.SIGKILL)
    r.p.wait()
    gone(pids)


def test_run_ended_before_it_is_ready(run):
    r = run(child=["--delay", "60"])
    pids = r.pids()
    time.sleep(0.3)
    r.end(signal.SIGTERM)
    gone(pids)


def test_run_finishes_a_stream(run):
    """SIGTERM with a stream open: the command lives until the stream has ended."""
    r = run().ready()
    pids = r.pids()
    s = Stream(r, "y" * 40, key=r.key).head()
    s.event()
    r.p.send_signal(signal.SIGTERM)
    s.rest()
    assert s.whole
    assert r.end(sig=None) == 0
    gone(pids)


@pytest.mark.parametrize("args", [[], ["--"], ["--name"], ["--name", "m"], ["--nonsense", "--", "true"], ["--ready-seconds", "0", "--", "true"],
                                  ["--protocol", "grpc", "--", "true"]])
def test_run_with_a_wrong_command_line(tmp_path, args):
    p = run_cli("run", *args, cwd=tmp_path)
    assert p.returncode == 2 and "usage: tollgate run" in p.stderr
