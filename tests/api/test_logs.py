"""One record a request, whatever became of it, and nothing in any record that the caller would not want to read there."""
import json
import re
import time

import pytest

from lib.gate import ADMIN, EXTERNAL, READ, model
from lib.wire import request

FIELDS = {"ts", "level", "event", "request_id", "client", "user", "key_name", "key_prefix", "key_label", "method", "endpoint", "model", "stream", "status", "ms", "first_byte_ms",
          "overhead_us", "bytes_in", "bytes_out", "prompt_tokens", "completion_tokens", "partial", "worker", "retries", "reason"}
CHAT = {"model": "qwen3", "messages": [{"role": "user", "content": "hello"}]}
LIST = {"CHAPKIT_API_KEYS": "sk_ml_train_abc123, sk_ml_predict_xyz789", "TOLLGATE_API_KEYS": '["Zk3vQ9wX2mB7nR5tY8uL1pA4", "short-1"]'}
JSON = {"Content-Type": "application/json"}
CANARY = "sk-Cn4ry7Qx2Wv9Lp5Zt8Rk3Mb6"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJlLWNhbmFyeQ"
PASSWORD = "hunter2-Correct-Horse-9"
EMAIL = "canary.person@mail.example"


@pytest.fixture(scope="module")
def w(module_worker):
    return module_worker()


@pytest.fixture(scope="module")
def g(module_gate, w):
    return module_gate(models=[model("qwen3", w)], env=LIST, toml={"limits": {"api": "2/hour"}, "server": {"max_body_bytes": 20000}})


def test_fields(g, w):
    """S2-63: the record of a successful call, each member with its value."""
    before = time.time()
    r = g.client(READ).post("/v1/chat/completions", json=CHAT)
    assert r.status_code == 200
    got = g.record(r)
    assert FIELDS <= set(got), FIELDS - set(got)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", got["ts"])
    import datetime
    assert abs(datetime.datetime.fromisoformat(got["ts"].replace("Z", "+00:00")).timestamp() - before) < 5
    assert got["level"] == "info" and got["event"] == "request" and got["client"] == "127.0.0.1" and got["method"] == "POST"
    assert got["endpoint"] == "/v1/chat/completions" and got["model"] == "qwen3" and got["status"] == 200 and got["stream"] is False
    assert got["key_name"] == "read" and got["key_prefix"] == READ[:9] and re.fullmatch(r"key_[0-9a-f]{16}", got["user"])
    assert (got["prompt_tokens"], got["completion_tokens"]) == (7, 5) and got["partial"] is False and got["retries"] == 0 and got["reason"] is None
    assert got["worker"] and 0 <= got["first_byte_ms"] <= got["ms"] < 30_000 and got["overhead_us"] >= 0
    assert got["bytes_in"] >= len(r.request.content) and got["bytes_out"] >= len(r.content)


def test_ids_are_opaque_and_stable(g):
    """S2-63, C-34: one key, one user id; another key, another; the id is not made of the key's text."""
    ids = {k: {g.record(g.client(k).get("/v1/models"))["user"] for _ in range(2)} for k in (READ, ADMIN)}
    assert all(len(v) == 1 for v in ids.values()) and ids[READ] != ids[ADMIN]


@pytest.mark.parametrize("key,prefix,label,name", [("sk_ml_train_abc123", "sk_ml_tra", "sk_ml_train", "CHAPKIT_API_KEYS"), ("sk_ml_predict_xyz789", "sk_ml_pre", "sk_ml_predict", "CHAPKIT_API_KEYS"),
                                                   ("Zk3vQ9wX2mB7nR5tY8uL1pA4", "Zk3vQ9wX2", None, "TOLLGATE_API_KEYS"), ("short-1", "***", None, "TOLLGATE_API_KEYS")])
def test_prefix_and_label(g, key, prefix, label, name):
    """C-18 (S3-74, S3-76), S2-65: nine characters, three stars for short keys, a label only where no part can be random."""
    got = g.record(g.client(key).get("/v1/models"))
    assert (got["key_prefix"], got["key_label"], got["key_name"]) == (prefix, label, name)
    assert key not in g.log_text()


def test_health_has_a_record_without_a_user(g):
    """S2-64."""
    got = g.record(g.client().get("/health"))
    assert got["endpoint"] == "/health" and got["user"] is None and got["key_name"] is None and got["key_prefix"] is None and got["event"] == "request"


def test_missing_and_invalid_keys(g):
    """S2-63, S1-50, S3-77, S3-78: the event says which, with the address and the first characters only."""
    r = g.external().get("/v1/models")
    got = g.record(r)
    assert (got["event"], got["status"], got["client"], got["user"], got["key_prefix"], got["reason"]) == ("auth.missing_key", 401, EXTERNAL, None, None, "missing_key")
    for key, prefix in ((CANARY, CANARY[:9]), ("tiny", "***"), ("", None)):
        r = g.external(key).get("/v1/models")
        got = g.record(r)
        assert (got["event"], got["key_prefix"]) == (("auth.invalid_key", prefix) if key else ("auth.missing_key", None)), key
        assert r.json()["event"] == got["event"]
    assert CANARY not in g.log_text()


