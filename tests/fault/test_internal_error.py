"""S2-50: a real 500. The database's file is damaged under a gate that runs: INTERNAL_ERROR, and nothing in the body of what is inside."""
import os
import re
import sqlite3

from lib.gate import ADMIN, READ, model
from lib.raw import SLOW, until

KEYS = "/api/v1/auth/api-keys"
INSIDE = re.compile(r"sqlite|malformed|disk image|not a database|SELECT|\.[ch]\b|\.db\b|/tmp|errno|stack|0x[0-9a-f]{6}", re.I)


def test_a_damaged_database_is_a_500_that_tells_nothing(gate, worker):
    g = gate(models=[model("m", worker())], toml={"limits": {"api": "off"}})
    admin = g.client(ADMIN)
    made = admin.post(KEYS, json={"name": "k", "permissions": ["read_models"]}).json()
    path = g.dir / "data/tollgate.db"
    with sqlite3.connect(path, timeout=10) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.execute("UPDATE api_keys SET name = 'other'")  # what the gate holds in memory is old now: it must read
    db.close()
    with open(path, "r+b") as f:
        f.write(os.urandom(path.stat().st_size))
    for name in ("tollgate.db-wal",):
        with open(f"{path.parent}/{name}", "r+b") as f:
            f.write(os.urandom(os.path.getsize(f.name)))

    def broken():
        r = admin.get(KEYS)
        assert r.status_code in (200, 500, 503), r.text  # 503: it was found away a moment ago
        return r if r.status_code == 500 else None
    r = until(broken, 20 * SLOW, "a 500", 0.05)
    e = r.json()
    assert e["code"] == "INTERNAL_ERROR" and e["status"] == 500 and e["title"] == "Internal Server Error" and e["error"]["code"] == "INTERNAL_ERROR", r.text
    assert e["message"] == e["detail"] == "The database does not work." and e["request_id"] == r.headers["x-request-id"]
    assert not INSIDE.search(r.text.replace(KEYS, "")) and str(g.dir) not in r.text, r.text
    assert g.record(r)["status"] == 500 and "store.refused" in g.log_text()  # whoever keeps the gate is told
    # Whom it knew it knows, and what needs no database goes on.
    assert g.client(made["key"]).get("/v1/models").status_code == 200
    assert g.client(READ).post("/v1/chat/completions", json={"model": "m", "messages": []}).status_code == 200
    assert g.client().get("/health").json() == {"status": "degraded", "checks": {"database": "unhealthy"}}
