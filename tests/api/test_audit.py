"""
The audit trail (document 004; seed ledger S4-59, S4-60, S4-68 to S4-72, S4-107, S4-109, S4-120): what is in it, that none of its lines is lost when the file is moved, when the disk is full or when the gate is killed, and that
it shows no secret. What training and prediction write is tested with them.
"""
import hashlib
import json
import os
import re
import signal
import threading
import time

import pytest

from lib.audit import COMMON, check, events, table, wait_event
from lib.gate import ADMIN, READ, model
from lib.ml import FUTURE, TRAIN_KEY, config, ml_gate, trained
from lib.raw import SLOW, until


@pytest.fixture(scope="module")
def g(module_gate, module_worker):
    return module_gate(models=[model("m", module_worker())], toml={"auth": {"guesses": "off"}, "limits": {"api": "off"}})


def test_a_key_that_is_valid(g):
    """S4-59: api_key_hash and ip; the access log has the rest under the same id. The hash is the key's, whoever shows it how."""
    r = g.client(ADMIN).get("/status?x=1")
    e = wait_event(g, "auth_success", lambda e: e["request_id"] == r.headers["x-request-id"])
    assert e["ip"] == "127.0.0.1" and re.fullmatch("[0-9a-f]{16}", e["api_key_hash"])
    assert g.record(r)["user"] == "key_" + e["api_key_hash"]
    r = g.external(headers={"Authorization": f"Bearer {ADMIN}"}).get("/models/nobody")
    same = wait_event(g, "auth_success", lambda x: x["request_id"] == r.headers["x-request-id"])
    assert same["api_key_hash"] == e["api_key_hash"] and same["ip"] == "127.0.0.2"
    r = g.client(READ).get("/models")
    assert wait_event(g, "auth_success", lambda x: x["request_id"] == r.headers["x-request-id"])["api_key_hash"] != e["api_key_hash"]
    r = g.client(READ).post("/models/reload")
    assert r.status_code == 401, "known, but may not"
    wait_event(g, "auth_success", lambda x: x["request_id"] == r.headers["x-request-id"])


def test_a_key_that_is_not(g):
    """S4-60: ip and attempted_key_prefix by the rule of prefixes: nine characters of a long one, none of a short one or of a token; on inference too."""
    for key, prefix, path in (("sk_unknown_0123456789abcdef", "sk_unknow", "/models"), ("short", "***", "/v1/models"), ("eyJhbGciOiJIUzI1NiJ9.e30.xxxxxxxxxxxxxxxxxxxxx", "***", "/status"), (ADMIN + "x", ADMIN[:9], "/nowhere")):
        r = g.external(key).get(path)
        assert r.status_code == 401
        e = wait_event(g, "auth_failure", lambda e: e["request_id"] == r.headers["x-request-id"])
        assert e["ip"] == "127.0.0.2" and e["attempted_key_prefix"] == prefix
    r = g.client("wrong-key-0123456789").post("/infer", json={"prompt": "x"})
    assert r.status_code != 401, "a local caller is let in"
    wait_event(g, "auth_failure", lambda e: e["request_id"] == r.headers["x-request-id"])


def test_who_shows_nothing_and_whom_the_access_log_has(g):
    before = len(events(g))
    assert g.external().get("/models").status_code == 401
    assert g.client().get("/health").status_code == 200
    assert g.client(READ).get("/v1/models").status_code == 200
    assert g.client(READ).post("/v1/chat/completions", json={"model": "m", "messages": []}).status_code == 200
    r = g.client(READ).get("/models/info")
    wait_event(g, "auth_success", lambda e: e["request_id"] == r.headers["x-request-id"])
    assert len(events(g)) == before + 1


