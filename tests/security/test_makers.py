"""
Who makes keys and users gives no more than he has (threats T-PERM: child within parent, its end too; nobody raises himself; S2-17). Keys of the environment have no bounds.
"""
import random
import time
from calendar import timegm

import pytest
from lib.gate import ADMIN
from lib.raw import SLOW

KEYS, USERS = "/api/v1/auth/api-keys", "/api/v1/users"
PASSWORD = "correct horse battery"
MAY = ["manage_users", "read_models"]
PERIOD = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
NAMES = ["requests", "tokens_per_minute", "in_flight"]


@pytest.fixture(scope="module")
def g(module_gate):
    return module_gate(toml={"limits": {"api": "100000/minute"}, "auth": {"password_guesses": "off"}}, env={"INFERNO_ADMIN_PASSWORD": PASSWORD})


def client(g, key):
    return g.client(key, timeout=30 * SLOW)


def make(g, key=ADMIN, **body):
    r = client(g, key).post(KEYS, json={"name": "k", "permissions": MAY, **body})
    assert r.status_code == 201, r.text
    return r.json()


def user(g, name, key=ADMIN, **body):
    r = client(g, key).post(USERS, json={"username": name, "password": PASSWORD, "permissions": MAY, **body})
    assert r.status_code == 201, r.text
    return r.json()


def token(g, name):
    r = client(g, None).post("/api/v1/auth/login", json={"username": name, "password": PASSWORD})
    assert r.status_code == 200, r.text
    return r.json()["token"]


def seconds(text):
    return timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ")) if text else None


def refused(r, field):
    e = r.json()
    assert r.status_code == 403 and e["code"] == "PERMISSION_DENIED" and field in e["error"]["message"] and e["error"].get("param") == field, r.text


def within(child, parent):
    """Whether these limits allow no more than those."""
    for n in NAMES:
        p, c = parent.get(n), child.get(n)
        if p is None or p == "off":
            continue
        if c is None or c == "off":
            return False
        if n != "requests":
            if c > p:
                return False
            continue
        (cn, cp), (pn, pp) = ((int(a), PERIOD[b]) for a, b in (x.split("/") for x in (c, p)))
        if cn > pn or cn * pp > pn * cp:
            return False
    return True


def some(rnd):
    """Limits, an end in days (None: neither said)."""
    limits = {"requests": rnd.choice(["off", f"{rnd.choice([100, 1000, 6000])}/{rnd.choice(list(PERIOD))}"]), "tokens_per_minute": rnd.choice([10, 1000, 16000000]), "in_flight": rnd.choice([5, 20, 1000])}
    limits = {n: v for n, v in limits.items() if rnd.random() < 0.6}
    return {"limits": limits or None, "expires_in_days": rnd.choice([None, 1, 2, 30])}


def test_children_of_children(g):
    """Whatever is asked for: a child that is made is within its maker, and what is refused was not, or was more than the maker can hand on."""
    rnd, made, denied = random.Random(5), 0, 0
    for _ in range(12):
        maker = make(g, **{k: v for k, v in some(rnd).items() if v})
        for _ in range(6):
            asked = some(rnd)
            r = client(g, maker["key"]).post(KEYS, json={"name": "c", "permissions": MAY, **{k: v for k, v in asked.items() if v}})
            if r.status_code == 429:
                break
            if r.status_code == 403:
                denied += 1
                wants = {**{n: v for n, v in maker["limits"].items() if v != "off"}, **(asked["limits"] or {})}
                longer = asked["expires_in_days"] and maker["expires_at"] and time.time() + asked["expires_in_days"] * 86400 > seconds(maker["expires_at"]) - 2
                assert longer or not within(wants, maker["limits"]), (maker, asked, r.text)
                continue
            assert r.status_code == 201, r.text
            made += 1
            child = r.json()
            assert within(child["limits"], maker["limits"]), (maker, asked, child)
            assert not maker["expires_at"] or (child["expires_at"] and seconds(child["expires_at"]) <= seconds(maker["expires_at"])), (maker, asked, child)
            assert within(child["limits"], asked["limits"] or {}) and (not asked["expires_in_days"] or child["expires_at"])
            if rnd.random() < 0.3:
                maker = child
    assert made > 10 and denied > 10


