"""
Whoever is taken away, or may less, while a request of his is under way does nothing by it any more (S2-18, S2-17; identity.md: a revoked key works on no connection): its body is still on its way, its password is being
hashed, it stands in line for the database.
"""
import json
import sqlite3
import threading
import time

import pytest
from lib.gate import ADMIN, model
from lib.ml import config, ml_gate
from lib.raw import SLOW, until
from lib.wire import answers

KEYS, USERS, CONFIG = "/api/v1/auth/api-keys", "/api/v1/users", "/api/v1/config"
PASSWORD = "correct horse battery"
MANAGER = ["manage_users", "read_models", "write_config", "run_inference", "manage_configs", "use_streaming"]
SLOWLY = 30 * SLOW


def toml(end=True):
    return {"limits": {"api": "100000/minute"}, "auth": {"password_guesses": "off", "end_revoked": end}}


@pytest.fixture(params=[True, False], ids=["ended", "refused"])
def g(request, gate, worker):
    g = gate(models=[model("m", worker())], toml=toml(request.param), env={"INFERNO_ADMIN_PASSWORD": PASSWORD})
    g.ends = request.param
    return g


def admin(g):
    return g.client(ADMIN, timeout=SLOWLY)


def make(g, permissions=MANAGER, **more):
    r = admin(g).post(KEYS, json={"name": "k", "permissions": permissions, **more})
    assert r.status_code == 201, r.text
    return r.json()


def add(g, name, permissions=MANAGER):
    r = admin(g).post(USERS, json={"username": name, "password": PASSWORD, "permissions": permissions})
    assert r.status_code == 201, r.text
    return r.json()


def login(g, name, password=PASSWORD):
    return g.client(timeout=SLOWLY).post("/api/v1/auth/login", json={"username": name, "password": password})


class Slow:
    """A request of which the head and some of the body were sent."""

    def __init__(self, g, method, path, body, credential, chunked=False):
        self.body = json.dumps(body).encode()
        self.s = g.connect(timeout=SLOWLY)
        framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(self.body)}"
        first = b"5\r\n" + self.body[:5] + b"\r\n" if chunked else self.body[:5]
        self.last = b"%x\r\n%s\r\n0\r\n\r\n" % (len(self.body) - 5, self.body[5:]) if chunked else self.body[5:]
        self.s.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-API-Key: {credential}\r\nConnection: close\r\n{framing}\r\n\r\n".encode() + first)
        time.sleep(0.3 * SLOW)  # it is authenticated by now

    def read(self):
        out = b""
        while True:
            try:
                got = self.s.recv(1 << 16)
            except ConnectionResetError:
                break
            if not got:
                break
            out += got
        self.s.close()
        return next(a for a in answers(out) if a.status >= 200)

    def finish(self):
        self.s.sendall(self.last)
        return self.read()


def refused(g, slow):
    """The answer: without another byte of the body where running requests are ended, else at its end."""
    return slow.read() if g.ends else slow.finish()


ASKED = {
    "make a key": ("POST", KEYS, {"name": "after", "permissions": MANAGER}), "change options": ("PATCH", CONFIG, {"limits": {"train": "9/hour"}}),
    "make a user": ("POST", USERS, {"username": "ghost", "password": PASSWORD, "permissions": MANAGER}), "chat": ("POST", "/v1/chat/completions", {"model": "m", "messages": [], "stream": True}),
    "infer": ("POST", "/api/v1/inference", {"model": "m", "prompt": "hello there"}), "make a configuration": ("POST", "/api/v1/configs", {"name": "a configuration", "data": {}}),
}


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("what", ASKED)
def test_revoked_before_the_body_is_whole(g, what, chunked):
    method, path, body = ASKED[what]
    k, other = make(g), make(g)
    slow, bystander = Slow(g, method, path, body, k["key"], chunked), Slow(g, "POST", KEYS, {"name": "bystander", "permissions": []}, other["key"], chunked)
    assert admin(g).delete(f"{KEYS}/{k['id']}").status_code == 204
    a = refused(g, slow)
    assert a.status == 401 and b"taken away" in a.body, a.raw
    assert g.wait_log(lambda r: r.get("reason") == "revoked")["status"] == 401
    assert bystander.finish().status == 201  # whom it does not concern is not touched
    assert [x["name"] for x in admin(g).get(KEYS).json()["api_keys"]].count("after") == 0
    assert [x["username"] for x in admin(g).get(USERS).json()["users"]] == ["admin"]
    assert admin(g).get(CONFIG).json() == {"settings": {}} and admin(g).get("/api/v1/configs").json() == []


def test_rotated_away_before_the_body_is_whole(g):
    """It is the secret that counts, not the key."""
    k = make(g)
    slow = Slow(g, "POST", KEYS, {"name": "after", "permissions": []}, k["key"])
    assert admin(g).post(f"{KEYS}/{k['id']}/rotate", json={"overlap_seconds": 0}).status_code == 200
    assert refused(g, slow).status == 401


@pytest.mark.parametrize("how", ["disabled", "deleted", "logged out", "password"])
def test_users_who_are_taken_away(g, how):
    """The one who was disabled was back by a request that he had begun before."""
    u = add(g, "mgr")
    token = login(g, "mgr").json()["token"]
    slow = Slow(g, "PATCH", f"{USERS}/{u['id']}", {"disabled": False, "permissions": MANAGER}, token)
    c = admin(g)
    r = {"disabled": lambda: c.patch(f"{USERS}/{u['id']}", json={"disabled": True, "permissions": []}), "deleted": lambda: c.delete(f"{USERS}/{u['id']}"),
         "logged out": lambda: g.client(token).post("/api/v1/auth/logout"), "password": lambda: c.patch(f"{USERS}/{u['id']}", json={"password": "quite another one"})}[how]()
    assert r.status_code in (200, 204)
    assert refused(g, slow).status == 401
    now = c.get(f"{USERS}/{u['id']}")
    assert now.status_code == 404 if how == "deleted" else now.json()["disabled"] == (how == "disabled")