def test_managed_keys_and_logins(gate):
    """Of a token it is the hash of its id, the same for all its requests, and another for the next; a key that was revoked, or whose secret was replaced, is a failure; a failed login shows nothing of the password."""
    g = gate(env={"INFERNO_ADMIN_PASSWORD": "correct horse battery"}, toml={"auth": {"guesses": "off"}})
    admin, login = g.client(ADMIN), "/api/v1/auth/login"
    key = admin.post("/api/v1/auth/api-keys", json={"name": "k", "permissions": ["read_models"]}).json()
    with_key = g.client(key["key"])
    r = with_key.get("/models")
    e = wait_event(g, "auth_success", lambda e: e["request_id"] == r.headers["x-request-id"])
    assert g.record(r)["user"] == key["id"] and re.fullmatch("[0-9a-f]{16}", e["api_key_hash"])
    new = admin.post(f"/api/v1/auth/api-keys/{key['id']}/rotate", json={}).json()["key"]
    r = g.client(new).get("/models")
    assert wait_event(g, "auth_success", lambda x: x["request_id"] == r.headers["x-request-id"])["api_key_hash"] != e["api_key_hash"], "two secrets, two hashes"
    admin.delete(f"/api/v1/auth/api-keys/{key['id']}")
    r = with_key.get("/models")
    assert wait_event(g, "auth_failure", lambda e: e["request_id"] == r.headers["x-request-id"])["attempted_key_prefix"] == key["key"][:9]
    hashes = []
    for _ in range(2):
        r = g.client().post(login, json={"username": "admin", "password": "correct horse battery"})
        token = r.json()["token"]
        made = wait_event(g, "auth_success", lambda e: e["request_id"] == r.headers["x-request-id"])
        r = g.client(headers={"Authorization": "Bearer " + token}).get("/models")
        used = wait_event(g, "auth_success", lambda e: e["request_id"] == r.headers["x-request-id"])
        assert used["api_key_hash"] == made["api_key_hash"]
        hashes.append(used["api_key_hash"])
    assert hashes[0] != hashes[1]
    r = g.client().post(login, json={"username": "admin", "password": "wrong horse battery"})
    assert r.status_code == 401
    assert wait_event(g, "auth_failure", lambda e: e["request_id"] == r.headers["x-request-id"])["attempted_key_prefix"] == "***"
    text = (g.dir / "logs/audit.jsonl").read_text()
    assert not any(s in text for s in (ADMIN, key["key"], new, token, "horse"))


def test_the_lines(g):
    """S4-68, S4-69: one JSON object a line, event and timestamp; names of fields are the table's."""
    assert len(table()) == 8 and all(check(e) for e in events(g))
    assert {"event", "timestamp"} <= set(COMMON)
    for name, fields in {"auth_success": "api_key_hash ip", "auth_failure": "ip attempted_key_prefix", "training_started": "config dataset_hash user", "training_completed": "model_id metrics duration duration_seconds",
                         "training_failed": "error config job", "prediction_made": "model_id n_samples user", "model_persisted": "model_id path", "model_loaded": "model_id"}.items():
        assert set(fields.split()) == set(table()[name][0]), "document 004's own, and the job of one that failed"
    assert (g.dir / "logs/audit.jsonl").stat().st_mode & 0o777 == 0o640


def test_where_it_is(gate):
    """S4-107: by its variable, with folders that are made; a reload changes it; "" is none; a path that cannot be stops the start."""
    g = gate(env={"CREDIT_RISK_AUDIT_LOG_PATH": "some/where/else.jsonl"})
    r = g.client(ADMIN).get("/models")
    wait_event(g, "auth_success", lambda e: e["request_id"] == r.headers["x-request-id"], "some/where/else.jsonl")
    assert not (g.dir / "logs/audit.jsonl").exists()
    h = gate(toml={"audit": {"path": "one.jsonl"}})
    h.client(ADMIN).get("/models")
    h.write_config(toml={"audit": {"path": "two.jsonl"}})
    assert h.reload()["event"] == "config.reloaded"
    r = h.client(ADMIN).get("/models")
    wait_event(h, "auth_success", lambda e: e["request_id"] == r.headers["x-request-id"], "two.jsonl")
    assert len(events(h, path="one.jsonl")) == 1
    h.write_config(toml={"audit": {"path": ""}})
    h.reload()
    assert h.client(ADMIN).get("/models").status_code == 200
    h.write_config(toml={"audit": {"path": "/proc/none/audit.jsonl"}})
    assert h.reload()["event"] == "config.reloaded"
    until(lambda: "the audit trail stays where it is" in h.stderr(), 5 * SLOW, "the reason")
    assert len(events(h, path="two.jsonl")) == 1
    bad = gate(toml={"audit": {"path": "/proc/none/audit.jsonl"}}, start=False)
    bad.start(wait=False)
    assert bad.proc.wait(20 * SLOW) == 1
    until(lambda: "audit.path: cannot open /proc/none/audit.jsonl" in bad.stderr(), 5, "the reason")
    bad.kill()


