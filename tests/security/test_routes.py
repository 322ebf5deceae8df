"""
Every route with every kind of credential, from the program's own table (`tollgate routes --json`), so that a route that is added is tested without anybody remembering it: no key, an unknown, an expired, a revoked one, one
that holds everything but what the route asks for, one that holds just that. Then random sets of permissions: what a key may is what its set says, on all routes.
(Seed ledger S2-20 to S2-31, S2-46, S2-47, S3-24, S3-25, S4-13, S4-14, S4-117.)
"""
import json
import random
import sqlite3
import time

import pytest
from lib.gate import ADMIN, model, run_cli
from lib.raw import SLOW, until

KEYS = "/api/v1/auth/api-keys"
FREE = {"api": "off", "train": "off", "predict": "off", "poll": "off"}


def table():
    return json.loads(run_cli("routes", "--json", cwd="/").stdout)


def rows():
    routes = table()
    routes = routes["routes"] if isinstance(routes, dict) else routes
    return [r for r in routes if r["method"] not in ("ANYMETHOD", "*", "ANY")] + [dict(r, method="PUT") for r in routes if r["method"] in ("ANYMETHOD", "*", "ANY")]


def guard(r):
    g = r.get("permissions", r.get("guard"))
    return g if isinstance(g, list) else [] if g in ("public", "any") else g.split("|")


def kind(r):
    return "public" if r["guard"] == "public" else "any" if r["guard"] == "any" else "permissions"


def path(r):
    p = r["path"].replace("*", "zzz")
    while "{" in p:
        p = p[:p.index("{")] + "x1" + p[p.index("}") + 1:]
    return p


@pytest.fixture(scope="module")
def gate_and_keys(module_gate, module_worker):
    g = module_gate(models=[model("m", module_worker())], toml={"limits": FREE, "auth": {"guesses": "off"}})
    c = g.client(ADMIN)

    def make(permissions, **more):
        r = c.post(KEYS, json={"name": "k", "permissions": permissions, **more})
        assert r.status_code == 201, r.text
        return r.json()
    everything = c.post(KEYS, json={"name": "k", "permissions": ["fly"]}).json()["message"].split("Known permissions: ")[1].rstrip(".").split(", ")
    revoked, expired = make(everything), make(everything, expires_in_days=1)
    c.delete(f"{KEYS}/{revoked['id']}")
    with sqlite3.connect(g.dir / "data/tollgate.db") as db:
        db.execute("UPDATE api_keys SET expires_at = ? WHERE id = ?", (int(time.time()) - 1, expired["id"]))
    until(lambda: g.client(expired["key"]).get("/v1/models").status_code == 401, 5 * SLOW, "the expired key being out")
    return g, make, everything, {"unknown": "tg_0123456789abcdef_" + "A" * 44, "expired": expired["key"], "revoked": revoked["key"]}


def ask(c, r):
    return c.request(r["method"], path(r), json={} if r["method"] in ("POST", "PUT", "PATCH") else None)


def test_every_route_with_every_kind_of_credential(gate_and_keys):
    g, make, everything, bad = gate_and_keys
    clients = {k: g.external(v) for k, v in bad.items()}
    nobody, wrong, made = g.external(), [], {}

    def key_with(permissions):
        name = tuple(sorted(permissions))
        if name not in made:
            made[name] = g.external(make(list(permissions))["key"])
        return made[name]
    for r in rows():
        k = kind(r)
        out = {"none": ask(nobody, r), **{n: ask(c, r) for n, c in clients.items()}}
        for n, answer in out.items():
            if k == "public":
                good = answer.status_code not in (401, 403) or (r["path"].endswith("/login") and answer.status_code == 400)
            else:
                good = answer.status_code == 401 and (not answer.content or answer.json()["code"] == "AUTHENTICATION_FAILED") and "www-authenticate" in answer.headers
            if not good:
                wrong.append((r["method"], r["path"], n, answer.status_code))
        if k == "permissions":
            weaker = ask(key_with([p for p in everything if p not in guard(r)]), r)
            if weaker.status_code != 403 or (weaker.content and not any(p in weaker.json()["message"] for p in guard(r))):
                wrong.append((r["method"], r["path"], "weaker", weaker.status_code))
            for p in guard(r):
                enough = ask(key_with([p]), r)
                if enough.status_code in (401, 403):
                    wrong.append((r["method"], r["path"], "only " + p, enough.status_code))
        elif k == "any" and ask(key_with([]), r).status_code in (401, 403):
            wrong.append((r["method"], r["path"], "any key", 403))
    assert not wrong, wrong


def test_two_authorizations_are_none(gate_and_keys):
    """Which of two Authorization lines counts, a proxy in front may have decided otherwise: 400 in the route's family wherever a credential is looked at, whichever of them is good."""
    g, make, everything, bad = gate_and_keys
    good, wrong = make(everything)["key"], []
    for r in rows():
        for first, second in ((good, bad["unknown"]), (bad["unknown"], good), (good, good)):
            a = ask(g.external(headers=[("Authorization", first), ("Authorization", "Bearer " + second)]), r)
            refused = a.status_code == 400 and (not a.content or "at most one Authorization" in a.text)
            if refused != (kind(r) != "public"):
                wrong.append((r["method"], r["path"], a.status_code, a.text[:100]))
    assert not wrong, wrong[:5]
    assert g.external(headers={"Authorization": good, "X-API-Key": bad["unknown"]}).get("/v1/models").status_code == 200, "one of each: the first kind decides"


def test_what_a_key_may_is_what_its_permissions_say(gate_and_keys):
    """Random sets: on each route a key is let in exactly if it holds one of the route's permissions."""
    g, make, everything, _ = gate_and_keys
    rnd, wrong = random.Random(20020), []
    guarded = [r for r in rows() if kind(r) == "permissions"]
    for _ in range(12):
        held = [p for p in everything if rnd.random() < rnd.choice((0.1, 0.3, 0.6, 0.9))]
        c = g.external(make(held)["key"])
        for r in guarded:
            may, status = bool(set(held) & set(guard(r))), ask(c, r).status_code
            if (status == 403) == may or status == 401:
                wrong.append((held, r["method"], r["path"], status))
    assert not wrong, wrong[:5]


def test_paths_that_no_row_knows_are_closed(gate_and_keys):
    """S3-25: what does not exist is 401 without a key, and only then 404."""
    g, make, everything, _ = gate_and_keys
    for p in ("/api/v1/zzz", "/zzz", "/v1/zzz", "/models/x/y/z", "/api/v1/auth/api-keys/a/b/c", "/auth"):
        assert g.external().get(p).status_code == 401, p
        assert g.external(make(everything)["key"]).get(p).status_code == 404, p
