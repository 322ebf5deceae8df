"""Keys of the database: document 002's commands and what lies around them (seed ledger S2-11 to S2-31, S2-72, C-31, S3-10, S3-12, S3-17)."""
import concurrent.futures
import hashlib
import hmac
import json
import re
import sqlite3
import threading
import time

import pytest
from lib.gate import ADMIN, READ, model, run_cli
from lib.raw import SLOW, Stream, until

KEYS = "/api/v1/auth/api-keys"
ELEVEN = ["read_models", "write_models", "delete_models", "run_inference", "manage_cache", "read_metrics", "write_config", "manage_users", "view_audit_logs", "use_streaming",
          "manage_queue"]
OURS = ["train_models", "manage_configs", "manage_artifacts", "read_system", "manage_power"]
LIMITS = {"limits": {"api": "100000/minute"}}


@pytest.fixture
def g(gate, worker):
    return gate(models=[model("llama-7b", worker())], toml=LIMITS)


def make(g, permissions, name="k", **body):
    r = g.client(ADMIN).post(KEYS, json={"name": name, "permissions": permissions, **body})
    assert r.status_code == 201, r.text
    return r.json()


def test_create_as_the_document_does(g):
    """S2-11, S2-12, S2-13, S2-14, C-31: the document's curl line, the answer's members, the key works at once and only for what it was given."""
    r = g.client().post(KEYS, headers={"Authorization": f"Bearer {ADMIN}"},
                        json={"name": "production-key", "permissions": ["read_models", "run_inference"], "expires_in_days": 90})
    assert r.status_code == 201
    k = r.json()
    assert k["id"] == k["key_id"] and k["key"] == k["api_key"] and k["name"] == "production-key" and k["permissions"] == ["read_models", "run_inference"]
    assert re.fullmatch(r"tg_[a-z0-9]{16}_[A-Za-z0-9]{44}", k["key"]) and k["prefix"] == k["key"][:9] and k["id"] == "key_" + k["key"][3:19]
    made, ends = (time.strptime(k[n], "%Y-%m-%dT%H:%M:%SZ") for n in ("created_at", "expires_at"))
    assert time.mktime(ends) - time.mktime(made) == 90 * 86400
    assert r.headers["cache-control"] == "no-store"
    own = g.client(k["key"])
    assert own.get("/api/v1/models").status_code == 200
    assert own.post("/v1/chat/completions", json={"model": "llama-7b", "messages": []}).status_code == 200
    denied = own.get(KEYS)
    assert denied.status_code == 403 and denied.json()["code"] == "PERMISSION_DENIED" and "manage_users" in denied.json()["error"]["message"]
    assert own.post("/models/reload").status_code == 403  # S0's routes too: managed keys are 403, not 401 (C-06)


def test_a_change_is_answered_when_it_is_in_force(gate):
    """S2-14, S2-18: after the answer every connection, on whichever loop, judges by the change. A configuration of many models makes publishing slow enough to tell."""
    g = gate(models=[{"name": f"m{i}", "urls": [f"http://127.0.0.1:{1 + i % 9}"], "probe_ms": 0} for i in range(600)], toml=LIMITS)
    admin = g.client(ADMIN)
    late = 0
    for _ in range(10):
        k = admin.post(KEYS, json={"name": "k", "permissions": ["read_models"]}).json()
        for _ in range(4):  # new connections: the kernel spreads them over the loops
            with g.client(k["key"]) as c:
                late += c.get("/auth/verify").status_code != 200
        admin.delete(f"{KEYS}/{k['id']}")
        for _ in range(4):
            with g.client(k["key"]) as c:
                late += c.get("/auth/verify").status_code != 401
    assert late == 0


@pytest.mark.parametrize("body,field", [
    ({"permissions": []}, "name"), ({"name": "", "permissions": []}, "name"), ({"name": 5, "permissions": []}, "name"), ({"name": "x" * 101, "permissions": []}, "name"),
    ({"name": "a\nb", "permissions": []}, "name"), ({"name": "a\x9b31mb", "permissions": []}, "name"), ({"name": "evil\u202etxt", "permissions": []}, "name"), ({"name": "k"}, "permissions"), ({"name": "k", "permissions": "read_models"}, "permissions"),
    ({"name": "k", "permissions": ["fly"]}, "permissions"), ({"name": "k", "permissions": [7]}, "permissions"),
    ({"name": "k", "permissions": [], "expires_in_days": 0}, "expires_in_days"), ({"name": "k", "permissions": [], "expires_in_days": -1}, "expires_in_days"),
    ({"name": "k", "permissions": [], "expires_in_days": 1.5}, "expires_in_days"), ({"name": "k", "permissions": [], "expires_in_days": "90"}, "expires_in_days"),
    ({"name": "k", "permissions": [], "expires_in_days": 99999999}, "expires_in_days"), ({"name": "k", "permissions": [], "limits": 5}, "limits"),
    ({"name": "k", "permissions": [], "limits": {"request": "1/minute"}}, "request"), ({"name": "k", "permissions": [], "limits": {"in_flight": -1}}, "in_flight"),
    ({"name": "k", "permissions": [], "role": "admin"}, "role"),
])
def test_bad_bodies(g, body, field):
    """S2-16, S2-49, C-15: 400 VALIDATION_ERROR that names the field; unknown permissions with the known ones; nothing is made."""
    r = g.client(ADMIN).post(KEYS, json=body)
    e = r.json()
    assert r.status_code == 400 and e["code"] == "VALIDATION_ERROR" and field in e["error"]["message"], r.text
    if body.get("permissions") == ["fly"]:
        assert all(p in e["error"]["message"] for p in ELEVEN)
    assert g.client(ADMIN).get(KEYS).json()["api_keys"] == []