def test_a_key_with_an_end_makes_nothing_that_outlives_it(g):
    k = make(g, expires_in_days=1)
    refused(client(g, k["key"]).post(KEYS, json={"name": "c", "permissions": MAY, "expires_in_days": 2}), "expires_in_days")
    child = make(g, k["key"])
    assert child["expires_at"] == k["expires_at"]
    lasting = make(g)
    refused(client(g, k["key"]).post(f"{KEYS}/{lasting['id']}/rotate"), "expires_at")
    assert client(g, k["key"]).post(f"{KEYS}/{child['id']}/rotate").status_code == 200
    refused(client(g, k["key"]).post(USERS, json={"username": "lasts", "password": PASSWORD, "permissions": []}), "expires_at")
    u = user(g, "there", permissions=["read_models"], limits={"in_flight": 2}, disabled=True)
    c = client(g, k["key"])
    for change in ({"password": "another password"}, {"permissions": MAY}, {"disabled": False}, {"limits": {"in_flight": 3}}):
        refused(c.patch(f"{USERS}/{u['id']}", json=change), "expires_at")
    for change in ({"permissions": []}, {"disabled": True}, {"limits": {"in_flight": 1}}):  # it takes away
        assert c.patch(f"{USERS}/{u['id']}", json=change).status_code == 200
    assert c.delete(f"{USERS}/{u['id']}").status_code == 204 and c.delete(f"{KEYS}/{lasting['id']}").status_code == 204


def test_a_key_with_limits_gives_no_more(g):
    own = {"requests": "500/minute", "tokens_per_minute": 1000, "in_flight": 5}
    k = make(g, limits=own)
    for more, field in (({"requests": "off"}, "requests"), ({"requests": "501/minute"}, "requests"), ({"requests": "500/second"}, "requests"), ({"tokens_per_minute": 1001}, "tokens_per_minute"),
                        ({"in_flight": 1000000}, "in_flight")):
        refused(client(g, k["key"]).post(KEYS, json={"name": "c", "permissions": MAY, "limits": more}), f"limits.{field}")
        refused(client(g, k["key"]).post(USERS, json={"username": "c", "password": PASSWORD, "permissions": MAY, "limits": more}), f"limits.{field}")
    child = make(g, k["key"], limits={"in_flight": 4})
    assert child["limits"] == {**own, "in_flight": 4}
    free = make(g)
    refused(client(g, k["key"]).post(f"{KEYS}/{free['id']}/rotate"), "limits.requests")  # its secret would be his
    assert client(g, k["key"]).post(f"{KEYS}/{k['id']}/rotate").status_code == 200
    assert make(g, free["key"], limits={"requests": "off", "in_flight": 1000000})["limits"] == {"requests": "off", "in_flight": 1000000}
    assert make(g)["limits"] == {} and make(g, limits={"requests": "off"})["limits"] == {"requests": "off"}  # of the environment's key


def test_nobody_raises_his_own(g):
    u, free = user(g, "bob", limits={"requests": "500/minute"}), user(g, "free")
    b = client(g, token(g, "bob"))
    for more in ({"requests": "off"}, {"requests": "501/minute"}):
        refused(b.patch(f"{USERS}/{u['id']}", json={"limits": more}), "limits.requests")
        refused(b.patch(f"{USERS}/{free['id']}", json={"limits": more}), "limits.requests")
    refused(b.patch(f"{USERS}/{free['id']}", json={"password": "mine now, all mine"}), "limits.requests")
    assert b.patch(f"{USERS}/{u['id']}", json={"limits": {}}).json()["limits"] == {"requests": "500/minute"}
    assert b.patch(f"{USERS}/{u['id']}", json={"limits": {"requests": "400/minute", "in_flight": 7}}).json()["limits"] == {"requests": "400/minute", "in_flight": 7}
    refused(b.patch(f"{USERS}/{u['id']}", json={"limits": {"requests": "500/minute"}}), "limits.requests")  # nor what he had before
    assert client(g, ADMIN).patch(f"{USERS}/{u['id']}", json={"limits": {"requests": "off"}}).json()["limits"] == {"requests": "off"}


def test_nobody_frees_himself_of_the_default(gate):
    """[limits] key_requests holds for who has no limits of his own; whoever may do everything may free himself."""
    g = gate(toml={"limits": {"api": "off", "key_requests": "500/minute"}, "auth": {"password_guesses": "off"}}, env={"INFERNO_ADMIN_PASSWORD": PASSWORD})
    u = user(g, "bob")
    b, a = client(g, token(g, "bob")), client(g, token(g, "admin"))
    for more in ({"requests": "off"}, {"requests": "501/minute"}):
        refused(b.patch(f"{USERS}/{u['id']}", json={"limits": more}), "limits.requests")
    assert b.patch(f"{USERS}/{u['id']}", json={"limits": {"requests": "300/minute"}}).status_code == 200
    me = next(x for x in a.get(USERS).json()["users"] if x["username"] == "admin")
    assert a.patch(f"{USERS}/{me['id']}", json={"limits": {"requests": "off"}}).json()["limits"] == {"requests": "off"}
