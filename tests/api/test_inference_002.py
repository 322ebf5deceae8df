"""Document 002's inference route: /api/v1/inference, plain and streamed, its limits on prompts and content types, its error envelope."""
import json

import pytest

from lib.gate import READ, model
from lib.wire import sse

ERROR = {"code", "message", "details"}


@pytest.fixture(scope="module")
def w(module_worker):
    return module_worker()


@pytest.fixture(scope="module")
def g(module_gate, w):
    return module_gate(models=[model("llama-7b", w)], toml={"limits": {"api": "off"}})


@pytest.fixture
def c(g):
    return g.client(READ)


def refused(r, status, code, param=None):
    assert r.status_code == status, r.text
    doc = r.json()
    assert doc["code"] == code and ERROR <= set(doc["error"]) and doc["error"]["code"] == code, r.text
    if param:
        assert doc["error"]["param"] == param and param in doc["error"]["message"], r.text
    return doc


def test_literal_curl(g):
    """S2-42: the document's command with its host name; any carrier of the key."""
    to = ["--connect-to", f"::127.0.0.1:{g.port}"]
    body = ["-H", "Content-Type: application/json", "-d", '{"prompt": "Hello, world!", "model": "llama-7b"}']
    for auth in (f"Authorization: Bearer {READ}", f"X-API-Key: {READ}"):
        status, _, text = g.curl(*to, "-X", "POST", "http://inferno.example.com/api/v1/inference", *body, "-H", auth)
        assert status == 200 and json.loads(text)["response"] == "Hello, world!"
    assert g.curl(*to, "-X", "POST", "http://inferno.example.com/api/v1/inference", *body)[0] == 401