@pytest.mark.parametrize("text,kind,status", [
    ("{", "application/json", 400), ("[]", "application/json", 400), ("", "application/json", 400), ('{"name":"a","name":"b","permissions":[]}', "application/json", 400),
    ('{"name":"k","permissions":[]}', "text/plain", 415), ("{\"name\":\"k\",\"permissions\":[]}" + " " * 70000, "application/json", 413),
])
def test_bodies_that_are_none(g, text, kind, status):
    r = g.client(ADMIN).post(KEYS, content=text, headers={"Content-Type": kind})
    assert r.status_code == status and "error" in r.json(), r.text


def test_only_who_manages_users_and_never_more_than_own(g):
    """S2-17: a key cannot give more than its maker holds; the missing permission is named. Least permissions: none unless said (S2-72)."""
    assert g.client(READ).post(KEYS, json={"name": "k", "permissions": []}).status_code == 403
    maker = make(g, ["manage_users", "read_models"])["key"]
    r = g.client(maker).post(KEYS, json={"name": "k", "permissions": ["read_models", "run_inference", "write_config"]})
    assert r.status_code == 403 and r.json()["code"] == "PERMISSION_DENIED"
    assert "run_inference" in r.json()["error"]["message"] and "write_config" in r.json()["error"]["message"] and "read_models" not in r.json()["error"]["message"]
    assert g.client(maker).post(KEYS, json={"name": "k", "permissions": ["read_models"]}).status_code == 201
    nothing = make(g, [])
    assert nothing["permissions"] == [] and g.client(nothing["key"]).get("/v1/models").status_code == 403
    assert g.client(nothing["key"]).get("/auth/verify").status_code == 200  # it is a key all the same
    strong = make(g, ELEVEN)
    assert g.client(maker).post(f"{KEYS}/{strong['id']}/rotate").status_code == 403  # that would show him its new secret


def test_revoke(g):
    """S2-18, S2-19, S3-17: 401 at once on every loop, 204 then 404, the id is no key; other keys are not touched."""
    k, other = make(g, ["read_models"]), make(g, ["read_models"])
    assert g.client(k["id"]).get("/v1/models").status_code == 401
    r = g.client(ADMIN).delete(f"{KEYS}/{k['id']}")
    assert r.status_code == 204 and r.content == b""
    for _ in range(8):
        with g.client(k["key"]) as c:
            gone = c.get("/api/v1/models")
            assert gone.status_code == 401 and gone.json()["error"]["message"] == "Invalid API key"
    assert g.client(ADMIN).delete(f"{KEYS}/{k['id']}").status_code == 404
    assert g.client(ADMIN).delete(f"{KEYS}/key_0000000000000000").status_code == 404
    assert g.client(ADMIN).delete(f"{KEYS}/nothing").status_code == 404
    assert g.client(other["key"]).get("/v1/models").status_code == 200
    listed = {r["id"]: r for r in g.client(ADMIN).get(KEYS).json()["api_keys"]}
    assert listed[k["id"]]["status"] == "revoked" and listed[k["id"]]["revoked_at"] and listed[other["id"]]["status"] == "active"


def test_list_shows_no_secret_and_pages(g):
    made = [make(g, ["read_models"], name=f"key {i}") for i in range(7)]
    r = g.client(ADMIN).get(KEYS)
    assert not any(k["key"] in r.text or k["key"][20:] in r.text for k in made)
    seen, after = [], ""
    for _ in range(5):
        page = g.client(ADMIN).get(KEYS, params={"limit": 3, **({"after": after} if after else {})}).json()
        seen += [k["id"] for k in page["api_keys"]]
        after = page["next"]
        if not after:
            break
    assert sorted(seen) == sorted(k["id"] for k in made) and len(seen) == 7
    for bad in ("0", "1001", "x", ""):
        assert g.client(ADMIN).get(KEYS, params={"limit": bad}).status_code == 400
    one = g.client(ADMIN).get(f"{KEYS}/{made[0]['id']}").json()
    assert one["name"] == "key 0" and "key" not in one and one["created_by"].startswith("key_")


def test_rotate_has_two_live_secrets(g):
    """S2-71, S3-09, S4-128: old and new secret live side by side under one id, a third is refused; overlap 0 ends the old one at once."""
    k = make(g, ["read_models"])
    r = g.client(ADMIN).post(f"{KEYS}/{k['id']}/rotate", json={"overlap_seconds": 2})
    n = r.json()
    assert r.status_code == 200 and n["id"] == k["id"] and n["key"] != k["key"] and n["previous_expires_at"]
    assert g.client(k["key"]).get("/v1/models").status_code == 200 and g.client(n["key"]).get("/v1/models").status_code == 200
    assert g.client(ADMIN).post(f"{KEYS}/{k['id']}/rotate").status_code == 409
    until(lambda: g.client(k["key"]).get("/v1/models").status_code == 401, 4 * SLOW, "the old secret ending")
    assert g.client(n["key"]).get("/v1/models").status_code == 200
    at_once = g.client(ADMIN).post(f"{KEYS}/{k['id']}/rotate", json={"overlap_seconds": 0}).json()
    assert g.client(n["key"]).get("/v1/models").status_code == 401 and g.client(at_once["key"]).get("/v1/models").status_code == 200
    assert g.client(ADMIN).post(f"{KEYS}/{k['id']}/rotate", json={"overlap_seconds": -1}).status_code == 400
    g.client(ADMIN).delete(f"{KEYS}/{k['id']}")
    assert g.client(at_once["key"]).get("/v1/models").status_code == 401 and g.client(ADMIN).post(f"{KEYS}/{k['id']}/rotate").status_code == 404


