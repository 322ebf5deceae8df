"""Every row of the issue's "Bad input gets": the status, the code, the field named; one body shape; nothing internal in any of them."""
import json
import os
import re
import time

import pytest

from lib.gate import ADMIN, READ, free_port, model
from lib.wire import answer, answers, request

CHAT = {"model": "qwen3", "messages": [{"role": "user", "content": "hello"}]}
J = {"Content-Type": "application/json"}
MEMBERS = {"type", "title", "status", "detail", "instance", "code", "message", "timestamp", "request_id", "error"}
INTERNAL = re.compile(r"(/src/|\.c:\d|errno|0x[0-9a-f]{6,}|Traceback|tollgate-test-|127\.0\.0\.1:\d|unix:/)")


def checked(r, status, code, param=None, otype=None, ocode=None):
    """One error body, whatever it is about."""
    assert r.status_code == status, (r.status_code, r.text)
    assert r.headers["content-type"].split(";")[0] in ("application/json", "application/problem+json") and r.headers["x-request-id"]
    d = r.json()
    assert MEMBERS <= set(d), MEMBERS - set(d)
    assert d["status"] == status and d["code"] == code and d["request_id"] == r.headers["x-request-id"] and d["instance"] == r.request.url.raw_path.decode().split("?")[0]
    assert isinstance(d["detail"], str) and d["detail"] and isinstance(d["message"], str) and d["message"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", d["timestamp"])
    assert {"code", "message", "type", "param", "details"} <= set(d["error"]) and d["error"]["param"] == param, d
    if param:
        assert param in d["detail"]
    if otype:
        assert (d["error"]["type"], d["error"]["code"]) == (otype, ocode)
    assert not INTERNAL.search(r.text), r.text
    assert (status == 401) == ("www-authenticate" in r.headers) and (status not in (429, 503) or int(r.headers["retry-after"]) >= 1)
    return d


@pytest.fixture(scope="module")
def w(module_worker):
    return module_worker()


@pytest.fixture(scope="module")
def g(module_gate, w):
    return module_gate(models=[model("qwen3", w), model("away", f"http://127.0.0.1:{free_port()}"), model("slow", w, first_byte_ms=300)],
                       toml={"server": {"max_body_bytes": 50_000, "max_header_bytes": 8192, "max_headers": 40, "head_ms": 700, "body_idle_ms": 700}})


@pytest.fixture
def c(g):
    return g.client(READ)


# --- 400 ---------------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"])
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"5", b'"model"', b"{'model':'qwen3'}", b'{"model":"qwen3"}x', b'{"model":"qwen3",}', b'{"model":"qwen3" "a":1}',
                                  b'{"model":"qw\xffen3"}', b'{"model":"a\nb"}', b'{"model":"qwen3","a":[[[}', b'{"model":"qwen3"\x00}', b"\xef\xbb\xbf{}x"])
def test_malformed_json(c, w, path, body):
    """400 for malformed JSON; the worker is not bothered."""
    before = len(w.requests)
    checked(c.post(path, content=body, headers=J), 400, "VALIDATION_ERROR", otype="invalid_request_error", ocode="invalid_json")
    assert len(w.requests) == before


@pytest.mark.parametrize("body,param", [
    (b'{"model":"qwen3","messages":[],"model":"other"}', "model"), (b'{"model":"qwen3","mod\\u0065l":"other","messages":[]}', "model"),
    (b'{"model":"qwen3","stream":true,"stream":false}', "stream"), (b'{"messages":[]}', "model"), (b'{"model":5}', "model"), (b'{"model":null}', "model"), (b'{"model":["qwen3"]}', "model"),
    (b'{"model":{}}', "model"), (b'{"model":"qwen3","stream":"true"}', "stream"), (b'{"model":"qwen3","stream":1}', "stream"),
    (b'{"model":"qwen3","stream":true,"stream_options":[]}', "stream_options")])
def test_fields_are_named(c, w, body, param):
    """400 with the field for duplicates and wrong types (C-15's words), however the name is spelled."""
    before = len(w.requests)
    d = checked(c.post("/v1/chat/completions", content=body, headers=J), 400, "VALIDATION_ERROR", param, "invalid_request_error", "invalid_value")
    assert d["detail"].startswith(f"Validation error on {param}: ")
    assert len(w.requests) == before