def test_refusals_have_records(g):
    """S2-63: 401, 403, 404, 405, 413, 415, 429, 501 and malformed heads: one line each, with the reason."""
    c = g.client(READ)
    assert g.record(c.get("/nothing/here"))["status"] == 404 and g.record(c.get("/nothing/here"))["reason"] == "not_found"
    assert g.record(c.get("/v1/chat/completions"))["reason"] == "method_not_allowed"
    assert g.record(c.post("/v1/chat/completions", json={**CHAT, "model": "nope"}))["reason"] == "model_not_found"
    assert g.record(c.post("/v1/chat/completions", json={**CHAT, "model": "nope"}))["model"] is None, "a caller cannot write model names into the log"
    assert g.record(c.post("/v1/chat/completions", content=b"{", headers=JSON))["reason"] == "bad_body"
    assert g.record(g.client("short-1").get("/gpu"))["reason"] == "forbidden"
    assert g.record(g.client(ADMIN).get("/gpu"))["reason"] == "later"
    assert g.record(c.post("/v1/chat/completions", content=b"x" * 30000, headers=JSON))["reason"] == "body_too_large"
    for want in ("bad_media_type", "bad_media_type", "rate_limited"):
        got = g.record(c.post("/api/v1/inference", content=b"x", headers={"Content-Type": "text/plain"}))
        assert got["reason"] == want, got
    before = len(g.requests(0.2))
    g.raw(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", timeout=2)
    got = g.wait_log(lambda r: r["reason"] == "bad_host")
    assert got["status"] == 400 and len(g.requests(0.2)) == before + 1


def test_exactly_one_record_each(g):
    """S2-63: as many lines as requests, each id once, in pipelined and parallel use too."""
    before = {r["request_id"] for r in g.requests(0.3)}
    one = request("GET", "/v1/models", [("X-API-Key", READ)])
    out = g.raw(one * 20 + request("GET", "/health", [("Connection", "close")]))
    assert out.count(b"HTTP/1.1 200 OK") == 21
    g.wait_log(lambda r: r["endpoint"] == "/health" and r["request_id"] not in before)
    new = [r for r in g.requests(0.3) if r["request_id"] not in before]
    assert len(new) == 21 and len({r["request_id"] for r in new}) == 21


def test_aborted_stream_has_a_record(g, w):
    """S2-63: a client that leaves in mid-stream: partial, with the reason."""
    w.once(chunks=100, pace=0.05)
    with g.client(READ).stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True, "messages": [{"role": "user", "content": "x" * 200}]}) as r:
        next(r.iter_raw())
        rid = r.headers["x-request-id"]
    got = g.record(rid)
    assert got["partial"] is True and got["reason"] == "client_gone" and got["stream"] is True and got["status"] == 200 and got["first_byte_ms"] is not None


def test_stream_tokens_are_recorded(g, w):
    """S2-63 for streams: usage is read in passing, asked for by the client or not."""
    for extra in ({}, {"stream_options": {"include_usage": True}}):
        w.once(prompt_tokens=123, completion_tokens=45)
        r = g.client(READ).post("/v1/chat/completions", json={**CHAT, "stream": True, **extra})
        got = g.record(r)
        assert (got["prompt_tokens"], got["completion_tokens"], got["stream"], got["partial"]) == (123, 45, True, False)
    w.once(usage=False)
    got = g.record(g.client(READ).post("/v1/chat/completions", json=CHAT))
    assert got["prompt_tokens"] is None and got["completion_tokens"] is None


def canaries(secret):
    """Requests that carry the secret wherever a caller can put one."""
    h = {"Content-Type": "application/json"}
    yield "GET", "/v1/models", {"X-API-Key": secret}, None
    yield "GET", "/v1/models", {"Authorization": "Bearer " + secret}, None
    yield "GET", "/v1/models", {"Authorization": secret}, None
    yield "GET", "/v1/models", {"Authorization": "Basic " + secret}, None
    yield "GET", "/v1/models", {"Cookie": "api_key=" + secret}, None
    yield "GET", "/v1/models", {"X-API-Key": READ, "Referer": "https://x.example/?k=" + secret, "User-Agent": secret, "X-Other": secret, "Cookie": "s=" + secret}, None
    for key in (None, READ):
        a = {"X-API-Key": key} if key else {}
        yield "GET", "/v1/models?api_key=" + secret, a, None
        yield "GET", "/v1/models/" + secret, a, None
        yield "GET", "/nothing/" + secret, a, None
        yield "GET", "/" + secret + "/nothing", a, None
        yield "GET", "/health?x=" + secret, a, None
        yield "POST", "/infer", {**a, **h}, json.dumps({"model_name": secret, "request_body": {"input": secret}})
        yield "POST", "/v1/chat/completions", {**a, **h}, json.dumps({"model": secret, "messages": [{"role": "user", "content": secret}]})
        yield "POST", "/v1/chat/completions", {**a, **h}, json.dumps({"model": "qwen3", "messages": [{"role": "user", "content": secret}], "user": secret})
        yield "POST", "/v1/chat/completions", {**a, **h}, '{"model":"qwen3","password":"' + secret + '" oops'
        yield "POST", "/v1/chat/completions", {**a, **h}, '{"' + secret + '":1,"model":"qwen3","model":"' + secret + '"}'
        yield "POST", "/api/v1/inference", {**a, **h}, json.dumps({"model": "qwen3", "prompt": secret, "stream": secret})
        yield "POST", "/api/v1/auth/login", {**a, **h}, json.dumps({"username": secret, "password": secret})
        yield "POST", "/api/v1/auth/login", {**a, **h}, '{"username":"admin","password":"' + secret
    yield "GET", "/v1/models", {"X-API-Key": READ, "X-Request-ID": secret + "!\"#"}, None