def test_a_leaked_secret_is_ended_before_its_overlap(g):
    """S2-71: with two secrets an overlap of 0 ends both and gives a third; on the command line too."""
    k = make(g, ["read_models"])

    def status(key):
        with g.client(key) as c:
            return c.get("/v1/models").status_code
    second = g.client(ADMIN).post(f"{KEYS}/{k['id']}/rotate").json()
    r = g.client(ADMIN).post(f"{KEYS}/{k['id']}/rotate", json={"overlap_seconds": 60})
    assert r.status_code == 409 and "overlap_seconds 0" in r.json()["message"] and [status(k["key"]), status(second["key"])] == [200, 200]
    third = g.client(ADMIN).post(f"{KEYS}/{k['id']}/rotate", json={"overlap_seconds": 0})
    assert third.status_code == 200 and third.json()["previous_expires_at"] is None
    assert [status(x) for x in (k["key"], second["key"], third.json()["key"])] == [401, 401, 200]
    fourth = g.client(ADMIN).post(f"{KEYS}/{k['id']}/rotate").json()["key"]
    p = cli(g, "keys", "rotate", k["id"])
    assert p.returncode == 1 and "--overlap 0" in p.stderr
    p = cli(g, "keys", "rotate", k["id"], "--overlap", "0")
    assert p.returncode == 0, p.stderr
    fifth = p.stdout.splitlines()[0]
    until(lambda: [status(x) for x in (third.json()["key"], fourth, fifth)] == [401, 401, 200], 2 * SLOW, "both ending")


@pytest.mark.parametrize("how", ["revoked", "expired"])
def test_no_secret_for_a_key_that_has_ended(g, how):
    """S2-19: 404, with two secrets as with one."""
    one, two = make(g, ["read_models"]), make(g, ["read_models"])
    g.client(ADMIN).post(f"{KEYS}/{two['id']}/rotate")
    for k in (one, two):
        if how == "revoked":
            assert g.client(ADMIN).delete(f"{KEYS}/{k['id']}").status_code == 204
        else:
            with sqlite3.connect(g.dir / "data/tollgate.db", timeout=10) as db:
                db.execute("UPDATE api_keys SET expires_at = ? WHERE id = ?", (int(time.time()) - 1, k["id"]))
        for body in ({}, {"overlap_seconds": 0}):
            assert g.client(ADMIN).post(f"{KEYS}/{k['id']}/rotate", json=body).status_code == 404


def test_list_tells_age_and_last_use(g):
    """S2-71: made, ends, last used; over a restart too."""
    k, never = make(g, ["read_models"], expires_in_days=7), make(g, ["read_models"])

    def used(key):
        return g.client(ADMIN).get(f"{KEYS}/{key['id']}").json()["last_used_at"]
    assert used(k) is None and used(never) is None
    g.client(k["key"]).get("/v1/models")
    first = used(k)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", first) and first >= k["created_at"] and used(never) is None
    time.sleep(1.1)
    g.client(k["key"]).get("/v1/models")
    assert used(k) > first
    last = used(k)
    g.stop()
    assert last in cli(g, "keys", "list").stdout
    g.start()
    assert used(k) == last and used(never) is None


def test_expired_is_unknown(g):
    """S2-15: the same 401 as any unknown key, at the second, without anybody writing anything: the row's time is moved, as a stepped clock would."""
    k = make(g, ["read_models"], expires_in_days=1)
    assert g.client(k["key"]).get("/v1/models").status_code == 200
    with sqlite3.connect(g.dir / "data/tollgate.db") as db:
        db.execute("UPDATE api_keys SET expires_at = ? WHERE id = ?", (int(time.time()) + 2, k["id"]))
    wrong = g.client("tg_0123456789abcdef_" + "x" * 44).get("/api/v1/models")
    until(lambda: g.client(k["key"]).get("/v1/models").status_code == 401, 6 * SLOW, "the key expiring")
    r = g.client(k["key"]).get("/api/v1/models")
    drop = ("timestamp", "request_id")
    assert {a: b for a, b in r.json().items() if a not in drop} == {a: b for a, b in wrong.json().items() if a not in drop}


ROUTES = [  # a permission, what it opens
    ("read_models", "GET", "/api/v1/models", None), ("read_models", "GET", "/v1/models", None), ("read_models", "GET", "/models", None),
    ("run_inference", "POST", "/v1/chat/completions", {"model": "llama-7b", "messages": []}),
    ("run_inference", "POST", "/api/v1/inference", {"model": "llama-7b", "prompt": "hi"}),
    ("run_inference", "POST", "/infer", {"model_name": "llama-7b", "request_body": {"messages": []}}),
    ("read_metrics", "GET", "/metrics", None), ("manage_users", "GET", "/api/v1/users", None), ("manage_users", "GET", KEYS, None),
    ("write_models", "POST", "/models/reload", None), ("delete_models", "DELETE", "/models/x", None), ("manage_queue", "GET", "/jobs", None), ("read_system", "GET", "/status", None),
    ("manage_power", "GET", "/settings/power_profile", None),
]


@pytest.mark.parametrize("permission,method,path,body", ROUTES, ids=[f"{r[1]} {r[2]}" for r in ROUTES])
def test_each_permission_opens_its_routes_and_no_other(g, permission, method, path, body):
    """S2-20 to S2-30: with only this permission the route lets in (whatever it then answers); with all the others it is 403 PERMISSION_DENIED naming this one."""
    only, others = make(g, [permission])["key"], make(g, [p for p in ELEVEN + OURS if p != permission])["key"]
    let_in = g.external(only).request(method, path, json=body)
    assert let_in.status_code not in (401, 403), let_in.text
    out = g.external(others).request(method, path, json=body)
    assert out.status_code == 403 and out.json()["code"] == "PERMISSION_DENIED" and permission in out.json()["message"]


def test_streaming_is_a_permission_of_its_own(g):
    """S2-29."""
    key = make(g, ["run_inference"])["key"]
    ask = {"model": "llama-7b", "messages": []}
    assert g.client(key).post("/v1/chat/completions", json=ask).status_code == 200
    r = g.client(key).post("/v1/chat/completions", json={**ask, "stream": True})
    assert r.status_code == 403 and "use_streaming" in r.json()["error"]["message"]
    both = make(g, ["run_inference", "use_streaming"])["key"]
    assert g.client(both).post("/v1/chat/completions", json={**ask, "stream": True}).status_code == 200