def test_fewer_permissions_count(g):
    """Lowered rights are the rights: of the route, of a stream, and what he may give."""
    u = add(g, "mgr")
    token = login(g, "mgr").json()["token"]
    of_the_route = Slow(g, "POST", KEYS, {"name": "a", "permissions": []}, token)
    to_stream = Slow(g, "POST", "/v1/chat/completions", {"model": "m", "messages": [], "stream": True}, token)
    to_give = Slow(g, "POST", KEYS, {"name": "b", "permissions": ["write_config"]}, token)
    untouched = Slow(g, "POST", KEYS, {"name": "c", "permissions": ["read_models"]}, token)

    def lower(*gone):
        assert admin(g).patch(f"{USERS}/{u['id']}", json={"permissions": [p for p in MANAGER if p not in gone]}).status_code == 200
    lower("use_streaming", "write_config")
    a, b = to_stream.finish(), to_give.finish()
    assert a.status == 403 and b"use_streaming" in a.body
    assert b.status == 403 and b"write_config" in b.body
    assert untouched.finish().status == 201
    lower("manage_users")
    a = of_the_route.finish()
    assert a.status == 403 and b"manage_users" in a.body


def test_a_key_that_left_its_file(gate):
    """Keys of files too begin nothing when they are gone."""
    key = "file-key-0123456789-0123456789"
    g = gate(api_keys={"valid_keys": [key]}, toml=toml())
    until(lambda: g.client(key).get("/auth/verify").status_code == 200, 3 * SLOW, "the key of the file")
    gone, here = Slow(g, "POST", "/auth/verify", {"some": "body"}, key), Slow(g, "POST", "/auth/verify", {"some": "body"}, ADMIN)
    g.write_keys({"valid_keys": []})
    until(lambda: g.client(key).get("/auth/verify").status_code == 401, 5 * SLOW, "the end of the key of the file")
    assert gone.finish().status == 401 and here.finish().status == 200


def crowd(g, n=14):
    """Logins that keep the hasher busy, so that whatever comes now waits."""
    def one():
        login(g, "zz", "x" * 12)
    threads = [threading.Thread(target=one) for _ in range(n)]
    for t in threads:
        t.start()
    time.sleep(0.05)
    return threads


def test_taken_away_while_a_password_is_hashed(g):
    u = add(g, "mgr")
    m = g.client(login(g, "mgr").json()["token"], timeout=SLOWLY)
    got, busy = {}, crowd(g)
    ask = {"make": lambda: m.post(USERS, json={"username": "evil", "password": PASSWORD, "permissions": MANAGER}),
           "lift": lambda: m.patch(f"{USERS}/{u['id']}", json={"password": PASSWORD, "permissions": MANAGER, "disabled": False})}
    threads = [threading.Thread(target=lambda n=n, f=f: got.update({n: f()})) for n, f in ask.items()]
    for t in threads:
        t.start()
    time.sleep(0.1)
    assert admin(g).patch(f"{USERS}/{u['id']}", json={"permissions": [], "disabled": True}).status_code == 200
    for t in threads + busy:
        t.join()
    assert {n: r.status_code for n, r in got.items()} == {"make": 401, "lift": 401}
    now = admin(g).get(f"{USERS}/{u['id']}").json()
    assert now["disabled"] and now["permissions"] == [] and login(g, "evil").status_code == 401


def test_taken_away_while_the_database_is_waited_for(g):
    """The change itself looks: the row says revoked before any loop has heard of it."""
    k = make(g)
    with sqlite3.connect(g.dir / "data/tollgate.db", isolation_level=None, timeout=10) as db:
        db.execute("BEGIN IMMEDIATE")
        got = []
        asks = [threading.Thread(target=lambda i=i: got.append(g.client(k["key"], timeout=SLOWLY).post(KEYS, json={"name": "after", "permissions": []}).status_code)) for i in range(3)]
        for t in asks:
            t.start()
        time.sleep(0.4)
        db.execute("UPDATE api_keys SET revoked_at = 1 WHERE id = ?", (k["id"],))
        db.execute("COMMIT")
    for t in asks:
        t.join()
    assert got == [401, 401, 401]
    assert [x["name"] for x in admin(g).get(KEYS).json()["api_keys"]] == ["k"]


def test_a_body_on_its_way_to_the_engine(gate):
    """An upload is ended like any body that is being received."""
    g = ml_gate(gate)
    c = admin(g)
    cid = config(c)
    k = make(g, ["train_models"])
    slow = Slow(g, "POST", "/api/v1/ml/$train", {"config_id": cid, "data": {"columns": ["a", "y"], "data": [[1, 0], [2, 1]]}}, k["key"])
    time.sleep(1 * SLOW)  # the engine has been started and takes it
    assert c.delete(f"{KEYS}/{k['id']}").status_code == 204
    assert slow.read().status == 401
    assert c.get("/api/v1/jobs").json() == []


def test_a_weaker_manager_ends_no_stronger_key(g):
    """S2-17: as with rotating and users, whoever may less changes nothing of whoever may more."""
    weak, strong = make(g, ["manage_users", "read_models"]), make(g)
    r = g.client(weak["key"]).delete(f"{KEYS}/{strong['id']}")
    assert r.status_code == 403 and "write_config" in r.json()["message"]
    assert g.client(strong["key"]).get("/auth/verify").status_code == 200
    assert g.client(strong["key"]).delete(f"{KEYS}/{weak['id']}").status_code == 204
