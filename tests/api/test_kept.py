"""
Answers of the database that are kept while nobody commits anything (ADR 0025): lists and records of document 003 that are asked for again and again. That they are kept can be seen by nobody but the machine's scheduler;
that they are true is seen here, with others who change the database. (Seed ledger S3-38, S3-61.)
"""
import json
import sqlite3
import threading
from pathlib import Path

import pytest
from lib.gate import ADMIN
from lib.raw import SLOW

KEY = "sk_ml_train_abc123"
ARTIFACTS, CONFIGS, JOBS = "/api/v1/artifacts", "/api/v1/configs", "/api/v1/jobs"
ID = "01K7CXYHJ7BR4E87VVTG8FNBMA"
JOB = "01K7CXYHJ7BR4E87VVTG8FNJ0B"


def gate_of(gate, **toml):
    return gate(env={"CHAPKIT_API_KEYS": KEY}, toml={"limits": {"poll": "off"}, "server": {"threads": 1}, "ml": {"engine": False}, **toml})


def switches(pid):
    """How often each thread has gone to sleep."""
    out = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            out[task.name] = int((task / "status").read_text().split("voluntary_ctxt_switches:")[1].split()[0])
        except OSError:
            pass
    return out


def elsewhere(g, ask, times):
    """How often other threads than the two busiest, which are the loop's and the log's, went to sleep while it was asked so often."""
    before = switches(g.pid)
    for _ in range(times):
        assert ask().status_code == 200
    deltas = sorted(n - before.get(t, 0) for t, n in switches(g.pid).items())
    assert deltas[-1] >= times / 2
    return sum(deltas[:-2])


@pytest.mark.parametrize("path", [CONFIGS, f"{CONFIGS}?page=1&size=5", f"{CONFIGS}/{ID}", f"{CONFIGS}/{ID}/$artifacts", f"{JOBS}/{JOB}"])
def test_nobody_is_woken_for_what_is_known(gate, path):
    """What was asked before is answered by the loop itself; a change makes it ask once more."""
    g = gate_of(gate, store={"usage_flush_s": 3600})
    with g.client(KEY) as c:
        assert c.post(CONFIGS, json={"id": ID, "name": "first", "data": {"a": 1.50}}).status_code == 201
        with sqlite3.connect(g.dir / "data/tollgate.db", timeout=10) as db:
            db.execute("INSERT INTO jobs (id, kind, status, progress, message, spec, principal, key_prefix, attempts, created_at, updated_at) VALUES (?, 'train', 'completed', 100, '', '{}', 'p', '', 1, 1, 1)", [JOB])
        first = c.get(path)
        assert first.status_code == 200
        assert elsewhere(g, lambda: c.get(f"{ARTIFACTS}?page=1&size=1"), 300) >= 200, "what is asked of the database"
        at_once = elsewhere(g, lambda: c.get(path), 300)
        assert at_once < 60 * SLOW, f"{at_once} changes of threads for 300 answers that were known"
        again = c.get(path)
        plain = {k: v for k, v in again.headers.items() if k not in ("date", "x-request-id", "x-ratelimit-remaining", "ratelimit")}
        assert (again.text, plain) == (first.text, {k: v for k, v in first.headers.items() if k in plain}), "the same to the letter"
        assert c.get(CONFIGS, params={"page": 2, "size": 1}).json()["items"] == [] and c.get(f"{CONFIGS}/{ID[:-1]}X").status_code == 404


def test_what_another_program_has_changed_is_seen_at_once(gate):
    g = gate_of(gate)
    with g.client(KEY) as c, sqlite3.connect(g.dir / "data/tollgate.db", timeout=10, isolation_level=None) as db:
        assert c.post(CONFIGS, json={"id": ID, "name": "first", "data": {}}).status_code == 201
        for n in range(200):
            assert c.get(f"{CONFIGS}/{ID}").json()["name"] in ("first", f"n{n - 1}")
            db.execute("UPDATE configs SET name = ?", [f"n{n}"])
            assert c.get(f"{CONFIGS}/{ID}").json()["name"] == f"n{n}" and c.get(CONFIGS).json()[0]["name"] == f"n{n}"
        db.execute("DELETE FROM configs")
        assert c.get(CONFIGS).json() == [] and c.get(f"{CONFIGS}/{ID}").status_code == 404 and c.get(f"{CONFIGS}/{ID}").status_code == 404
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert c.get(CONFIGS).json() == []
        db.execute("INSERT INTO configs (id, name, data, created_at, updated_at) VALUES (?, 'again', '{}', 1, 1)", [ID])
        assert c.get(CONFIGS).json()[0]["name"] == "again"


def test_two_gates_show_the_same(gate):
    """What one has answered 200 is there at the other, whoever asked before."""
    g = gate_of(gate)
    assert g.client(KEY).post(CONFIGS, json={"id": ID, "name": "n0", "data": {}}).status_code == 201
    other = gate_of(gate, store={"url": f"sqlite:{g.dir / 'data/tollgate.db'}"})
    last, over, seen = 0, threading.Event(), []

    def watch(at):
        with at.client(KEY) as c:
            while not over.is_set():
                least = last
                r = c.get(CONFIGS)
                got = int(r.json()[0]["name"][1:]) if r.status_code == 200 else None
                if got is None or got < least:
                    seen.append((r.status_code, r.text, least))
                    return
    threads = [threading.Thread(target=watch, args=(at,)) for at in (g, other, other)]
    for t in threads:
        t.start()
    with g.client(KEY) as a, other.client(KEY) as b:
        for n in range(1, 200):
            assert (a if n % 3 else b).put(f"{CONFIGS}/{ID}", json={"name": f"n{n}", "data": {}}).status_code == 200
            last = n
    over.set()
    for t in threads:
        t.join()
    assert not seen


def test_who_may_not_see_them_does_not(gate):
    """They are asked for behind the door like any other."""
    g = gate_of(gate)
    with g.client(KEY) as c:
        assert c.post(CONFIGS, json={"id": ID, "name": "first", "data": {}}).status_code == 201
        assert c.get(CONFIGS).status_code == c.get(CONFIGS).status_code == 200
    assert g.external().get(CONFIGS).status_code == 401 and g.external("sk_ml_train_abc124").get(CONFIGS).status_code == 401
    r = g.client(ADMIN).post("/api/v1/auth/api-keys", json={"name": "weak", "permissions": ["read_metrics"]})
    assert r.status_code == 201 and g.external(json.loads(r.text)["key"]).get(CONFIGS).status_code == 403
