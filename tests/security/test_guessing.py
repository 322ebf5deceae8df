"""
Guessing is slowed (threats T-BRUTE, GHSA-hmx6-r76c-85g9): unknown credentials of one source are answered late from a number a minute on, and by 429 past a bound; nothing else is.
"""
import socket
import threading
import time

import pytest

from lib.gate import EXTERNAL, READ, has_ipv6, model
from lib.raw import SLOW, exchange, until
from lib.wire import request

BAD = "rd-test-H5n8cT1yB6vR2jF0"  # READ but for its last character
THIRD = "127.0.0.3"
FEW = {"auth": {"guesses": "4/minute"}}  # steps of one: the 4th waits 0.25 s, then 0.5, 1, 2


def ask(key, path="/v1/models", method="GET", headers=(), body=None):
    return request(method, path, [("X-API-Key", key)] * (key is not None) + list(headers), body)


def one(g, key=BAD, source=None, **kw):
    """The answer, and how long it took."""
    with g.connect(source, 15) as s:
        start = time.monotonic()
        s.sendall(ask(key, **kw))
        data = s.recv(65536)
    return int(data.split()[1]), time.monotonic() - start, data


def metric(g, name):
    from lib.gate import ADMIN
    text = g.client(ADMIN).get("/metrics").text
    return next((float(x.split()[-1]) for x in text.splitlines() if x.startswith(name + " ") or x.startswith(name + "{")), 0.0)