def test_the_names_are_the_documents(g):
    """S2-31: exactly the eleven, and ours listed apart."""
    e = g.client(ADMIN).post(KEYS, json={"name": "k", "permissions": ["fly"]}).json()["message"]
    assert e.split("Known permissions: ")[1].rstrip(".").split(", ") == ELEVEN + OURS


@pytest.mark.parametrize("end", [True, False], ids=["ended", "finishes"])
def test_streams_of_a_revoked_key(gate, worker, end):
    """Open streams are ended by policy: an error event and no [DONE]; with end_revoked = false they finish."""
    w = worker()
    w.behave(chunks=30, pace=0.1)
    g = gate(models=[model("m", w)], toml={**LIMITS, "auth": {"end_revoked": end}})
    k = make(g, ["run_inference", "use_streaming"])
    with Stream(g, "slow", key=k["key"], timeout=30 * SLOW) as s:
        s.head().event()
        g.client(ADMIN).delete(f"{KEYS}/{k['id']}")
        rest = s.rest()
    if end:
        assert rest and b'"error"' in rest[-1] and b"[DONE]" not in b"".join(rest)
    else:
        assert rest[-1] == b"data: [DONE]"


def test_nothing_secret_is_kept_or_logged(g):
    """S2-65, S4-109: of a key the database has a digest, the log its first nine characters; files are 0600 and their folder 0700."""
    k = make(g, ["read_models"])
    g.client(k["key"]).get("/v1/models")
    g.wait_log(lambda r: r.get("principal") == k["id"] or k["id"] in json.dumps(r))
    for p in g.dir.rglob("*"):
        if p.is_file():
            assert k["key"][20:].encode() not in p.read_bytes(), p
    for name in ("tollgate.db", "secret.key", "tollgate.db.known"):
        assert (g.dir / "data" / name).stat().st_mode & 0o777 == 0o600, name
    assert (g.dir / "data").stat().st_mode & 0o777 == 0o700


def test_keys_survive_a_restart(g):
    k = make(g, ["read_models"])
    g.stop()
    g.start()
    assert g.client(k["key"]).get("/v1/models").status_code == 200


# ------------------------------------------------------------------------------------------------ the command line

def cli(g, *args, **kw):
    return run_cli(*args, cwd=g.dir, env=g.env, **kw)


def test_keys_on_the_command_line(g):
    """The same database, seen by the running gate within a second: made, listed, rotated, revoked."""
    p = cli(g, "keys", "create", "from here", "--permissions", "read_models", "--days", "30", "--requests", "5/minute")
    assert p.returncode == 0, p.stderr
    key, ident = p.stdout.splitlines()[0], re.search(r"id: (\S+)", p.stdout)[1]
    until(lambda: g.client(key).get("/v1/models").status_code == 200, 2 * SLOW, "the gate seeing it")
    assert g.client(ADMIN).get(f"{KEYS}/{ident}").json()["limits"] == {"requests": "5/minute"}
    out = cli(g, "keys", "list").stdout
    assert ident in out and "from here" in out and key not in out and "1 keys" in out
    p = cli(g, "keys", "rotate", ident, "--overlap", "0")
    new = p.stdout.splitlines()[0]
    until(lambda: g.client(new).get("/v1/models").status_code == 200 and g.client(key).get("/v1/models").status_code == 401, 2 * SLOW, "the new secret")
    assert cli(g, "keys", "revoke", ident).returncode == 0
    until(lambda: g.client(new).get("/v1/models").status_code == 401, 2 * SLOW, "the end")
    assert cli(g, "keys", "revoke", ident).returncode == 1


@pytest.mark.parametrize("args,text", [
    (["create"], "usage"), (["create", "k"], "usage"), (["create", "k", "--permissions", "fly"], "read_models"), (["create", "", "--permissions", "none"], "NAME"),
    (["create", "k", "--permissions", "none", "--days", "0"], "--days"), (["create", "k", "--permissions", "none", "--in-flight", "x"], "in"), (["list", "x"], "usage"),
    (["create", "a\x1b[31mb", "--permissions", "none"], "NAME"), (["create", "a\r\nb", "--permissions", "none"], "NAME"), (["create", "\udcff\udcfe", "--permissions", "none"], "NAME"),
    (["create", "a\x9bb", "--permissions", "none"], "NAME"), (["create", "a\u2066b", "--permissions", "none"], "NAME"),
    (["revoke"], "usage"), (["rotate", "x", "--overlap", "-1"], "--overlap"), (["rotate", "x", "--requests", "5/minute"], "rotate does not take limits"),
    (["rotate", "x", "--days", "3"], "rotate does not take --days"), (["revoke", "x", "--overlap", "0"], "revoke does not take --overlap"), (["list", "--days", "3"], "list does not take --days"),
    (["list", "--permissions", "all"], "list does not take --permissions"), (["create", "k", "--permissions", "none", "--overlap", "5"], "create does not take --overlap"), (["frobnicate"], "usage"), ([], "usage"),
])
def test_command_lines_that_are_none(g, args, text):
    p = cli(g, "keys", *args)
    assert p.returncode == 2 and text in p.stderr