@pytest.mark.parametrize("value", [b"a\x00b", b"\xff\xfe", b"a\xc3", b"\xed\xa0\x80", b"a\x01b", b"a\x7fb"])
@pytest.mark.parametrize("name", [b"X-Any", b"X-API-Key", b"Authorization", b"Cookie"])
def test_bad_bytes_in_headers(g, name, value):
    """400 for NUL, control characters or invalid UTF-8 in a header, on any route, with a JSON body."""
    a = answer(g.raw(b"GET /health HTTP/1.1\r\nHost: a\r\n" + name + b": " + value + b"\r\n\r\n"))
    assert a.status == 400 and a.json()["code"] == "VALIDATION_ERROR" and "header" in a.json()["detail"].lower()
    assert a.header("connection") == "close" and a.header("x-request-id")


# --- 401 first ---------------------------------------------------------------------------------------------------------------------
def test_401_before_anything_else(g):
    """401 before 404, 405, 413, 415, 501 and bad bodies, without the body being read."""
    for key in (None, "wrong"):
        c = g.client(key)
        for method, path, kw in (("GET", "/nothing", {}), ("GET", "/v1/chat/completions", {}), ("DELETE", "/infer", {}), ("POST", "/v1/chat/completions", {"content": b"{"}),
                                 ("POST", "/api/v1/inference", {"content": b"x", "headers": {"Content-Type": "text/plain"}}), ("PATCH", "/health", {}),
                                 ("POST", "/v1/chat/completions", {"content": b"x" * 60_000}), ("GET", "/gpu", {}), ("GET", "/v1/models/nope", {}), ("PUT", "/models/x", {})):
            d = checked(c.request(method, path, **kw), 401, "AUTHENTICATION_FAILED")
            assert d["event"] == ("auth.invalid_key" if key else "auth.missing_key")
    assert 'error="invalid_token"' in g.client("wrong").get("/nothing").headers["www-authenticate"]
    assert "error=" not in g.client().get("/nothing").headers["www-authenticate"]


# --- 404, 405 ----------------------------------------------------------------------------------------------------------------------
def test_unknown_model(c, g):
    """404 model_not_found with the known names on every OpenAI route."""
    for path, more in (("/v1/chat/completions", {"messages": []}), ("/v1/completions", {"prompt": "x"}), ("/v1/embeddings", {"input": "x"})):
        d = checked(c.post(path, json={"model": "gpt-99", **more}), 404, "MODEL_NOT_FOUND", None, "invalid_request_error", "model_not_found")
        assert "qwen3" in d["error"]["message"] and "away" in d["error"]["message"]
    checked(c.get("/v1/models/gpt-99"), 404, "MODEL_NOT_FOUND", None, "invalid_request_error", "model_not_found")


@pytest.mark.parametrize("name", ['a"b', "<script>", "x" * 5000, "é漢😀", "a\nb\u0000", "../../etc/passwd", "qwen3 ", "QWEN3", "", "a" + "😀" * 60, "é" * 700])
def test_unknown_model_names_are_quoted_safely(c, name):
    """Whatever the name holds, the answer is one valid JSON object of bounded size."""
    r = c.post("/v1/chat/completions", json={**CHAT, "model": name})
    assert r.status_code in (404, 400) and len(r.content) < 8000
    assert json.loads(r.content.decode("utf-8", "strict"))["error"]["message"]
    assert "\ufffd" not in r.text, "a name is not cut in the middle of a character"


def test_unknown_paths(c):
    """404 with a key, for any method."""
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        checked(c.request(method, "/nothing/here?x=1"), 404, "NOT_FOUND")
    for path in ("/v1/nothing", "/api/v1/nothing", "/models/no/thing", "/inferx", "/health/", "/Health"):
        checked(c.get(path), 404, "NOT_FOUND")


@pytest.mark.parametrize("method,path,allow", [("GET", "/v1/chat/completions", {"POST"}), ("DELETE", "/infer", {"POST"}), ("POST", "/v1/models", {"GET"}), ("PUT", "/health", {"GET"}),
                                               ("GET", "/api/v1/inference", {"POST"}), ("POST", "/metrics", {"GET"})])
def test_method_not_allowed(c, method, path, allow):
    """405 with Allow, which lists HEAD where GET is."""
    r = c.request(method, path)
    checked(r, 405, "METHOD_NOT_ALLOWED")
    got = {x.strip() for x in r.headers["allow"].split(",")}
    assert allow <= got and method not in got and got - {"OPTIONS", "HEAD"} == allow and ("HEAD" in got) == ("GET" in allow)