def test_rotation_loses_nothing(gate):
    """S4-71: the file is moved away and SIGHUP sent, again and again, while requests come: each has its line, in one of the files, once."""
    g = gate(toml={"limits": {"api": "off"}})
    ids, stop, moved = [], threading.Event(), []

    def ask():
        c, mine = g.client(ADMIN), []
        while not stop.is_set():
            mine.append(c.get("/auth/verify").headers["x-request-id"])
        ids.extend(mine)
    threads = [threading.Thread(target=ask) for _ in range(3)]
    for t in threads:
        t.start()
    for n in range(6):
        wait_event(g, "auth_success")
        os.rename(g.dir / "logs/audit.jsonl", g.dir / f"logs/audit.jsonl.{n}")
        moved.append(f"logs/audit.jsonl.{n}")
        os.kill(g.pid, signal.SIGHUP)
        until(lambda: (g.dir / "logs/audit.jsonl").exists(), 5 * SLOW, "the new file")
    stop.set()
    for t in threads:
        t.join()
    g.stop()
    got = [e["request_id"] for p in [*moved, "logs/audit.jsonl"] for e in events(g, path=p)]
    assert sorted(got) == sorted(ids) and len(ids) > 20


def test_a_killed_gate(gate):
    """S4-72: what the answer to a control-plane call says is on record before it: SIGKILL right behind it loses nothing of that."""
    content = b"weights"
    meta = {"id": "m1", "format": "tgm", "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    g = gate(files={"artifacts/models/m1.json": json.dumps(meta), "artifacts/models/m1.tgm": content.decode()})
    c = g.client(ADMIN)
    for _ in range(5):
        r = c.post("/models/m1/persist")
        assert r.status_code == 200
        os.kill(g.pid, signal.SIGKILL)
        assert r.headers["x-request-id"] in [e["request_id"] for e in events(g, "model_persisted")]
        g.kill()
        g.start()
        c = g.client(ADMIN)


def test_a_full_disk_is_said(gate):
    """S4-72: what cannot be written waits and is counted; the gate goes on answering. /dev/full is a disk without room."""
    g = gate(toml={"audit": {"path": "/dev/full"}})
    c = g.client(ADMIN)
    for _ in range(3):
        assert c.get("/auth/verify").status_code == 200

    def figures():
        return {k: float(v) for k, v in (line.split() for line in c.get("/metrics").text.splitlines() if line.startswith("tollgate_audit"))}
    until(lambda: figures()["tollgate_audit_write_failures_total"] > 0, 5 * SLOW, "the failures being counted")
    assert figures()["tollgate_audit_waiting_bytes"] > 0 and figures()["tollgate_audit_lost_events_total"] == 0
    assert g.stderr().count("audit: cannot write to /dev/full") == 1
    assert any(r["event"] == "audit.failed" for r in g.log())
    g.stop()
    assert re.search(r"audit: \d+ events could not be written to /dev/full", g.stderr())


def test_a_full_disk_slows_nobody(gate):
    """S4-72: a prediction is answered after its line was written; where none can be, it is not waited for (each would pay two seconds)."""
    g = ml_gate(gate, {"audit": {"path": "/dev/full"}})
    c = g.client(TRAIN_KEY)
    model = trained(c, config(c))
    body = {"model_id": model, "data": FUTURE}
    assert c.post("/predict", json=body).status_code == 200
    begun, n = time.monotonic(), 5
    for _ in range(n):
        assert c.post("/predict", json=body).status_code == 200
    assert time.monotonic() - begun < 2 * n * 0.8


def test_concurrent_lines_are_whole(g):
    """Loops write at the same time: the trail has one line a request, whole."""
    before, n = len(events(g, "auth_failure")), 40

    def ask(k):
        c = g.external(f"wrong-key-{k}-0123456789")
        for _ in range(n):
            assert c.get("/models").status_code == 401
    threads = [threading.Thread(target=ask, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    until(lambda: len(events(g, "auth_failure")) == before + 4 * n, 5 * SLOW, "all lines")