def test_names_out_of_the_database_do_nothing_to_a_terminal(g):
    """A name that is older than the rules for names, or another program's, is shown without what a terminal would obey."""
    key, user = make(g, [], "plain"), {"username": "eve", "password": "correct horse battery", "permissions": []}
    assert g.client(ADMIN, timeout=30 * SLOW).post("/api/v1/users", json=user).status_code == 201
    for name in ("e\x1b[2Jve", "e\x9bve", "e\u202eve"):
        assert g.client(ADMIN).post("/api/v1/users", json={**user, "username": name}).json()["error"]["param"] == "username"
        p = cli(g, "users", "add", name, stdin="correct horse battery\n")
        assert p.returncode == 2 and "NAME" in p.stderr
    with sqlite3.connect(g.dir / "data/tollgate.db", timeout=10) as db:
        db.execute("UPDATE api_keys SET name = ? WHERE id = ?", ("a\x1b[2J\x9b1m\u202eb\rc\n", key["id"]))
        db.execute("UPDATE users SET name = ? WHERE name = 'eve'", ("v\x1b]0;t\x07\u2066w",))
    assert "  a?1m?b?c?  [none]\n" in cli(g, "keys", "list").stdout
    assert "  v?w  [none]\n" in cli(g, "users", "list").stdout
    assert cli(g, "users", "remove", "v\x1b]0;t\x07\u2066w").returncode == 0, "it can be got rid of"


@pytest.mark.parametrize("args,said,rc", [
    (["keys", "list"], "0 keys", 0), (["users", "list"], "0 users", 0), (["usage"], "TOTAL", 0), (["keys", "revoke", "key_0000000000000000"], "no key", 1),
    (["keys", "rotate", "key_0000000000000000"], "no key", 1), (["users", "disable", "nobody"], "nobody", 1), (["backup", "b"], "no database yet", 1),
])
def test_looking_makes_nothing(tmp_path, args, said, rc):
    """S2-11: a command that makes nobody makes no database, no secret and no folder, and says what there is: nothing."""
    p = run_cli(*args, cwd=tmp_path)
    assert (p.returncode, list(tmp_path.iterdir())) == (rc, []) and said in p.stdout + p.stderr, p
    assert "{" not in p.stderr


def test_a_gate_that_is_only_asked_makes_nothing(gate):
    g = gate(toml=LIMITS)
    assert g.client(ADMIN).get(KEYS).json()["api_keys"] == [] and g.client(ADMIN).get("/api/v1/users").status_code == 200
    assert not (g.dir / "data/tollgate.db").exists()
    k = make(g, ["read_models"])
    assert g.client(ADMIN).get(f"{KEYS}/{k['id']}").status_code == 200


def test_what_the_command_line_says_of_its_database(g, tmp_path):
    """Standard error is for what is wrong: nothing of a database that came back, though none was away; and a file that is none, or a backup that is none, is named."""
    p = cli(g, "keys", "create", "k", "--permissions", "none")
    assert (p.returncode, p.stderr) == (0, "")
    assert (cli(g, "keys", "list").stderr, cli(g, "usage").stderr, cli(g, "backup", tmp_path / "b").stderr) == ("", "", "")
    p = cli(g, "restore", tmp_path / "nowhere")
    assert p.returncode == 1 and f"{tmp_path}/nowhere/manifest.json: cannot be read: No such file" in p.stderr
    g.stop()
    assert not any(r.get("event") == "store.back" for r in g.log())
    (g.dir / "data/tollgate.db").write_bytes(b"this is no database, but it is long enough to be looked at" * 99)
    p = cli(g, "keys", "list")
    assert p.returncode == 1 and "data/tollgate.db: file is not a database" in p.stderr


# ------------------------------------------------------------------------------------------------ the database away

def test_database_gone_and_back(g):
    """S3-29, too: keys work on from memory, /health says so, changes answer 503, and it recovers by itself; a restart meanwhile knows the keys from the file beside it."""
    k = make(g, ["read_models"])
    db = g.dir / "data/tollgate.db"
    away = g.dir / "away"
    away.mkdir()
    g.stop()  # closed, so that the file is whole
    db.rename(away / "tollgate.db")
    (g.dir / "data/blocked").mkdir()
    db.mkdir()  # nothing can be opened or made there
    g.start()
    assert g.client(k["key"]).get("/v1/models").status_code == 200
    assert g.client().get("/health").json() == {"status": "degraded", "checks": {"database": "unhealthy"}}
    r = g.client(ADMIN).post(KEYS, json={"name": "x", "permissions": []})
    assert r.status_code == 503 and int(r.headers["retry-after"]) >= 1 and r.json()["code"] == "UNAVAILABLE"
    assert g.client(ADMIN).delete(f"{KEYS}/{k['id']}").status_code == 503 and g.client(k["key"]).get("/v1/models").status_code == 200
    db.rmdir()
    (away / "tollgate.db").rename(db)
    until(lambda: g.client(ADMIN).post(KEYS, json={"name": "x", "permissions": []}).status_code == 201, 5 * SLOW, "the database being found again")
    assert g.client(k["key"]).get("/v1/models").status_code == 200
    assert g.client().get("/health").json()["checks"]["database"] == "healthy"


def test_database_locked(g):
    """Somebody else writes for long: 503 after a bounded wait, keys work meanwhile, then it goes on."""
    k = make(g, ["read_models"])
    with sqlite3.connect(g.dir / "data/tollgate.db", isolation_level=None) as db:
        db.execute("BEGIN IMMEDIATE")
        t = time.monotonic()
        assert g.client(ADMIN, timeout=20 * SLOW).post(KEYS, json={"name": "x", "permissions": []}).status_code == 503
        assert time.monotonic() - t < 5 * SLOW
        assert g.client(k["key"]).get("/v1/models").status_code == 200
        db.execute("ROLLBACK")
    until(lambda: g.client(ADMIN, timeout=20 * SLOW).post(KEYS, json={"name": "x", "permissions": []}).status_code == 201, 6 * SLOW, "it going on")


def test_newer_schema_is_refused(g):
    make(g, [])
    g.stop()
    with sqlite3.connect(g.dir / "data/tollgate.db") as db:
        db.execute("UPDATE schema_version SET version = 99")
    p = cli(g, "serve", timeout=20 * SLOW)
    assert p.returncode == 1 and "newer" in p.stderr and "99" in p.stderr


def test_database_without_its_secret_is_refused(g):
    make(g, ["read_models"])
    g.stop()
    (g.dir / "data/secret.key").unlink()
    p = cli(g, "serve", timeout=20 * SLOW)
    assert p.returncode == 1 and "secret.key" in p.stderr