def test_head(g, c):
    """HEAD is GET without the body: same status, same length; the connection stays usable."""
    for path in ("/health", "/", "/v1/models", "/models", "/nothing"):
        a, b = c.get(path), c.head(path)
        assert b.status_code == a.status_code and b.content == b"" and b.headers["content-type"] == a.headers["content-type"], path
    wire = request("HEAD", "/v1/models", [("X-API-Key", READ)]) + request("GET", "/livez", [("Connection", "close")])
    got = answers(g.raw(wire), ["HEAD", "GET"])
    assert [x.status for x in got] == [200, 200] and int(got[0].header("content-length")) > 0
    checked_head = g.client().head("/v1/models")
    assert checked_head.status_code == 401 and checked_head.content == b""


def test_options(g, c):
    """OPTIONS tells the methods to whoever has a key; without CORS origins a preflight gets no permission and no data."""
    r = c.options("/v1/chat/completions")
    assert r.status_code in (200, 204) and "POST" in r.headers["allow"] and r.content == b""
    assert g.client().options("/v1/chat/completions").status_code == 401
    r = g.client().options("/v1/chat/completions", headers={"Origin": "https://app.example", "Access-Control-Request-Method": "POST"})
    assert r.status_code < 300 and "access-control-allow-origin" not in r.headers and r.content == b""
    for path in ("/nothing", "/gpu", "/models/reload", "/v1/models/x"):
        a = g.client().options(path, headers={"Origin": "https://app.example", "Access-Control-Request-Method": "GET"})
        assert a.status_code < 300 or a.status_code in (401, 404) and b"qwen3" not in a.content


# --- 408, 413, 414, 415, 417, 421, 431 ---------------------------------------------------------------------------------------------
def test_slow_head(g):
    """408 when a head does not come to its end in time."""
    start = time.monotonic()
    with g.connect() as s:
        s.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n")
        for _ in range(4):  # dripping does not help
            time.sleep(0.15)
            s.sendall(b"X: y\r\n")
        out = b""
        while got := s.recv(4096):
            out += got
    assert answer(out).status == 408 and answer(out).json()["code"] == "REQUEST_TIMEOUT" and 0.5 < time.monotonic() - start < 3


def test_slow_body(g, w):
    """408 when a body stalls; the worker never saw it."""
    before = len(w.requests)
    out = g.raw(f"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nX-API-Key: {READ}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n".encode() + b'{"model":"qwen3"', timeout=4)
    a = answer(out)
    assert a.status == 408 and a.json()["code"] == "REQUEST_TIMEOUT" and a.header("connection") == "close"
    assert len(w.requests) == before
    assert g.wait_log(lambda r: r["request_id"] == a.header("x-request-id"))["reason"] == "body_timeout"


def test_too_large(c, g, w):
    """413: announced, chunked without an announcement, and told before the body is read; a client that sends it all sees the answer."""
    before = len(w.requests)
    body = b'{"model":"qwen3","messages":[{"role":"user","content":"' + b"x" * 60_000 + b'"}]}'
    checked(c.post("/v1/chat/completions", content=body, headers=J), 413, "VALIDATION_ERROR", otype="invalid_request_error", ocode="request_too_large")
    checked(c.post("/v1/chat/completions", content=iter([body[i:i + 1000] for i in range(0, len(body), 1000)]), headers=J), 413, "VALIDATION_ERROR")
    big = f"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nX-API-Key: {READ}\r\nContent-Type: application/json\r\nContent-Length: 5000000\r\n\r\n".encode()
    assert answer(g.raw(big + b"x" * 5_000_000, timeout=8)).status == 413, "the answer is not lost to a reset while the body is still coming"
    assert len(w.requests) == before
    assert c.post("/v1/chat/completions", content=body.replace(b"x" * 20_000, b""), headers=J).status_code == 200


def test_media_type(c):
    """415 where only JSON is taken."""
    for path in ("/api/v1/inference", "/v1/chat/completions", "/v1/completions", "/v1/embeddings"):
        for t in ("text/plain", "application/xml", "multipart/form-data; boundary=b", "application/x-www-form-urlencoded"):
            checked(c.post(path, content=json.dumps(CHAT).encode(), headers={"Content-Type": t}), 415, "UNSUPPORTED_MEDIA_TYPE")


