"""
Faults that an audit of the gate found, one test each: what workers did wrong, what was told to them and about them, and who a caller was taken for. Each
docstring says what went wrong. Clients' floods and pauses are in test_regressions.py.
"""
import json
import os
import subprocess
import threading

import pytest

import lib.gate
from lib.gate import ADMIN, READ, model
from lib.raw import GOOD_ANSWER, SLOW, SSE_HEAD, RawWorker, Stream, chat, exchange, until
from lib.wire import request, sse

CLOSE = ("Connection", "close")


def plain(g, text="hello", timeout=10, **kw):
    return exchange(g, chat(text, headers=[CLOSE], **kw), timeout=timeout * SLOW)


# ------------------------------------------------------------------------------------------------ answers

@pytest.mark.parametrize("how", [{}, {"chunked": True, "chunks": 3}], ids=["length", "chunked"])
def test_a_translated_answer_that_is_too_long(gate, worker, how):
    """An answer that had to be collected for /infer and was over 16 MiB ended the gate: memory that had been given back was read."""
    w = worker().behave(body=b'{"x":"' + b"a" * (16 << 20) + b'"}', **how)
    g = gate(models=[model("m", w)], toml={"server": {"threads": 1}})
    data = request("POST", "/infer", [("X-API-Key", READ), ("Content-Type", "application/json"), CLOSE],
                   json.dumps({"model_name": "m", "request_body": {"input": "x"}}))
    assert exchange(g, data, timeout=15 * SLOW).statuses == [502]
    assert g.alive()
    w.behave(text="fine")
    assert exchange(g, data, timeout=5 * SLOW).statuses == [200]


BREAKS = [
    pytest.param(True, b'data: {"choices":[{"', id="passed_on_at_once"),
    pytest.param(True, b'data: {"choices":[]}\n', id="after_a_line"),
    pytest.param(True, b"event: x\r\n", id="after_another_line"),
    pytest.param(True, b'data: {"choices":[]}\r', id="after_cr"),
    pytest.param(True, b'data: {"x":"' + b"a" * 100000, id="long"),
    pytest.param(False, b'data: {"choices":[{"', id="held_back"),
    pytest.param(False, b'data: {"x":"' + b"a" * 100000, id="too_long_to_hold_back"),
]


@pytest.mark.parametrize("asked,part", BREAKS)
def test_the_error_frame_stands_alone(gate, asked, part):
    """A worker that broke off within an event: our error event was put behind the half of its own, on the same line, and could not be read."""
    whole = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}\n\n'

    def script(c):
        c.read_request()
        c.send(SSE_HEAD)
        c.chunk(whole)
        c.chunk(part)
    with RawWorker(script) as w:
        g = gate(models=[model("m", w.url)])
        with Stream(g, **({"stream_options": {"include_usage": True}} if asked else {})) as s:
            frames = sse(b"\n\n".join(s.rest()).replace(b"\r", b"\n") + b"\n\n")
            assert s.whole
    assert json.loads(frames[0])["choices"][0]["delta"]["content"] == "a"
    assert json.loads(frames[-1])["error"]["message"]
    assert len(frames) <= 3 and not any(b'"error"' in f.encode() for f in frames[:-1])
    assert g.wait_log(lambda r: r["partial"] is True)["status"] == 200


