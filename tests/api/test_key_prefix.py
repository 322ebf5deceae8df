"""
Seed ledger S3-80: what does the work knows whose key it is for, by the part of the key that may be shown (C-18): the engine always, a model's workers where `pass_key_prefix` says so. No caller can say it for himself.
"""
import json

import pytest
from lib.credit import KEY, credit_gate, predict, trained
from lib.gate import ADMIN, READ, model
from lib.ml import FRAME, FUTURE, ended
from lib.ml import config as ml_config
from lib.raw import SLOW, until

SERVICE, SHORT = "sk_ml_service_a_9f8e7d6c5b4a", "short-key-15-ch"
NAME = "X-Tollgate-Key-Prefix"
FORGED = {NAME: "forged-it"}
BODIES = {"/v1/chat/completions": {"model": "m", "messages": [{"role": "user", "content": "hi"}]}, "/v1/completions": {"model": "m", "prompt": "hi"}, "/v1/embeddings": {"model": "m", "input": "hi"},
          "/infer": {"model_name": "m", "request_body": {"input": "hi"}}, "/api/v1/inference": {"model": "m", "prompt": "hi"}}


def engine_says(g):
    path = g.dir / "logs" / "workers.log"
    return [json.loads(x)["line"] for x in path.read_text().splitlines()] if path.exists() else []


def test_the_engine(gate):
    """Document 004's and 003's trainings and predictions, from the data on, also where a job's runner asks for it. Ids in that log are masked, being as long as keys."""
    g = credit_gate(gate, env={"CHAPKIT_API_KEYS": SERVICE})
    c = g.client(KEY, headers=FORGED)
    predict(c, trained(c)["model_id"])
    s = g.client(SERVICE, headers=FORGED)
    r = s.post("/api/v1/ml/$train", json={"config_id": ml_config(s), "data": FRAME})
    assert r.status_code == 202 and ended(s, r.json()["job_id"])["status"] == "completed", r.text
    r = s.post("/api/v1/ml/$predict", json={"model_artifact_id": r.json()["model_artifact_id"], "historic": {"columns": FUTURE["columns"], "data": []}, "future": FUTURE})
    assert r.status_code == 202 and ended(s, r.json()["job_id"])["status"] == "completed", r.text
    for key, method, rows in ((KEY, "logistic_regression", 300), (SERVICE, "linear_regression", len(FRAME["data"]))):
        tail = f", key {key[:9]}"
        until(lambda: sum(x.endswith(tail) for x in engine_says(g)) == 4, 5 * SLOW, f"four lines for {key[:9]}")
        mine = [x for x in engine_says(g) if x.endswith(tail)]
        assert [w for w in mine if f": data of {rows} rows, " in w] and [w for w in mine if f": training by {method}, " in w] and [w for w in mine if ": prediction with " in w], mine
    text = (g.dir / "logs" / "workers.log").read_text()
    assert KEY not in text and SERVICE not in text and "forged" not in text


@pytest.fixture(scope="module")
def two(module_gate, module_worker):
    """One model whose workers are told, one whose are not."""
    told, other = module_worker(), module_worker()
    g = module_gate(models=[model("m", told, pass_key_prefix=True), model("quiet", other)], env={"TOLLGATE_API_KEYS": SHORT, "INFERNO_ADMIN_PASSWORD": "correct horse battery"}, toml={"limits": {"api": "off"}})
    return g, told, other


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("stream", [False, True])
def test_workers(two, path, stream):
    g, told, other = two
    for key, want in ((READ, READ[:9]), (ADMIN, ADMIN[:9]), (SHORT, "***")):
        for name, w in (("m", told), ("quiet", other)):
            w.clear()
            body = json.loads(json.dumps(BODIES[path]).replace('"m"', f'"{name}"')) | ({"stream": True} if stream and path not in ("/v1/embeddings", "/infer") else {})
            r = g.client(key).post(path, json=body, headers=[*FORGED.items(), (NAME.lower(), "again"), (NAME.replace("-", "_"), "x")])
            assert r.status_code == 200, r.text
            assert w.last.all(NAME) == ([want] if w is told else []), w.last.head
            assert b"forged" not in w.last.head and b"again" not in w.last.head and key.encode() not in w.last.head + w.last.body
            assert all(NAME.lower() not in k.lower() for k in r.headers)


def test_callers_without_a_key(two):
    """Who logged in has none, nor has who is let in for being on this machine: nothing is said then."""
    g, told, _ = two
    told.clear()
    token = g.client(None).post("/api/v1/auth/login", json={"username": "admin", "password": "correct horse battery"}).json()["token"]
    for c in (g.client(token), g.client(None)):
        r = c.post("/infer", json=BODIES["/infer"], headers=FORGED)
        assert r.status_code == 200 and told.last.all(NAME) == [], told.last.head
    assert len(told.requests) == 2


def test_it_is_told_to_the_second_worker_too(gate, worker):
    """The worker dies with the request in hand; the head that the next one gets is the same."""
    a, b = worker(), worker()
    g = gate(models=[model("m", a, b, pass_key_prefix=True)])
    for w in (a, b):
        w.behave(by=lambda r: {"drop": True} if len(a.requests) + len(b.requests) == 1 else {})
    assert g.client(READ).post("/v1/chat/completions", json=BODIES["/v1/chat/completions"]).status_code == 200
    assert [r.all(NAME) for r in a.requests + b.requests] == [[READ[:9]]] * 2


def test_a_reload_changes_it(gate, worker):
    w = worker()
    g = gate(models=[model("m", w)])
    for on in (True, False):
        g.write_config(models=[model("m", w, pass_key_prefix=on)])
        g.reload()
        assert g.client(READ).post("/infer", json=BODIES["/infer"]).status_code == 200
        assert w.last.all(NAME) == ([READ[:9]] if on else [])