def test_encoded_bodies(c, w):
    """415 for a body in an encoding the gate would have to undo: what it cannot read it does not pass on."""
    import gzip
    before = len(w.requests)
    checked(c.post("/v1/chat/completions", content=gzip.compress(json.dumps(CHAT).encode()), headers={**J, "Content-Encoding": "gzip"}), 415, "UNSUPPORTED_MEDIA_TYPE")
    assert len(w.requests) == before


def test_hosts(gate, worker):
    """421 for a Host that is not ours, port ignored, before any credential is looked at; our own names and addresses always are."""
    g = gate(models=[model("qwen3", worker())], toml={"server": {"hosts": ["gate.example", "api.gate.example"]}})
    for host in ("gate.example", "gate.example:1234", "GATE.example", "api.gate.example", f"127.0.0.1:{g.port}", "localhost"):
        assert g.client(READ, headers={"Host": host}).get("/v1/models").status_code == 200, host
    for host in ("evil.example", "gate.example.evil.example", "xgate.example", "10.1.2.3"):
        for key in (READ, None):
            checked(g.client(key, headers={"Host": host}).get("/v1/models"), 421, "MISDIRECTED_REQUEST")


def test_heads_too_large(g):
    """431 for too many headers and for too large a head; 414 for a target that alone is too long."""
    for head in (request("GET", "/health", [(f"X-{i}", "1") for i in range(60)]), request("GET", "/health", [("X-Big", "x" * 10_000)]), request("GET", "/health", [("X" * 9000, "1")])):
        a = answer(g.raw(head))
        assert a.status == 431 and a.header("connection") == "close" and a.json()["status"] == 431
    assert answer(g.raw(request("GET", "/health?" + "x" * 20_000))).status in (414, 431)
    a = answer(g.raw(b"GET /health HTTP/1.1\r\nHost: a\r\n" + b"X-Endless: " + b"x" * 300_000, timeout=5))
    assert a.status == 431, "not waiting for the end of the head"


def test_expect(g):
    """417 for expectations nobody knows; 100 only when the body is wanted."""
    assert answer(g.raw(request("POST", "/v1/chat/completions", [("X-API-Key", READ), ("Expect", "200-maybe")], "{}"))).status == 417
    body = json.dumps(CHAT)
    wire = request("POST", "/v1/chat/completions", [("X-API-Key", READ), ("Content-Type", "application/json"), ("Expect", "100-continue"), ("Connection", "close")], body)
    head, _, _ = wire.partition(b"\r\n\r\n")
    with g.connect() as s:
        s.sendall(head + b"\r\n\r\n")
        assert s.recv(100).startswith(b"HTTP/1.1 100 Continue\r\n")
        s.sendall(body.encode())
        out = b""
        while got := s.recv(4096):
            out += got
    assert b"HTTP/1.1 200 OK" in out
    denied = request("POST", "/v1/chat/completions", [("Expect", "100-continue"), ("Content-Length", 50)])
    assert g.raw(denied, timeout=2).startswith(b"HTTP/1.1 401 ")


# --- 501 ---------------------------------------------------------------------------------------------------------------------------
def test_routes_to_come(g):
    """501 with one sentence."""
    for method, path in (("GET", "/gpu"), ("GET", "/system"), ("POST", "/models/register"), ("POST", "/models/set_active"), ("POST", "/eval/jobs"), ("POST", "/data_gen/jobs"), ("GET", "/jobs")):
        checked(g.client(ADMIN).request(method, path), 501, "NOT_IMPLEMENTED")