def test_killed_while_keys_are_made(g):
    """A key exists whole or not at all, and what was acknowledged is there: SIGKILL in the middle of a stream of creations, five times."""
    acknowledged = []
    for _ in range(5):
        c = g.client(ADMIN)
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            acknowledged.append(make(g, ["read_models"]))
        more = []

        def go(more=more, c=c):
            try:
                while True:
                    r = c.post(KEYS, json={"name": "k", "permissions": ["read_models"]})
                    if r.status_code == 201:
                        more.append(r.json())
            except Exception:
                pass
        t = threading.Thread(target=go)
        t.start()
        time.sleep(0.2)
        g.kill()
        t.join()
        acknowledged += more
        g.start()
    with sqlite3.connect(g.dir / "data/tollgate.db") as db:
        assert db.execute("SELECT COUNT(*) FROM api_keys k WHERE (SELECT COUNT(*) FROM api_key_secrets s WHERE s.key_id = k.id) != 1").fetchone() == (0,)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    for k in acknowledged[::7] + acknowledged[-3:]:
        assert g.client(k["key"]).get("/v1/models").status_code == 200


# ------------------------------------------------------------------------------------------------ backup, restore

def test_backup_and_restore(g, tmp_path):
    """A backup of a running gate, put back into an empty place and over a full one: keys made before it are keys again, those made after are not."""
    before = make(g, ["read_models"])
    assert g.client(ADMIN).patch("/api/v1/config", json={"limits": {"ml": "5/minute"}}).status_code == 200
    p = cli(g, "backup", tmp_path / "b")
    assert p.returncode == 0 and "tollgate.db" in p.stdout, p.stderr
    g.client(ADMIN).patch("/api/v1/config", json={"limits": {"ml": None}})
    assert cli(g, "backup", tmp_path / "b").returncode == 1  # there is one already
    assert all(f.stat().st_mode & 0o777 == 0o600 for f in (tmp_path / "b").iterdir())
    after = make(g, ["read_models"])
    p = cli(g, "restore", tmp_path / "b", "--force")
    assert p.returncode == 1 and "stop the gate" in p.stderr  # it runs
    g.stop()
    assert cli(g, "restore", tmp_path / "b").returncode == 1  # there is something
    p = cli(g, "restore", tmp_path / "b", "--force")
    assert p.returncode == 0, p.stderr
    g.start()
    assert g.client(before["key"]).get("/v1/models").status_code == 200 and g.client(after["key"]).get("/v1/models").status_code == 401
    assert g.client(ADMIN).get("/api/v1/config").json() == {"settings": {"limits": {"ml": "5/minute"}}}
    g.stop()
    (tmp_path / "b/secret.key").write_text("0" * 64)
    p = cli(g, "restore", tmp_path / "b", "--force")
    assert p.returncode == 1 and "SHA-256" in p.stderr
    g.start()


def test_a_backup_follows_links_and_leaves_nothing_behind(g, tmp_path):
    """api_keys.json may be a link to where keys are kept. A backup that fails leaves no folder: it would hold secrets, and be in the way of the next one."""
    kept, link = tmp_path / "kept.json", g.dir / "api_keys.json"
    kept.write_text(json.dumps({"valid_keys": ["a-good-key-0123456789"]}))
    kept.chmod(0o600)
    link.symlink_to(kept)
    make(g, [])
    p = cli(g, "backup", tmp_path / "b")
    assert p.returncode == 0 and (tmp_path / "b/api_keys.json").read_bytes() == kept.read_bytes() and not (tmp_path / "b/api_keys.json").is_symlink(), p.stderr
    secret = g.dir / "data/jwt.secret"
    text = secret.read_text()
    secret.write_text("")
    for _ in range(2):
        p = cli(g, "backup", tmp_path / "c")
        assert p.returncode == 1 and "jwt.secret" in p.stderr and not (tmp_path / "c").exists(), p.stderr
    secret.write_text(text)
    assert cli(g, "backup", tmp_path / "c").returncode == 0
    (tmp_path / "c/api_keys.json").unlink()
    (tmp_path / "c/api_keys.json").symlink_to(kept)
    g.stop()
    p = cli(g, "restore", tmp_path / "c", "--force")
    assert p.returncode == 1 and "c/api_keys.json" in p.stderr, "a backup holds files"
    g.start()


def test_no_restore_over_a_gate_without_a_database(g, gate, tmp_path):
    """A gate that has not needed a database yet would make one, under its own secret: it must be stopped first. Nothing is touched, and what it answers is so after a restart."""
    make(g, ["read_models"])
    assert cli(g, "backup", tmp_path / "b").returncode == 0
    other = gate(toml=LIMITS)
    secret = (other.dir / "data/secret.key").read_bytes()
    assert not (other.dir / "data/tollgate.db").exists()
    p = cli(other, "restore", tmp_path / "b", "--force")
    assert p.returncode == 1 and "stop the gate" in p.stderr
    assert (other.dir / "data/secret.key").read_bytes() == secret and not (other.dir / "data/tollgate.db").exists()
    k = make(other, ["read_models"])
    other.stop()
    other.start()
    assert other.client(k["key"]).get("/v1/models").status_code == 200
    other.stop()
    assert cli(other, "restore", tmp_path / "b", "--force").returncode == 0
    other.start()


