"""
S4-112: every route that takes a body, from the program's own table, with bodies that nobody meant: random JSON around the names that handlers know, and text that is none. Whatever comes, the answer is
a success or says what was wrong, in a whole body of the route's family; never a 500, a hang or an end.
"""
import json
import random

import pytest
from lib.gate import ADMIN, model, run_cli

ROUNDS = 30
NAMES = ["model", "messages", "role", "content", "stream", "stream_options", "include_usage", "prompt", "input", "max_tokens", "n", "best_of", "name", "permissions", "expires_in_days", "limits",
         "requests", "in_flight", "tokens_per_minute", "username", "password", "disabled", "overlap_seconds", "model_name", "request_body", "session_id", "id", "config_id", "artifact_id", "data",
         "columns", "parameters", "target", "method", "dataset", "applications", "threshold", "include_probabilities", "model_id", "model_type", "selected_features", "test_size", "cv_folds", "log", "level", "server", "api", "infer", "", "é", "a.b", "$ref", "x" * 200]
WORDS = ["", "m", "llama", "read_models", "run_inference", "fly", "60/minute", "off", "user", "\u0000", "\ud83d", "😀" * 50, "../../etc/passwd", "' OR 1=1 --", "${jndi:x}", "A" * 3000, "null", "NaN", "1e999",
         "01K7CXYHJ7BR4E87VVTG8FNBMA", "2026-02-30"]
# What is right, to be spoilt in a member or two: random text alone seldom gets past the first check.
RIGHT = {
    "/v1/chat/completions": {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": False, "max_tokens": 5}, "/v1/completions": {"model": "m", "prompt": "hi"},
    "/v1/embeddings": {"model": "m", "input": "hi"}, "/infer": {"model_name": "m", "request_body": {"input": "hi"}, "session_id": "s"}, "/api/v1/inference": {"model": "m", "prompt": "hi"},
    "/api/v1/auth/login": {"username": "admin", "password": "correct horse battery"}, "/api/v1/auth/api-keys": {"name": "k", "permissions": ["read_models"], "limits": {"requests": "60/minute"}},
    "/api/v1/auth/api-keys/{id}/rotate": {"overlap_seconds": 60}, "/api/v1/users": {"username": "u", "password": "correct horse battery", "permissions": []},
    "/api/v1/users/{id}": {"disabled": False, "permissions": []}, "/api/v1/config": {"limits": {"infer": "60000/minute"}, "log": {"level": "info"}}, "/models/reload": {"model": "m"},
    "/train": {"model_type": "logistic_regression", "cv_folds": 2, "data": {"columns": ["a", "y"], "data": [[1, 0], [2, 1]]}}, "/predict": {"model_id": "x", "data": {"columns": ["a"], "data": [[1]]}},
}
MEMBERS = {"type", "title", "status", "detail", "instance", "code", "message", "timestamp", "request_id", "error"}


def rows():
    routes = json.loads(run_cli("routes", "--json", cwd="/").stdout)
    routes = routes["routes"] if isinstance(routes, dict) else routes
    return [r if r["method"] in ("POST", "PUT", "PATCH") else dict(r, method="PUT") for r in routes if r["method"] in ("POST", "PUT", "PATCH", "*", "ANY", "ANYMETHOD")]


def value(rnd, depth=0):
    kind = rnd.randrange(10 if depth < 4 else 6)
    if kind < 6:
        return [None, rnd.choice([True, False]), rnd.choice([0, 1, -1, 90, 2 ** 31, 2 ** 53 + 1, -2 ** 63, 10 ** 30, rnd.randrange(-10 ** 6, 10 ** 6)]),
                rnd.choice([0.5, -0.0, 1e308, 1e-320, float("nan"), float("inf")]), rnd.choice(WORDS), rnd.choice(NAMES)][kind]
    if kind == 6:
        return [value(rnd, depth + 1) for _ in range(rnd.randrange(6))]
    return {rnd.choice(NAMES): value(rnd, depth + 1) for _ in range(rnd.randrange(7))}


def spoilt(rnd, tree):
    tree = json.loads(json.dumps(tree))
    for _ in range(rnd.randrange(3)):
        tree[rnd.choice(list(tree) + [rnd.choice(NAMES)])] = value(rnd, 2)
    return tree


def text(rnd, row):
    if rnd.random() < 0.03:
        return b"[" * 3000 + b"]" * rnd.choice([0, 3000])
    tree = spoilt(rnd, RIGHT.get(row["path"], {})) if rnd.random() < 0.6 else value(rnd) if rnd.random() < 0.2 else {rnd.choice(NAMES): value(rnd, 1) for _ in range(rnd.randrange(9))}
    t = json.dumps(tree, ensure_ascii=rnd.random() < 0.5)
    t = t.encode("utf-8", "surrogatepass")
    if rnd.random() < 0.2:  # not quite JSON
        at = rnd.randrange(len(t) + 1)
        t = rnd.choice([t[:at], t[:at] + bytes([rnd.randrange(256)]) + t[at:], t + t, b"", t[:at] + b"\xff\xfe" + t[at:]])
    return t


def path(rnd, r):
    p = r["path"].replace("*", rnd.choice(["zzz", "a/b", "%2e%2e"]))
    while "{" in p:
        p = p[:p.index("{")] + rnd.choice(["x1", "key_0123456789abcdef", "usr_0123456789abcdef", "01K7CXYHJ7BR4E87VVTG8FNBMA", "%00", "a" * 300]) + p[p.index("}") + 1:]
    return p


@pytest.fixture(scope="module")
def g(module_gate, module_worker):
    return module_gate(models=[model("m", module_worker(), affinity="off")],
                       toml={"limits": {k: "off" for k in ("api", "train", "predict", "poll")}, "auth": {"guesses": "off", "password_guesses": "off"}})


def fault(r, row):
    if r.status_code in (200, 201, 202, 204):
        return None
    if not (400 <= r.status_code < 500 or r.status_code == 503 or (r.status_code == 501 and row["state"] == "later")):
        return "status"
    try:
        e = r.json()
    except ValueError:
        return "no JSON"
    if not isinstance(e, dict) or not MEMBERS <= set(e) or e["status"] != r.status_code or e["request_id"] != r.headers["x-request-id"]:
        return "members"
    inner = e["error"]
    if row["path"].rstrip("/") in ("/train", "/predict", "/auth/verify"):
        return None if isinstance(inner, str) else "error is no code"
    return None if isinstance(inner, dict) and {"code", "message", "type"} <= set(inner) and isinstance(inner["message"], str) else "error"


def test_no_body_is_more_than_a_fault_of_its_own(g):
    table, rnd, wrong, seen = rows(), random.Random(4112), [], set()
    assert len(table) > 15 and all("state" in r for r in table)
    c = g.client(ADMIN)
    for _ in range(ROUNDS):
        for row in table:
            body, kind = text(rnd, row), rnd.choice(["application/json"] * 9 + ["text/plain", "application/json; charset=utf-8"])
            r = c.request(row["method"], path(rnd, row), content=body, headers={"Content-Type": kind})
            seen.add(r.status_code)
            why = fault(r, row)
            if why:
                wrong.append((why, row["method"], row["path"], r.status_code, body[:200], r.text[:300]))
    assert not wrong, wrong[:3]
    assert {200, 201, 400, 401, 404, 415} <= seen  # it reached handlers, and they looked
    assert c.get("/health").status_code == 200 and g.alive()