@pytest.mark.parametrize("headers", [[("Connection", "Upgrade"), ("Upgrade", "websocket")], [("Connection", "keep-alive, Upgrade"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABkAAQAAP__")]])
def test_upgrade(g, headers):
    """501 for Upgrade, with or without a key; never a switch."""
    for key in ([("X-API-Key", READ)], []):
        a = answer(g.raw(request("GET", "/v1/models", headers + key), timeout=3))
        assert a.status == 501 and a.json()["status"] == 501 and a.header("connection") == "close"


def test_unknown_methods(g):
    """501 for methods nobody here knows, 405 for CONNECT, none of them 200."""
    for m, status in (("TRACE", (405, 501)), ("BREW", (501,)), ("PROPFIND", (405, 501)), ("CONNECT", (405, 400))):
        target = "/health" if m != "CONNECT" else "a:443"
        a = answer(g.raw(request(m, target, [("X-API-Key", READ)]), timeout=3), m)
        assert a.status in status, (m, a.status)


# --- 502, 503, 504 -----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("fault", [dict(raw=b"garbage\r\n\r\n"), dict(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"), dict(drop=True), dict(cut_head=True),
                                   dict(raw=b"HTTP/1.1 200 OK\r\nBad Header: x\r\nContent-Length: 0\r\n\r\n"), dict(raw=b"HTTP/1.1 200 OK\nContent-Length: 0\n\n"), dict(raw=b"SSH-2.0-OpenSSH\r\n")])
def test_rubbish_from_the_worker(c, g, w, fault):
    """502 with a request id; what the worker said is not passed on."""
    w.behave(**fault)
    try:
        r = c.post("/v1/chat/completions", json=CHAT)
    finally:
        w.behave()
    d = checked(r, 502, "BAD_GATEWAY", otype="server_error", ocode="bad_gateway")
    assert "garbage" not in r.text and "OpenSSH" not in r.text
    assert g.record(r)["reason"] in ("worker_rubbish", "worker_gone") and g.record(r)["request_id"] == d["request_id"]
    assert settle(lambda: c.post("/v1/chat/completions", json=CHAT)).status_code == 200


def settle(call, seconds=4):
    """A worker that failed may be down until its next probe, one second later."""
    end = time.monotonic() + seconds
    while True:
        r = call()
        if r.status_code == 200 or time.monotonic() > end:
            return r
        time.sleep(0.1)


def test_no_worker_is_up(c):
    """503 with Retry-After, at once."""
    start = time.monotonic()
    checked(c.post("/v1/chat/completions", json={**CHAT, "model": "away"}), 503, "UNAVAILABLE", otype="server_error", ocode="service_unavailable")
    assert time.monotonic() - start < 2.5


def test_no_model(gate):
    """503 with the command that adds one."""
    r = gate().client(READ).post("/v1/chat/completions", json=CHAT)
    d = checked(r, 503, "UNAVAILABLE")
    assert "[[model]]" in d["detail"] or "tollgate " in d["detail"]


def test_slow_worker(c, g, w):
    """504 after first_byte_ms; the worker's connection is closed."""
    w.behave(delay=5)
    try:
        start = time.monotonic()
        r = c.post("/v1/chat/completions", json={**CHAT, "model": "slow"})
        took = time.monotonic() - start
        checked(r, 504, "GATEWAY_TIMEOUT", otype="server_error", ocode="first_byte_timeout")
        assert 0.25 < took < 2
        assert w.last.wait_end(2).client_closed_at is not None
        assert g.record(r)["reason"] == "first_byte_timeout"
    finally:
        w.behave()


# --- the whole ---------------------------------------------------------------------------------------------------------------------
def test_instance_is_the_path_as_it_came(g):
    """S3-21: without the query, still percent-encoded."""
    assert g.client().get("/v1/models?key=secret-in-query").json()["instance"] == "/v1/models"
    assert "secret-in-query" not in g.client().get("/v1/models?key=secret-in-query").text
    assert g.client().get("/a%20b/%22").json()["instance"] == "/a%20b/%22"


def test_bad_json_bodies_of_every_kind_are_4xx(g, w):
    """S2-76: a few hundred random and mutated bodies on every route that takes one: only 2xx and 4xx, and the gate lives."""
    import random
    rnd = random.Random(20240101)
    seeds = [json.dumps(CHAT).encode(), b'{"model_name":"qwen3","request_body":{"input":"x","max_new_tokens":3}}', b'{"prompt":"x","model":"qwen3","stream":false}']
    c = g.client(ADMIN)
    seen = set()
    for i in range(240):
        body = bytearray(rnd.choice(seeds))
        for _ in range(rnd.randint(1, 4)):
            at = rnd.randrange(len(body))
            body[at:at + rnd.randint(0, 3)] = rnd.randbytes(rnd.randint(0, 3))
        path = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/infer", "/models/reload")[i % 5]
        r = c.post(path, content=bytes(body), headers=J)
        assert r.status_code in (200, 400, 404), (path, bytes(body), r.status_code, r.text)
        assert r.headers["content-type"].startswith(("application/json", "text/event-stream"))
        seen.add(r.status_code)
    assert {200, 400} <= seen and g.alive() and os.path.exists(g.log_path())