def test_a_database_and_its_secret_belong_together(gate):
    """S2-21: under another secret every key would be nobody's: the gate does not start, and says so; nor while the database is away does it call its keys unknown. One without keys takes the secret it meets."""
    g = gate(toml=LIMITS, env={"TOLLGATE_SECRET": "a" * 32})
    k = make(g, ["read_models"])
    g.stop()
    g.env["TOLLGATE_SECRET"] = "b" * 32
    p = cli(g, "serve", "--config", g.config)
    assert p.returncode == 1 and "another secret than that of TOLLGATE_SECRET" in p.stderr
    p = cli(g, "keys", "create", "x", "--permissions", "none")
    assert p.returncode == 1 and "another secret" in p.stderr
    db = g.dir / "data/tollgate.db"
    db.rename(g.dir / "away.db")
    g.start()
    assert g.client(k["key"]).get("/auth/verify").status_code == 503
    g.stop()
    g.env["TOLLGATE_SECRET"] = "a" * 32
    g.start()
    assert g.client(k["key"]).get("/auth/verify").status_code == 200
    g.stop()
    (g.dir / "away.db").rename(db)
    with sqlite3.connect(db) as c:
        c.execute("DELETE FROM api_keys")
        c.execute("DELETE FROM api_key_secrets")
    c.close()
    g.env["TOLLGATE_SECRET"] = "b" * 32
    g.start()
    k = make(g, ["read_models"])
    g.stop()
    g.start()
    assert g.client(k["key"]).get("/auth/verify").status_code == 200


def test_many_changes_at_once(g):
    """Two hundred creations at the same time, some of whose clients leave: each answered one works, no other request waits, and past the bound it is 503."""
    def one(i):
        if i % 5 == 0:  # leaves
            body = json.dumps({"name": "gone", "permissions": []}).encode()
            s = g.connect()
            s.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (KEYS.encode(), ADMIN.encode(), len(body)) + body)
            s.close()
            return None
        with g.client(ADMIN, timeout=60 * SLOW) as c:
            return c.post(KEYS, json={"name": f"k{i}", "permissions": ["read_models"]})
    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        futures = [pool.submit(one, i) for i in range(200)]
        t = time.monotonic()
        assert g.client(READ).get("/v1/models").status_code == 200 and time.monotonic() - t < 2 * SLOW
        answers = [r for r in (f.result() for f in futures) if r is not None]
    assert {r.status_code for r in answers} <= {201, 503} and sum(r.status_code == 201 for r in answers) >= 100
    for r in answers[::9]:
        if r.status_code == 201:
            assert g.client(r.json()["key"]).get("/v1/models").status_code == 200


def test_no_place_for_a_database(gate):
    """Where nothing can be written the gate works with keys of files and variables; what needs the database says so, also once there is one: its keys are under a secret this process does not have."""
    g = gate(start=False)
    (g.dir / "data").write_text("a file, no folder")
    g.start()
    assert "no database" in g.stderr() and g.client(ADMIN).get("/v1/models").status_code == 200
    (g.dir / "data").unlink()
    for r in (g.client(ADMIN).post(KEYS, json={"name": "k", "permissions": []}), g.client(ADMIN).get(KEYS), g.client().post("/api/v1/auth/login", json={"username": "a", "password": "b"})):
        assert r.status_code == 503 and int(r.headers["retry-after"]) >= 1
    assert g.client().get("/health").json()["checks"]["database"] == "unhealthy"


def test_limits_of_a_key(g):
    """`limits` in the body hold for that key and no other, over both of its secrets."""
    k = make(g, ["read_models"], limits={"requests": "3/hour", "tokens_per_minute": 1000, "in_flight": 2})
    assert k["limits"] == {"requests": "3/hour", "tokens_per_minute": 1000, "in_flight": 2}
    other = g.client(ADMIN).post(f"{KEYS}/{k['id']}/rotate").json()
    answers = [g.client(key).get("/v1/models") for key in (k["key"], other["key"], k["key"], other["key"])]
    assert [r.status_code for r in answers] == [200, 200, 200, 429] and answers[3].json()["code"] == "RATE_LIMITED"
    assert [r.headers["x-ratelimit-remaining"] for r in answers] == ["2", "1", "0", "0"]
    assert g.client(make(g, ["read_models"])["key"]).get("/v1/models").status_code == 200


