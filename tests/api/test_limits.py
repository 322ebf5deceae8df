"""Request windows: who shares one, how exact it is, what the caller is told (the suite that S4-118 asks for, with test_limits_keys.py and tests/fault/test_limits_tokens.py)."""
import concurrent.futures
import re
import time

import httpx
import pytest

from lib.gate import ADMIN, READ, model
from lib.limits import flood, window
from lib.wire import request

SECOND = 1  # Reset is whole seconds made of two clocks: it may be told one apart within a window
PROMPT = {"prompt": "x", "model": "m"}
CHAT = {"model": "m", "messages": [{"role": "user", "content": "x"}]}


def ask(c, **kw):
    return c.post("/api/v1/inference", json=PROMPT, **kw)


def test_api_headers_default(gate, worker):
    """S2-32 to S2-37, S2-47, S2-48: 60 a minute by default; three headers on success, on 4xx and on 429; the 61st is refused with code and Retry-After."""
    g = gate(models=[model("m", worker())])
    c = g.client(READ)
    before = time.time()
    r = ask(c)
    limit, remaining, reset = window(r)
    assert (r.status_code, limit, remaining) == (200, 60, 59) and before < reset <= time.time() + 61
    r = c.post("/api/v1/inference", content=b"x", headers={"Content-Type": "text/plain"})
    assert r.status_code == 415 and window(r)[:2] == (60, 58) and abs(window(r)[2] - reset) <= SECOND, "refused requests count, and tell"
    r = c.post("/api/v1/inference", content=b"{", headers={"Content-Type": "application/json"})
    assert r.status_code == 400 and window(r)[:2] == (60, 57)
    for left in range(56, -1, -1):
        r = ask(c)
        assert r.status_code == 200 and window(r)[:2] == (60, left) and abs(window(r)[2] - reset) <= SECOND
    for _ in range(3):
        r = ask(c)
        assert r.status_code == 429 and window(r)[:2] == (60, 0), r.text
        doc = r.json()
        assert doc["code"] == doc["error"]["code"] == "RATE_LIMITED" and doc["status"] == 429 and {"message", "details"} <= set(doc["error"])
        assert re.fullmatch(r"[1-9][0-9]*", r.headers["retry-after"]) and int(r.headers["retry-after"]) <= 60
        assert abs(time.time() + int(r.headers["retry-after"]) - reset) <= 2, "both tell the same end"
    other = ask(g.client(ADMIN))
    assert other.status_code == 200 and window(other)[:2] == (60, 59), "a window is one principal's"
    assert g.client(READ, source="127.0.0.2").post("/api/v1/inference", json=PROMPT).status_code == 429, "not one address's"
    assert g.client(READ).get("/models/info").status_code == 200, "other classes have their own"


def test_strangers_do_not_count(gate, worker):
    """DESIGN.md: everything that passed authentication counts, nothing else does."""
    g = gate(models=[model("m", worker())], toml={"limits": {"api": "5/minute"}})
    for key in (None, "wrong"):
        for _ in range(10):
            r = ask(g.client(key))
            assert r.status_code == 401 and "x-ratelimit-limit" not in r.headers
    assert window(ask(g.client(READ)))[:2] == (5, 4)


def test_waiting_helps(gate, worker):
    """S2-35, S2-38: after Retry-After the next try passes, and the count starts anew."""
    g = gate(models=[model("m", worker())], toml={"limits": {"api": "2/second"}})
    c = g.client(READ)
    got = [ask(c) for _ in range(3)]
    assert [r.status_code for r in got] == [200, 200, 429], [r.text for r in got]
    time.sleep(int(got[2].headers["retry-after"]))
    r = ask(c)
    assert r.status_code == 200 and window(r)[:2] == (2, 1)


HELPER = '''
import time
import requests

def make_request_with_retry(url, headers, max_retries=5):
    for attempt in range(max_retries):
        response = requests.get(url, headers=headers)

        if response.status_code == 429:
            retry_after = int(response.headers.get('Retry-After', 60))
            time.sleep(retry_after * (2 ** attempt))
            continue

        return response

    raise Exception("Max retries exceeded")
'''


def test_document_helper(gate, worker, monkeypatch):
    """S2-39, S2-73, S2-74: document 002's Python helper, unchanged, over a limit: it paces itself by what it is told and ends in 200."""
    pytest.importorskip("requests")
    monkeypatch.setenv("NO_PROXY", "*")
    g = gate(models=[model("m", worker())], toml={"limits": {"infer": "2/second"}})
    ns = {}
    exec(HELPER, ns)
    got = [ns["make_request_with_retry"](g.url + "/v1/models", {"X-API-Key": READ}) for _ in range(4)]
    assert [r.status_code for r in got] == [200] * 4
    assert any(r["status"] == 429 for r in g.requests(0.3)), "the helper was never told to wait"