def test_the_default_is_a_hundred_a_minute(gate):
    """From 100 a minute per source the 401 is delayed by 0.25 s; the 99 before are not."""
    g = gate()
    c = g.client(BAD)
    times = []
    for _ in range(101):
        start = time.monotonic()
        assert c.get("/v1/models").status_code == 401
        times.append(time.monotonic() - start)
    assert sum(times[:99]) < 0.2 * 99 and sorted(times)[98 // 2] < 0.1 * SLOW
    assert 0.2 < times[99] < 0.25 + 0.3 * SLOW and 0.2 < times[100] < 0.25 + 0.3 * SLOW
    assert metric(g, "tollgate_guesses_delayed_total") == 2 and metric(g, "tollgate_guesses_waiting") == 0


def test_delays_grow_to_two_seconds(gate):
    g = gate(toml=FEW)
    took = [one(g)[1] for _ in range(8)]
    assert all(t < 0.2 * SLOW for t in took[:3]), took
    for t, expected in zip(took[3:], [0.25, 0.5, 1, 2, 2]):
        assert expected - 0.01 <= t < expected + 0.4 * SLOW, took


def test_the_late_answer_is_the_early_one(gate):
    """Body, headers and log are the same but for the time; the log says how long it took."""
    g = gate(toml=FEW)
    answers = [g.client(BAD).get("/v1/models") for _ in range(4)]
    bodies = [{k: v for k, v in a.json().items() if k not in ("request_id", "timestamp")} for a in answers]
    assert bodies[0] == bodies[3] and bodies[0]["event"] == "auth.invalid_key"
    assert set(answers[0].headers) == set(answers[3].headers) and "retry-after" not in answers[3].headers
    early, late = g.record(answers[0]), g.record(answers[3])
    assert early["event"] == late["event"] == "auth.invalid_key" and early["reason"] == late["reason"] == "invalid_key"


def test_what_is_valid_is_never_delayed(gate):
    """A valid credential from a source that guesses: at once, while its guesses wait; so is one without any credential."""
    g = gate(toml=FEW)
    for _ in range(6):
        one(g)
    waiting = [threading.Thread(target=one, args=(g,)) for _ in range(3)]
    for t in waiting:
        t.start()
    until(lambda: metric(g, "tollgate_guesses_waiting") == 3, what="three guesses waiting")
    for key, status in [(READ, 200), (None, 401)] * 5:
        got, took, _ = one(g, key)
        assert got == status and took < 0.2 * SLOW
    for t in waiting:
        t.join()


def test_missing_credentials_never_count(gate):
    g = gate(toml=FEW)
    for i in range(12):
        status, took, _ = one(g, None, headers=[("X-API-Key", "")] * (i % 2))
        assert status == 401 and took < 0.2 * SLOW
    assert metric(g, "tollgate_guesses_delayed_total") == 0


def test_sources_are_apart(gate):
    g = gate(toml=FEW)
    for _ in range(5):
        one(g)
    for source in [EXTERNAL, THIRD]:
        assert one(g, source=source)[1] < 0.2 * SLOW
    assert one(g)[1] > 0.9


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
def test_ipv6_and_unix(gate, tmp_path):
    """::1 is a source of its own; all Unix peers are one."""
    g = gate(toml=FEW, listen=["127.0.0.1:0", "[::1]:0", f"unix:{tmp_path}/t.sock"])
    for _ in range(5):
        one(g)
    with socket.create_connection(("::1", g.tcp("::1")[0]), 10) as s:
        start = time.monotonic()
        s.sendall(ask(BAD))
        assert b" 401 " in s.recv(65536) and time.monotonic() - start < 0.2 * SLOW
    took = [exchange(g, request("GET", "/v1/models", [("X-API-Key", BAD), ("Connection", "close")]), unix=tmp_path / "t.sock").seconds for _ in range(5)]
    assert max(took[:3]) < 0.2 * SLOW and took[3] > 0.2 and took[4] > 0.4


def test_the_client_behind_a_trusted_proxy(gate):
    """It is the client that is counted, not the proxy."""
    g = gate(toml={**FEW, "server": {"trusted_proxies": ["127.0.0.1"]}})
    for _ in range(5):
        one(g, headers=[("X-Forwarded-For", "203.0.113.7")])
    assert one(g, headers=[("X-Forwarded-For", "203.0.113.8")])[1] < 0.2 * SLOW
    assert one(g, headers=[("X-Forwarded-For", "203.0.113.7")])[1] > 0.9
    same = [one(g, headers=[("X-Forwarded-For", f"2001:db8:0:1::{i}")])[1] for i in range(1, 6)]
    assert same[4] > 0.4  # one /64
    assert one(g, headers=[("X-Forwarded-For", "2001:db8:0:2::1")])[1] < 0.2 * SLOW


def test_past_the_bound_it_is_429(gate):
    """16 of one source wait; the others are refused at once, with Retry-After, and by their own reason."""
    g = gate(toml=FEW)
    for _ in range(6):
        one(g)
    got, lock = [], threading.Lock()

    def guess():
        r = one(g)
        with lock:
            got.append(r)
    threads = [threading.Thread(target=guess) for _ in range(40)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    late = [r for r in got if r[0] == 401]
    now = [r for r in got if r[0] == 429]
    assert len(late) + len(now) == 40 and len(late) >= 16 and len(now) >= 1
    assert all(r[1] > 1.9 for r in late)
    head = now[0][2].partition(b"\r\n\r\n")[0].decode().lower()
    assert 1 <= int(head.partition("retry-after: ")[2].split("\r\n")[0]) <= 60
    assert b'"RATE_LIMITED"' in now[0][2]
    assert metric(g, 'tollgate_refusals_total{reason="guessing"}') == len(now)
    assert one(g, READ)[0] == 200
    assert metric(g, "tollgate_guesses_waiting") == 0


def test_a_client_that_leaves_frees_its_place(gate):
    g = gate(toml=FEW)
    for _ in range(7):
        one(g)
    socks = [g.connect() for _ in range(16)]
    for s in socks:
        s.sendall(ask(BAD))
    until(lambda: metric(g, "tollgate_guesses_waiting") == 16, what="16 guesses waiting")
    start = time.monotonic()
    for s in socks:
        s.close()
    until(lambda: metric(g, "tollgate_guesses_waiting") == 0, 1.0 * SLOW, "16 places free")
    assert time.monotonic() - start < 1.5 * SLOW
    g.wait_log(lambda r: r["status"] == 499)
    assert one(g)[0] == 401


def test_draining_ends_the_wait(gate):
    """SIGTERM: who waits is answered at once, whole."""
    g = gate(toml=FEW)
    for _ in range(7):
        one(g)
    got = []
    t = threading.Thread(target=lambda: got.append(one(g)))
    t.start()
    until(lambda: metric(g, "tollgate_guesses_waiting") == 1, what="a guess waiting")
    start = time.monotonic()
    g.stop()
    t.join()
    assert got[0][0] == 401 and b"connection: close" in got[0][2].lower()
    assert got[0][1] < 1.8 and time.monotonic() - start < 5 * SLOW


def test_a_connection_goes_on_after_the_wait(gate):
    """Pipelined behind a delayed refusal: answered in order, on the same connection."""
    g = gate(toml=FEW)
    for _ in range(4):
        one(g)
    r = exchange(g, ask(BAD) + ask(READ) + request("GET", "/v1/models", [("X-API-Key", READ), ("Connection", "close")]), timeout=8)
    assert r.statuses == [401, 200, 200] and r.closed and r.seconds > 0.4


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_behind_a_guess_is_not_kept(gate, framing):
    """It is read and dropped while the refusal waits; the answer arrives, then the end of the connection."""
    g = gate(toml=FEW)
    for _ in range(7):
        one(g)
    n = 3 << 20
    head = [("X-API-Key", BAD), ("Content-Type", "application/json")]
    framing_line = f"Content-Length: {n}" if framing == "length" else "Transfer-Encoding: chunked"
    raw = (f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n" + "".join(f"{k}: {v}\r\n" for k, v in head) + framing_line + "\r\n\r\n").encode()
    body = b"x" * n if framing == "length" else b"%x\r\n" % n + b"x" * n + b"\r\n0\r\n\r\n"
    r = exchange(g, raw + body, timeout=10)
    assert r.statuses == [401] and r.closed and not r.reset and r.seconds > 1.9


def test_off_is_off(gate):
    g = gate(toml={"auth": {"guesses": "off"}})
    c = g.client(BAD)
    start = time.monotonic()
    assert all(c.get("/v1/models").status_code == 401 for _ in range(150))
    assert time.monotonic() - start < 10 * SLOW and metric(g, "tollgate_guesses_delayed_total") == 0


def test_reloading_changes_the_number(gate):
    g = gate(toml={"auth": {"guesses": "off"}})
    for _ in range(6):
        assert one(g)[1] < 0.2 * SLOW
    g.write_config(toml=FEW)
    g.reload()
    took = [one(g)[1] for _ in range(4)]
    assert took[3] > 0.2


def test_local_callers_of_infer_are_let_in_whatever_they_send(gate, worker):
    """Never delayed, and it does not count: they learn nothing by it."""
    w = worker()
    g = gate(toml=FEW, models=[model("m", w, protocol="infer")])
    for _ in range(8):
        r = g.client(BAD).post("/infer", json={"prompt": "hi"})
        assert r.status_code != 401 and r.elapsed.total_seconds() < 0.5 * SLOW
    assert one(g)[1] < 0.2 * SLOW
    assert metric(g, "tollgate_guesses_delayed_total") == 0


def test_no_route_is_a_way_round(gate):
    """Unknown paths, wrong methods and every carrier count alike."""
    g = gate(toml=FEW)
    for path, method, headers in [("/no/such/path", "GET", []), ("/v1/models", "DELETE", [])]:
        one(g, BAD, path=path, method=method, headers=headers)
    one(g, None, headers=[("Authorization", "Bearer " + BAD)])
    assert one(g, None, headers=[("Cookie", "api_key=" + BAD)])[1] > 0.2
    assert one(g, None, headers=[("Authorization", BAD)])[1] > 0.4
    assert one(g, BAD, path="/no/such/path")[1] > 0.9