def test_plain(c, w):
    """S2-42, C-52: {id, model, response, text, finish_reason, usage}; sampling members pass."""
    r = c.post("/api/v1/inference", json={"prompt": "Hé 😀 \"x\"", "model": "llama-7b", "max_tokens": 9, "temperature": 0.5, "stop": ["a"], "seed": 3})
    assert r.status_code == 200, r.text
    doc = r.json()
    assert doc["response"] == doc["text"] == "Hé 😀 \"x\"" and doc["model"] == "llama-7b" and doc["id"] and doc["finish_reason"] == "stop"
    assert doc["usage"] == {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
    sent = w.last.json()
    assert sent["messages"] == [{"role": "user", "content": "Hé 😀 \"x\""}] and (sent["max_tokens"], sent["temperature"], sent["stop"], sent["seed"]) == (9, 0.5, ["a"], 3)
    assert "prompt" not in sent and w.last.path == "/v1/chat/completions"


def test_stream(c, w, g):
    """S2-42, C-52: server-sent events and [DONE]; the usage goes on record."""
    w.once(chunks=5)
    r = c.post("/api/v1/inference", json={"prompt": "Hello, world!", "model": "llama-7b", "stream": True})
    assert r.status_code == 200 and r.headers["content-type"].startswith("text/event-stream")
    events = sse(r.text)
    assert events[-1] == "[DONE]" and len(events) >= 6
    assert "".join(x["choices"][0]["delta"].get("content") or "" for x in map(json.loads, events[:-1]) if x["choices"]) == "Hello, world!"
    assert w.last.json()["stream"] is True and g.record(r)["completion_tokens"] == 5
    assert c.post("/api/v1/inference", json={"prompt": "x", "model": "llama-7b", "stream": False}).json()["response"] == "x"


@pytest.mark.parametrize("char", ["a", "é", "漢", "😀"])
@pytest.mark.parametrize("ascii_only", [False, True])
def test_prompt_limit_in_code_points(c, w, char, ascii_only):
    """S2-41, C-14: 10,000 code points pass, 10,001 are a 400 with the field, written plain or as \\u escapes (a surrogate pair is one)."""
    def send(n):
        return c.post("/api/v1/inference", content=json.dumps({"prompt": char * n, "model": "llama-7b"}, ensure_ascii=ascii_only).encode(), headers={"Content-Type": "application/json"})
    r = send(10_000)
    assert r.status_code == 200 and r.json()["response"] == char * 10_000, r.text[:300]
    before = len(w.requests)
    doc = refused(send(10_001), 400, "VALIDATION_ERROR", "prompt")
    assert "10000" in doc["error"]["message"] or "10,000" in doc["error"]["message"]
    assert len(w.requests) == before


def test_prompt_limit_is_configurable(gate, worker):
    """S2-41; it bounds this route's prompt only."""
    g = gate(models=[model("llama-7b", worker())], toml={"server": {"max_prompt_chars": 5}})
    c = g.client(READ)
    assert c.post("/api/v1/inference", json={"prompt": "😀" * 5, "model": "llama-7b"}).status_code == 200
    refused(c.post("/api/v1/inference", json={"prompt": "😀" * 6, "model": "llama-7b"}), 400, "VALIDATION_ERROR", "prompt")
    assert c.post("/v1/chat/completions", json={"model": "llama-7b", "messages": [{"role": "user", "content": "x" * 50}]}).status_code == 200


def test_model_has_its_own_prompt_limit(gate, worker):
    """C-14: max_prompt_chars of a model bounds what goes to it; /v1 is otherwise bounded by bytes."""
    g = gate(models=[model("small", worker(), max_prompt_chars=8), model("big", worker())])
    c = g.client(READ)
    assert c.post("/api/v1/inference", json={"prompt": "x" * 8, "model": "small"}).status_code == 200
    refused(c.post("/api/v1/inference", json={"prompt": "x" * 9, "model": "small"}), 400, "VALIDATION_ERROR", "prompt")
    assert c.post("/api/v1/inference", json={"prompt": "x" * 9, "model": "big"}).status_code == 200
    assert c.post("/v1/completions", json={"prompt": "x" * 9, "model": "small"}).status_code == 400


def test_content_types(c):
    """S2-43: JSON and nothing else; parameters and case do not matter."""
    body = b'{"prompt":"x","model":"llama-7b"}'
    for good in ("application/json", "application/json; charset=utf-8", "Application/JSON", "application/json;charset=UTF-8"):
        assert c.post("/api/v1/inference", content=body, headers={"Content-Type": good}).status_code == 200, good
    for bad in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonx", "text/json", "application/jso", "*/*"):
        refused(c.post("/api/v1/inference", content=body, headers={"Content-Type": bad}), 415, "UNSUPPORTED_MEDIA_TYPE")
    refused(c.post("/api/v1/inference", content=body), 415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize("body,param", [(b"", None), (b"{", None), (b"[1]", None), (b'"x"', None), (b'{"prompt":"x","model":"llama-7b"} {}', None), (b'{"prompt":"\xff","model":"llama-7b"}', None),
                                        (b'{"model":"llama-7b"}', "prompt"), (b'{"prompt":5,"model":"llama-7b"}', "prompt"), (b'{"prompt":null,"model":"llama-7b"}', "prompt"),
                                        (b'{"prompt":["x"],"model":"llama-7b"}', "prompt"), (b'{"prompt":"x"}', "model"), (b'{"prompt":"x","model":7}', "model"),
                                        (b'{"prompt":"x","model":"llama-7b","model":"llama-7b"}', "model"),
                                        (b'{"prompt":"x","prompt":"y","model":"llama-7b"}', "prompt"), (b'{"prompt":"x","pr\\u006fmpt":"y","model":"llama-7b"}', "prompt"),
                                        (b'{"prompt":"x","model":"llama-7b","stream":"true"}', "stream")])
def test_bad_bodies(c, w, body, param):
    """S2-49, C-15: 400 VALIDATION_ERROR naming the field; nothing reaches the worker."""
    before = len(w.requests)
    refused(c.post("/api/v1/inference", content=body, headers={"Content-Type": "application/json"}), 400, "VALIDATION_ERROR", param)
    assert len(w.requests) == before


def test_unknown_model(c):
    """C-16: 404 here, with the known names."""
    doc = refused(c.post("/api/v1/inference", json={"prompt": "x", "model": "nope"}), 404, "MODEL_NOT_FOUND")
    assert "llama-7b" in doc["error"]["message"]


def test_error_envelope(g):
    """S2-44 to S2-46: error is an object with code, message and details, also when null."""
    for key in ("wrong-key", None):
        r = g.client(key).post("/api/v1/inference", json={"prompt": "x", "model": "llama-7b"})
        doc = refused(r, 401, "AUTHENTICATION_FAILED")
        assert doc["error"]["details"] is None and r.headers["www-authenticate"].startswith("Bearer ")
        assert ("invalid_token" in r.headers["www-authenticate"]) == bool(key)
        if key:
            assert doc["error"]["message"] == "Invalid API key"


def test_body_limit(gate, worker):
    """S2-40, C-14: over the limit is 413 VALIDATION_ERROR, before the body is read, chunked bodies too."""
    g = gate(models=[model("llama-7b", worker())], toml={"server": {"max_body_bytes": 5000}})
    c = g.client(READ)
    assert c.post("/api/v1/inference", json={"prompt": "x" * 4000, "model": "llama-7b"}).status_code == 200
    refused(c.post("/api/v1/inference", json={"prompt": "x" * 5000, "model": "llama-7b"}), 413, "VALIDATION_ERROR")
    refused(c.post("/api/v1/inference", content=iter([b"x" * 1000] * 20), headers={"Content-Type": "application/json"}), 413, "VALIDATION_ERROR")
    head = f"POST /api/v1/inference HTTP/1.1\r\nHost: a\r\nX-API-Key: {READ}\r\nContent-Type: application/json\r\nContent-Length: 99999999\r\nExpect: 100-continue\r\n\r\n"
    out = g.raw(head.encode(), timeout=3)
    assert out.startswith(b"HTTP/1.1 413 "), out[:100]


def test_default_body_limit_is_10_mib(g):
    """S2-40: 10 MiB pass, one byte more does not (as announced; nothing is sent)."""
    for n, want in ((10 * 1024 * 1024 + 1, b"HTTP/1.1 413 "), (10 * 1024 * 1024, b"HTTP/1.1 100 ")):
        head = f"POST /api/v1/inference HTTP/1.1\r\nHost: a\r\nX-API-Key: {READ}\r\nContent-Type: application/json\r\nContent-Length: {n}\r\nExpect: 100-continue\r\n\r\n"
        assert g.raw(head.encode(), timeout=1).startswith(want), n