def test_keys_that_come_by_the_thousand_and_by_other_hands(gate, worker):
    """
    Rows that another program writes are in force within a second, as many as they are, and so are its ends; what was laid over is folded in meanwhile (it is more than the bound), under a stream that holds the state it
    began with. Keys of before, of the flood and of after are each what they are.
    """
    secret, n = "unit-secret-0123456789abcdef0123", 3000
    w = worker()
    w.behave(chunks=40, pace=0.1)
    g = gate(models=[model("m", w)], toml=LIMITS, env={"TOLLGATE_SECRET": secret})
    before = make(g, ["run_inference", "use_streaming"])
    gone = make(g, ["read_models"])
    mac, now = hashlib.blake2b(secret.encode(), digest_size=32, key=b"tollgate key digests").digest(), int(time.time())
    flood = [f"tg_{i:016d}_{'A' * 44}" for i in range(n)]

    def status(key):
        with g.client(key) as c:
            return c.get("/auth/verify").status_code
    with Stream(g, "slow", key=before["key"], timeout=30 * SLOW) as s:
        s.head().event()
        with sqlite3.connect(g.dir / "data/tollgate.db", timeout=10) as db:
            for i, key in enumerate(flood):
                db.execute("INSERT INTO api_keys VALUES (?, 'flood', 'read_models', '{}', 'by hand', ?, NULL, NULL, NULL)", (f"key_{i:016d}", now))
                db.execute("INSERT INTO api_key_secrets VALUES (?, ?, 'tg_000000', ?, NULL)", (hmac.new(mac, key.encode(), hashlib.sha256).hexdigest(), f"key_{i:016d}", now))
            db.execute("UPDATE api_keys SET revoked_at = ? WHERE id = ?", (now, gone["id"]))
        until(lambda: status(flood[-1]) == 200 and status(gone["key"]) == 401, 5 * SLOW, "what was written being in force")
        assert [status(flood[i]) for i in (0, n // 2, n - 2)] == [200, 200, 200]
        for i in range(5):  # before, while and after it is folded in
            assert g.client(ADMIN).delete(f"{KEYS}/key_{i:016d}").status_code == 204
            late = make(g, ["read_models"])
            assert [status(flood[i]), status(flood[i + 5]), status(late["key"]), status(gone["key"]), status(before["key"])] == [401, 200, 200, 401, 200]
            time.sleep(0.2)
        assert s.rest()[-1] == b"data: [DONE]"
    with sqlite3.connect(g.dir / "data/tollgate.db", timeout=10) as db:
        db.execute("DELETE FROM api_key_secrets WHERE key_id = ?", (f"key_{n - 1:016d}",))
    until(lambda: status(flood[-1]) == 401, 5 * SLOW, "a secret that was deleted by hand being out")
    assert status(flood[-2]) == 200


def without_database(g, known):
    """Stopped, without its database, and with that much of what it last said (None: without the file), started again."""
    g.stop()
    db, file = g.dir / "data/tollgate.db", g.dir / "data/tollgate.db.known"
    db.rename(g.dir / "away.db")
    if known is None:
        file.unlink()
        db.mkdir()  # something is there, and it cannot be read
    else:
        file.write_bytes(file.read_bytes()[:known])
    g.start()
    return db


@pytest.mark.parametrize("known", [0, 150, None], ids=["emptied", "cut", "gone"])
def test_nobody_is_unknown_while_nothing_is_known(gate, known):
    """S3-29: with neither the database nor what it last said, its keys and tokens are 503, which is no guess; the gate is not ready and says why; nothing is made in the database's place. Keys of the configuration work."""
    g = gate(toml={**LIMITS, "auth": {"guesses": "5/minute"}}, env={"INFERNO_ADMIN_PASSWORD": "correct horse battery"})
    k = make(g, ["read_models"])
    token = g.client().post("/api/v1/auth/login", json={"username": "admin", "password": "correct horse battery"}).json()["token"]
    db = without_database(g, known)
    assert re.search(r"warning: the database is away .*503", g.stderr())
    c, start = g.client(k["key"]), time.monotonic()
    for _ in range(12):
        r = c.get("/auth/verify")
        assert r.status_code == 503 and int(r.headers["retry-after"]) >= 1 and "database" in r.text
    assert time.monotonic() - start < 2 * SLOW  # twelve guesses would have been delayed by more
    assert g.client(headers={"Authorization": f"Bearer {token}"}).get("/auth/verify").status_code == 503
    assert g.client().get("/readyz").status_code == 503 and g.client().get("/livez").status_code == 200
    assert g.client().get("/health").json() == {"status": "degraded", "checks": {"database": "unhealthy"}}
    assert g.client(ADMIN).get("/auth/verify").status_code == 200
    assert g.client("sk-somebody-made-this-up").get("/auth/verify").status_code == 401
    assert g.client().get("/auth/verify").status_code == 401
    assert g.client(ADMIN).post(KEYS, json={"name": "x", "permissions": []}).status_code == 503 and (known is None or not db.exists())
    if known is None:
        db.rmdir()
    (g.dir / "away.db").rename(db)
    until(lambda: c.get("/auth/verify").status_code == 200, 5 * SLOW, "the database being found again")
    assert g.client().get("/readyz").status_code == 200
    assert g.client("tg_" + "a" * 16 + "_" + "b" * 44).get("/auth/verify").status_code == 401


def seed(g, n):
    """That many keys by hand, as fast as SQLite takes them. Their digests are nobody's."""
    with sqlite3.connect(g.dir / "data/tollgate.db") as db:
        db.executemany("INSERT INTO api_keys VALUES (?, 'n', 'read_models', '{}', 't', 1700000000, NULL, NULL, NULL)", ((f"key_{i:016d}",) for i in range(n)))
        db.executemany("INSERT INTO api_key_secrets VALUES (?, ?, 'tg_000000', 1700000000, NULL)", ((hashlib.sha256(str(i).encode()).hexdigest(), f"key_{i:016d}") for i in range(n)))
    db.close()


def test_a_change_writes_what_changed(g):
    """S2-18: what is known is added to, not written anew, so that revoking costs the same with many keys; a start without the database knows of it."""
    k, kept = make(g, ["read_models"]), make(g, ["read_models"])
    g.stop()
    seed(g, 5000)
    g.start()
    file = g.dir / "data/tollgate.db.known"
    before = file.stat()
    assert before.st_size > 5000 * 100
    for i in range(20):
        assert g.client(ADMIN).delete(f"{KEYS}/key_{i:016d}").status_code == 204
    assert g.client(ADMIN).delete(f"{KEYS}/{k['id']}").status_code == 204
    after = file.stat()
    assert after.st_ino == before.st_ino and 0 < after.st_size - before.st_size < 21 * 600
    g.kill()  # what was answered is there
    db = g.dir / "data/tollgate.db"
    for name in ("tollgate.db", "tollgate.db-wal", "tollgate.db-shm"):
        if (g.dir / "data" / name).exists():
            (g.dir / "data" / name).rename(g.dir / name)
    g.start()
    assert "4981 keys are known" in g.stderr() and not db.exists()
    assert g.client(k["key"]).get("/auth/verify").status_code == 401 and g.client(kept["key"]).get("/auth/verify").status_code == 200


@pytest.mark.slow
def test_very_many_keys_are_known_too(g):
    """More keys than what is known had room for once: a revocation is answered within a second, and a start without the database tells nobody that he is unknown."""
    k = make(g, ["read_models"])
    g.stop()
    seed(g, 200_001)
    g.start()
    took = []
    for i in range(20):
        start = time.monotonic()
        assert g.client(ADMIN).delete(f"{KEYS}/key_{i:016d}").status_code == 204
        took.append(time.monotonic() - start)
    assert sorted(took)[10] < 0.2 * SLOW and max(took) < SLOW
    without_database(g, 1 << 30)
    assert g.client(k["key"]).get("/auth/verify").status_code == 200