@pytest.mark.parametrize("secret", [CANARY, JWT, PASSWORD, EMAIL, "Zk3vQ9wX2mB7nR5tY8uL1pA4"], ids=["key", "jwt", "password", "email", "valid-key"])
def test_no_secret_in_any_log(gate, worker, secret):
    """S2-65 to S2-68: header, query, path, JSON body, JSON error; also with the worker failing. Bodies, queries and unknown names are not logged at all."""
    w = worker()
    g = gate(models=[model("qwen3", w)], env=LIST, toml={"log": {"level": "debug"}})
    n = 0
    for method, path, headers, body in canaries(secret):
        if n % 5 == 4:
            w.once(status=500, body=json.dumps({"error": {"message": "bad input: " + secret}}).encode())
        g.client(headers=headers).request(method, path, content=body.encode() if body else None)
        n += 1
    if "@" not in secret:
        g.raw(f"GET /{secret} HTTP/1.1\r\nHost: a\r\nX-Bad\x01: {secret}\r\n\r\n".encode(), timeout=2)
        n += 1
    assert len(g.requests(0.4)) == n, "one record each"
    g.stop()
    said = g.log_text() + g.stderr()
    assert secret not in said, [x for x in said.splitlines() if secret in x]
    assert secret[9:] not in said and "eyJ" not in said


def test_log_lines_cannot_be_forged(g):
    """S2-63: quotes, newlines and control characters of a caller stay inside one JSON string."""
    before = len(g.log(0.3))
    for path in ('/a"b', "/a%0d%0a%7b%22event%22:%22forged%22%7d", "/%22,%22event%22:%22forged", "/\\u0022"):
        g.raw(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: {READ}\r\nConnection: close\r\n\r\n".encode(), timeout=2)
    lines = g.log(0.4)
    assert len(lines) == before + 4 and all(r["event"] != "forged" for r in lines)


def test_request_id(g):
    """wire.md 4b: the caller's id is kept when it is safe, else replaced; it is answered, logged and sent to the worker."""
    r = g.client(READ).post("/v1/chat/completions", json=CHAT, headers={"X-Request-ID": "caller-id_1.2"})
    assert r.headers["x-request-id"] == "caller-id_1.2" and g.record(r)["status"] == 200
    for bad in ("x" * 129, 'a"b', "a b", "a\tb", "<x>"):
        r = g.client(READ).get("/v1/models", headers={"X-Request-ID": bad})
        assert r.headers["x-request-id"] != bad and re.fullmatch(r"[0-9A-Za-z_-]{16,36}", r.headers["x-request-id"])
        assert g.record(r)["status"] == 200


def test_request_id_reaches_the_worker(g, w):
    """wire.md 4b."""
    r = g.client(READ).post("/v1/chat/completions", json=CHAT, headers={"X-Request-ID": "caller-id-77"})
    assert w.last.header("x-request-id") == "caller-id-77" == r.headers["x-request-id"]
    r = g.client(READ).post("/v1/chat/completions", json=CHAT)
    assert w.last.header("x-request-id") == r.headers["x-request-id"]


def test_log_is_flushed_soon_and_reopened(gate):
    """DESIGN.md [log]: within 100 ms; after a rename and SIGHUP new lines go to a new file, none is lost."""
    g = gate()
    r = g.client().get("/health")
    g.record(r, timeout=1)
    old = g.dir / "logs" / "app.log.old"
    g.log_path().rename(old)
    a = g.client().get("/health").headers["x-request-id"]
    g.reload()
    b = g.client().get("/health").headers["x-request-id"]
    g.record(b)
    assert a in old.read_text() + g.log_text() and b in g.log_text() and b not in old.read_text()


def test_log_to_stdout(gate):
    """DESIGN.md [log]: "-" is stdout."""
    g = gate(toml={"log": {"path": "-"}})
    rid = g.client().get("/health").headers["x-request-id"]
    g.stop()
    assert any(json.loads(x).get("request_id") == rid for x in g._stdout if x.startswith("{"))
    assert not g.log_path().exists()