def test_an_answer_before_the_request_was_read_ends_the_connection(gate):
    """A worker that refused a large request before it had read it: its connection was used for the next caller, whose request stood behind the rest of the first."""
    early, served = [], []

    def script(c):
        while b"\r\n\r\n" not in c.buf:
            c._more()
        if c.buf.startswith(b"POST") and b"Content-Length: 9" in c.buf:
            early.append(c)
            c.send(b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
            done.wait(20)
            c.wait_closed(5)
            return
        while True:
            c.read_request()
            served.append(c)
            c.send(GOOD_ANSWER)
    done = threading.Event()
    with RawWorker(script) as w:
        g = gate(models=[model("m", w.url, first_byte_ms=3000 * SLOW)], toml={"server": {"threads": 1}})
        big = chat("x" * 9_000_000, headers=[CLOSE])
        assert b"Content-Length: 9" in big[:400]
        assert exchange(g, big, timeout=10 * SLOW).statuses == [400]
        assert plain(g).statuses == [200]
        done.set()
        assert len(early) == 1 and len(served) == 1 and served[0] is not early[0]
        until(lambda: early[0].closed_at, 5 * SLOW, "the closing of the connection with the unread request")


def test_a_worker_that_is_busy_says_when_to_come_back(gate, worker):
    """A worker's 429 without Retry-After, or with a date, was passed on as it was: clients that read a number failed."""
    w = worker()
    g = gate(models=[model("m", w)])
    for lines, want in ((b"", 1), (b"Retry-After: Wed, 21 Oct 2015 07:28:00 GMT\r\n", 1), (b"Retry-After: 0\r\n", 1), (b"Retry-After: 17\r\n", 17)):
        w.once(raw=b"HTTP/1.1 429 Slow\r\nContent-Type: application/json\r\n" + lines + b"Content-Length: 2\r\n\r\n{}")
        r = plain(g)
        assert r.statuses == [429]
        assert r.answers[0].header("retry-after") == str(want), lines


def test_no_length_with_204(gate, worker):
    """A worker's 204 was passed on with a Content-Length, which RFC 9110 section 8.6 forbids."""
    w = worker()
    w.once(raw=b"HTTP/1.1 204 No Content\r\n\r\n", raw_close=False)
    g = gate(models=[model("m", w)])
    r = exchange(g, chat() + request("GET", "/livez", [CLOSE]), timeout=5 * SLOW)
    assert r.statuses == [204, 200]
    assert r.answers[0].header("content-length") is None and r.answers[0].header("transfer-encoding") is None


# ------------------------------------------------------------------------------------------------ requests

@pytest.mark.parametrize("size", [10, 60_000])
def test_a_long_upstream_model_is_sent(gate, worker, size):
    """A name of more than 320 bytes did not fit into the edit's buffer: the worker was asked for the public name instead. Short bodies are copied, long ones not."""
    w, name = worker(), "u/\u00e4\"" + "u" * 400
    g = gate(models=[model("m", w, upstream_model=name)])
    for more in ({}, {"stream": True}):
        assert plain(g, "x" * size, **more).statuses == [200]
        doc = w.last.json()
        assert doc["model"] == name and doc["messages"][0]["content"] == "x" * size
        assert len(w.last.body) == int(w.last.header("content-length"))


def test_a_poisonous_request_takes_no_worker_from_others(gate, worker):
    """A worker that dropped the connection was taken for dead: one caller with a prompt that workers could not stand took the model from everybody."""
    ws = [worker().behave(by=lambda r: {"drop": b"poison" in r.body}) for _ in range(2)]
    g = gate(models=[model("m", *ws)], toml={"server": {"threads": 1}})
    until(lambda: all(w.probes for w in ws), 5 * SLOW, "the first probes")
    assert plain(g).statuses == [200]
    for _ in range(3):
        r = plain(g, "poison")
        assert r.statuses in ([502], [503])
        got = []
        ts = [threading.Thread(target=lambda: got.append(plain(g).statuses)) for _ in range(10)]
        for t in ts:
            t.start()
        for t in ts:
            t.join()
        assert got == [[200]] * 10
    assert not [r for r in g.log(0.3) if r["event"] == "worker.down"]


HOSTS = "::1 localhost\n127.0.0.1 localhost\n"


def test_localhost_is_reached_whichever_family_listens(gate, worker, tmp_path, monkeypatch):
    """Only the first address of a name was tried: "localhost" is ::1 first on many machines, and most workers listen on 127.0.0.1."""
    hosts, wrapper = tmp_path / "hosts", tmp_path / f"{lib.gate.BINARY.name}.sh"
    hosts.write_text(HOSTS)
    into = ["unshare", "-m" if os.geteuid() == 0 else "-rm", "sh", "-c", f'mount --bind {hosts} /etc/hosts && exec "$@"', "sh"]
    try:
        private = subprocess.run([*into, "getent", "ahosts", "localhost"], capture_output=True, text=True).stdout.startswith("::1")
    except OSError:
        private = False
    if private:  # a file system view of its own, in which the name has both addresses; else this machine's own names must do
        wrapper.write_text("#!/bin/sh\nexec " + " ".join(f"'{a}'" for a in into) + f" '{lib.gate.BINARY}' \"$@\"\n")
        wrapper.chmod(0o755)
        monkeypatch.setattr(lib.gate, "BINARY", wrapper)
    w = worker()
    g = gate(models=[model("m", f"http://localhost:{w.port}")])
    assert plain(g).statuses == [200]
    assert len(w.requests) == 1
    assert w.last.header("host") == f"localhost:{w.port}"


# ------------------------------------------------------------------------------------------------ who is calling

@pytest.mark.parametrize("lines", [
    ["for=6.6.6.6", "for=203.0.113.9"],
    ["for=6.6.6.6, for=7.7.7.7", "for=203.0.113.9;proto=https"],
    ["for=6.6.6.6"] * 40 + ["for=203.0.113.9"],
    ["for=" + "a" * 1500, "for=6.6.6.6, for=" + "b" * 900, "for=203.0.113.9"],
], ids=["two", "lists", "many", "long"])
def test_the_last_forwarded_line_counts(gate, lines):
    """Of several Forwarded headers the first was read: a client could put its own in front of the proxy's and be whom it liked."""
    g = gate(toml={"server": {"trusted_proxies": ["127.0.0.1"]}})
    r = exchange(g, request("GET", "/livez", [("Forwarded", x) for x in lines] + [CLOSE]), timeout=5 * SLOW)
    assert r.statuses == [200]
    assert g.wait_log(lambda r: r["endpoint"] == "/livez")["client"] == "203.0.113.9"


def test_metrics_for_this_machine_only(gate):
    """[metrics] loopback = true asked only for the peer's address: a web page in a browser here, or a proxy here, read /metrics without a key."""
    g = gate(toml={"metrics": {"loopback": True}})
    here = f"127.0.0.1:{g.port}"

    def status(headers, host=here):
        return exchange(g, request("GET", "/metrics", [*headers, CLOSE], host=host), timeout=5 * SLOW).statuses
    assert status([]) == [200]
    assert status([("Origin", f"http://{here}"), ("Sec-Fetch-Site", "same-origin")]) == [200]
    for headers, host in (([], "evil.example"), ([("Origin", "http://evil.example")], here), ([("Sec-Fetch-Site", "cross-site")], here),
                          ([("X-Real-IP", "1.2.3.4")], here), ([("X-Forwarded-For", "1.2.3.4")], here), ([("Forwarded", "for=1.2.3.4")], here),
                          ([("Via", "1.1 proxy")], here)):
        assert status(headers, host) == [401], (headers, host)
        assert status([*headers, ("X-API-Key", ADMIN)], host) == [200], (headers, host)


def test_a_stale_cookie_is_as_good_as_none(gate, worker):
    """A cookie with a key that is no longer valid was held against a local caller, who needs none: /infer refused it."""
    g = gate(models=[model("m", worker())])
    body = json.dumps({"model_name": "m", "request_body": {"input": "x"}})
    for headers in ([], [("Cookie", "api_key=stale")], [("Cookie", "a=b; api_key=stale; c=d")]):
        r = exchange(g, request("POST", "/infer", [("Content-Type", "application/json"), *headers, CLOSE], body), timeout=5 * SLOW)
        assert r.statuses == [200], headers
        assert r.answers[0].json()["model_name_processed"] == "m"