def test_no_limit_no_headers(gate, worker):
    """DESIGN.md: a route without a limit sends no limit headers; "off" is none."""
    g = gate(models=[model("m", worker())], toml={"limits": {"api": "off"}})
    for r in (ask(g.client(READ)), g.client(READ).get("/v1/models"), g.client(READ).get("/models/info"), g.client().get("/health")):
        assert r.status_code == 200 and not [k for k in r.headers if "ratelimit" in k]


def test_infer_class_is_one_window(gate, worker):
    """DESIGN.md: /v1/* and /infer are one class, off until set; a local caller without a key is counted by its address."""
    g = gate(models=[model("m", worker())], toml={"limits": {"infer": "3/minute"}})
    c = g.client(READ)
    assert window(c.get("/v1/models"))[:2] == (3, 2)
    assert window(c.post("/v1/chat/completions", json=CHAT))[:2] == (3, 1)
    body = {"model_name": "m", "request_body": {"input": "x"}}
    assert window(c.post("/infer", json=body))[:2] == (3, 0)
    assert c.post("/v1/chat/completions", json=CHAT).status_code == 429
    assert ask(c).status_code == 200, "the api class is another"
    local = g.client()
    assert [local.post("/infer", json=body).status_code for _ in range(4)] == [200, 200, 200, 429]


def test_limit_is_checked_before_the_worker(gate, worker):
    """A refused request costs a worker nothing."""
    w = worker()
    g = gate(models=[model("m", w)], toml={"limits": {"infer": "2/minute"}})
    assert [g.client(READ).post("/v1/chat/completions", json=CHAT).status_code for _ in range(6)] == [200, 200, 429, 429, 429, 429]
    assert len(w.requests) == 2


def test_health_is_never_limited(gate, worker):
    """S0-39: with every class used up, /health, /livez and / still answer."""
    g = gate(models=[model("m", worker())], toml={"limits": {k: "1/day" for k in ("api", "infer", "poll", "train", "predict", "ml")}})
    c = g.client(READ)
    assert [ask(c).status_code for _ in range(2)] == [200, 429]
    for path in ("/health", "/livez", "/readyz", "/"):
        assert all(c.get(path).status_code == 200 for _ in range(100)), path
    assert all(g.client().get("/health").status_code == 200 for _ in range(100))


@pytest.mark.parametrize("which", ["infer", "key_requests"])
def test_a_thousand_at_once_pass_exactly_sixty(gate, worker, which):
    """DESIGN.md: exactly N pass, under any concurrency: 1,000 connections over every loop, 60 answers, 940 refusals."""
    import json
    w = worker()
    g = gate(models=[model("m", w)], toml={"limits": {which: "60/minute"}})
    wire = request("POST", "/v1/chat/completions", [("X-API-Key", READ), ("Content-Type", "application/json"), ("Connection", "close")], json.dumps(CHAT))
    got = flood(g, 1000, wire)
    assert sorted(set(got)) == [200, 429] and (got.count(200), got.count(429)) == (60, 940), {x: got.count(x) for x in set(got)}
    assert len(w.requests) == 60
    records = [r for r in g.requests(0.4) if r["endpoint"] == "/v1/chat/completions"]
    assert len(records) == 1000 and sum(r["status"] == 200 for r in records) == 60
    assert sum(r["reason"] == "rate_limited" for r in records) == 940


def test_windows_of_many_callers_are_apart(gate):
    """40 keys, five a minute each, all at once: each gets its five."""
    keys = [f"caller-key-{i:03d}-abcdefgh" for i in range(40)]
    g = gate(env={"TOLLGATE_API_KEYS": ",".join(keys)}, toml={"limits": {"infer": "5/minute"}})

    def one(key):
        with httpx.Client(base_url=g.url, headers={"X-API-Key": key}, trust_env=False, timeout=30) as c:
            return [c.get("/v1/models").status_code for _ in range(8)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(x == [200] * 5 + [429] * 3 for x in pool.map(one, keys))


def test_limit_changes_with_a_reload(gate, worker):
    """The issue: SIGHUP reloads the whole configuration."""
    g = gate(models=[model("m", worker())], toml={"limits": {"api": "1/hour"}})
    assert [ask(g.client(READ)).status_code for _ in range(2)] == [200, 429]
    g.write_config(toml={"limits": {"api": "off"}})
    g.reload()
    assert [ask(g.client(READ)).status_code for _ in range(3)] == [200] * 3
