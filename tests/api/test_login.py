"""Logins, users and what a token may (seed ledger S2-02 to S2-10, S2-17, S2-27, C-41, S4-11, S4-12, S4-18)."""
import base64
import concurrent.futures
import json
import os
import re
import sqlite3
import subprocess
import threading
import time
from calendar import timegm
from pathlib import Path

import jwt
import pytest
from lib.gate import ADMIN, BINARY, READ, clean_env, model, run_cli
from lib.raw import SLOW, until

LOGIN, LOGOUT, USERS, KEYS = "/api/v1/auth/login", "/api/v1/auth/logout", "/api/v1/users", "/api/v1/auth/api-keys"
PASSWORD = "correct horse battery"
LIMITS = {"limits": {"api": "100000/minute"}, "auth": {"password_guesses": "off"}}


@pytest.fixture
def g(gate, worker):
    return gate(models=[model("llama-7b", worker())], toml=LIMITS, env={"INFERNO_ADMIN_PASSWORD": PASSWORD})


def login(g, name="admin", password=PASSWORD):
    r = g.client(timeout=30 * SLOW).post(LOGIN, json={"username": name, "password": password})
    assert r.status_code == 200, r.text
    return r.json()["token"]


def bearer(g, token):
    return g.client(headers={"Authorization": f"Bearer {token}"}, timeout=30 * SLOW)


def add(g, name, permissions, password="another password"):
    r = g.client(ADMIN, timeout=30 * SLOW).post(USERS, json={"username": name, "password": password, "permissions": permissions})
    assert r.status_code == 201, r.text
    return r.json()


def claims(token):
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def test_the_documents_lines(g):
    """S2-02, S2-06 to S2-09: log in with curl as written, two members, a token that begins eyJ, expires_at with Z that is the token's exp, and the token opens GET /api/v1/models."""
    status, head, body = g.curl("-X", "POST", g.url + LOGIN, "-H", "Content-Type: application/json", "-d", json.dumps({"username": "admin", "password": PASSWORD}))
    answer = json.loads(body)
    assert status == 200 and set(answer) == {"token", "expires_at"} and answer["token"].startswith("eyJ") and head["cache-control"] == "no-store"
    ends = timegm(time.strptime(answer["expires_at"], "%Y-%m-%dT%H:%M:%SZ"))
    assert claims(answer["token"])["exp"] == ends and abs(ends - time.time() - 86400) < 30
    status, _, body = g.curl("-H", f"Authorization: Bearer {answer['token']}", g.url + "/api/v1/models")
    assert status == 200 and "llama-7b" in body
    status, _, _ = g.curl("-X", "POST", g.url + KEYS, "-H", f"Authorization: Bearer {answer['token']}", "-H", "Content-Type: application/json",
                          "-d", '{"name": "production-key", "permissions": ["read_models", "run_inference"], "expires_in_days": 90}')
    assert status == 201


def test_a_token_is_not_a_claim_of_rights(g):
    """What a user may is looked up at each request: a change of permissions holds for tokens that are out."""
    u = add(g, "bob", ["read_models"])
    t = bearer(g, login(g, "bob", "another password"))
    assert t.get("/api/v1/models").status_code == 200 and t.get(USERS).status_code == 403
    assert g.client(ADMIN).patch(f"{USERS}/{u['id']}", json={"permissions": ["manage_users"]}).status_code == 200
    assert t.get("/api/v1/models").status_code == 403 and t.get(USERS).status_code == 200
    assert "permissions" not in claims(t.headers["authorization"].split()[1])


def flip(token, part, at):
    parts = token.split(".")
    c = parts[part][at]
    parts[part] = parts[part][:at] + ("A" if c != "A" else "B") + parts[part][at + 1:]
    return ".".join(parts)


def test_bad_tokens(g):
    """S2-04: missing, flipped, unsigned, other algorithms: 401 AUTHENTICATION_FAILED with the same text as any bad key, never 5xx."""
    t = login(g)
    head, body, sign = t.split(".")

    def b64(o):
        return base64.urlsafe_b64encode(json.dumps(o).encode()).rstrip(b"=").decode()
    bad = [flip(t, 0, 5), flip(t, 1, 7), flip(t, 2, 3), f"{head}.{body}.", f"{head}.{body}", f"{b64({'alg': 'none', 'typ': 'JWT'})}.{body}.",
           f"{b64({'alg': 'none'})}.{body}.{sign}", f"{b64({'alg': 'HS512', 'typ': 'JWT'})}.{body}.{sign}", f"{b64({'alg': 'RS256'})}.{body}.{sign}", t + "A", "eyJ", "eyJ..", t * 30]
    for token in bad:
        r = bearer(g, token).get("/api/v1/models")
        assert r.status_code == 401 and r.json()["error"]["code"] == "AUTHENTICATION_FAILED" and r.json()["error"]["message"] == "Invalid API key", token[:40]
    for text in (g.log_text(), g.stderr()):
        assert "eyJ" not in text  # S2-66


@pytest.mark.parametrize("name,password", [("admin", "wrong password!"), ("nobody", PASSWORD), ("admin", "x"), ("nobody" * 20, PASSWORD), ("ADMIN ", PASSWORD)])
def test_wrong_logins_are_alike(g, name, password):
    """S2-10: wrong password, unknown user, whatever: the same 401."""
    r = g.client(timeout=30 * SLOW).post(LOGIN, json={"username": name, "password": password})
    e = r.json()
    assert r.status_code == 401 and e["code"] == "AUTHENTICATION_FAILED" and e["error"]["message"] == "Invalid username or password" and "www-authenticate" in r.headers


def cpu(g):
    fields = Path(f"/proc/{g.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.release_only
def test_wrong_logins_cost_the_same(g):
    """S2-10: an unknown and a disabled user cost a hash as well: measured in CPU, which other programs on the machine do not stretch as they do time."""
    u = add(g, "disabled", [])
    g.client(ADMIN).patch(f"{USERS}/{u['id']}", json={"disabled": True})
    c, took = g.client(), {"admin": 0.0, "nobody": 0.0, "disabled": 0.0}
    for _ in range(10):
        for name in took:
            before = cpu(g)
            assert c.post(LOGIN, json={"username": name, "password": "wrong password"}).status_code == 401
            took[name] += cpu(g) - before
    assert max(took.values()) < 1.35 * min(took.values()), took


@pytest.mark.parametrize("body,field", [
    ({}, "username"), ({"username": "admin"}, "password"), ({"username": 1, "password": "x"}, "username"), ({"username": "admin", "password": None}, "password"),
    ({"username": "admin", "password": ["x"]}, "password"), ({"username": "admin", "password": "x", "remember": True}, "remember"), ({"username": "", "password": "x"}, "username"),
])
def test_login_bodies_that_are_none(g, body, field):
    r = g.client().post(LOGIN, json=body)
    assert r.status_code == 400 and r.json()["code"] == "VALIDATION_ERROR" and field in r.json()["message"]
    r = g.client().post(LOGIN, content='{"username": "admin", "password": "hunter2hunter2', headers={"Content-Type": "application/json"})
    assert r.status_code == 400 and "hunter2" not in r.text
    time.sleep(0.2)
    assert "hunter2" not in g.log_text()  # S2-67: also of a body that does not parse


def test_logout_ends_the_token_alone(g):
    a, b = bearer(g, login(g)), bearer(g, login(g))
    assert a.post(LOGOUT).status_code == 204
    refused = a.get("/api/v1/models")
    assert refused.status_code == 401 and b.get("/api/v1/models").status_code == 200
    g.wait_log(lambda r: r["event"] == "auth.token_refused" and r["request_id"] == refused.headers["x-request-id"] and "ended" in r["why"])
    r = g.client(ADMIN).post(LOGOUT)
    assert r.status_code == 400 and "key" in r.json()["message"]
    assert g.client().post(LOGOUT).status_code == 401
    g.stop()
    g.start()
    assert bearer(g, a.headers["authorization"].split()[1]).get("/api/v1/models").status_code == 401  # also after a restart
    assert bearer(g, b.headers["authorization"].split()[1]).get("/api/v1/models").status_code == 200


def test_users(g):
    """S2-27: add, list, look, change, remove; names are unique whatever their case; no password comes back; a new password ends old tokens."""
    u = add(g, "Eve", ["read_models"])
    assert u["username"] == "eve" and u["id"].startswith("usr_") and "password" not in json.dumps(u)
    assert g.client(ADMIN, timeout=30 * SLOW).post(USERS, json={"username": "EVE", "password": "another password", "permissions": []}).status_code == 409
    t = bearer(g, login(g, "eve", "another password"))
    listed = g.client(ADMIN).get(USERS)
    assert {x["username"] for x in listed.json()["users"]} == {"admin", "eve"} and "argon2" not in listed.text
    assert g.client(ADMIN, timeout=30 * SLOW).patch(f"{USERS}/{u['id']}", json={"password": "a third password"}).status_code == 200
    assert t.get("/api/v1/models").status_code == 401
    assert g.client(timeout=30 * SLOW).post(LOGIN, json={"username": "eve", "password": "another password"}).status_code == 401
    until(lambda: bearer(g, login(g, "eve", "a third password")).get("/api/v1/models").status_code == 200, 3 * SLOW, "the new password's token")
    t = bearer(g, login(g, "eve", "a third password"))
    assert g.client(ADMIN).patch(f"{USERS}/{u['id']}", json={"disabled": True}).json()["disabled"] is True
    assert t.get("/api/v1/models").status_code == 401
    assert g.client(timeout=30 * SLOW).post(LOGIN, json={"username": "eve", "password": "a third password"}).status_code == 401
    assert g.client(ADMIN).delete(f"{USERS}/{u['id']}").status_code == 204 and g.client(ADMIN).delete(f"{USERS}/{u['id']}").status_code == 404
    assert g.client(ADMIN).get(f"{USERS}/{u['id']}").status_code == 404
    for body, field in (({"username": "x", "password": "short", "permissions": []}, "password"), ({"username": "x", "permissions": []}, "password"),
                        ({"username": "x" * 65, "password": "another password", "permissions": []}, "username"),
                        ({"username": "x", "password": "another password", "permissions": ["fly"]}, "permissions"), ({"username": "x", "password": "another password"}, "permissions")):
        r = g.client(ADMIN).post(USERS, json=body)
        assert r.status_code == 400 and field in r.json()["message"], r.text
    assert g.client(ADMIN).patch(f"{USERS}/usr_0123456789abcdef", json={"username": "y"}).status_code == 400


def test_nobody_lifts_himself(g):
    """S2-17 for users: who manages users without more can neither give more, nor take over somebody who has more."""
    add(g, "manager", ["manage_users", "read_models"])
    m = bearer(g, login(g, "manager", "another password"))
    admin = next(u for u in g.client(ADMIN).get(USERS).json()["users"] if u["username"] == "admin")
    me = next(u for u in g.client(ADMIN).get(USERS).json()["users"] if u["username"] == "manager")
    assert m.post(USERS, json={"username": "x", "password": "another password", "permissions": ["write_config"]}).status_code == 403
    assert m.patch(f"{USERS}/{me['id']}", json={"permissions": ["manage_users", "read_models", "write_config"]}).status_code == 403
    assert m.patch(f"{USERS}/{admin['id']}", json={"password": "mine now, all mine"}).status_code == 403
    assert m.delete(f"{USERS}/{admin['id']}").status_code == 403
    assert g.client(READ).get(USERS).status_code == 403
    login(g)  # unchanged


def test_no_user_no_login(gate):
    """C-41: without INFERNO_ADMIN_PASSWORD and without `users add` there is nobody; the command line makes the first one, and the running gate sees him."""
    g = gate(toml=LIMITS)
    assert g.client(timeout=30 * SLOW).post(LOGIN, json={"username": "admin", "password": PASSWORD}).status_code == 401
    p = run_cli("users", "add", "admin", cwd=g.dir, env=g.env, stdin=PASSWORD + "\n")
    assert p.returncode == 0, p.stderr
    until(lambda: g.client(timeout=30 * SLOW).post(LOGIN, json={"username": "admin", "password": PASSWORD}).status_code == 200, 5 * SLOW, "him being seen")
    assert run_cli("users", "add", "admin", cwd=g.dir, env=g.env, stdin=PASSWORD + "\n").returncode == 1
    assert run_cli("users", "add", "x", cwd=g.dir, env=g.env, stdin="short\n").returncode == 1
    assert "admin" in run_cli("users", "list", cwd=g.dir, env=g.env).stdout
    assert run_cli("users", "disable", "admin", cwd=g.dir, env=g.env).returncode == 0
    until(lambda: g.client(timeout=30 * SLOW).post(LOGIN, json={"username": "admin", "password": PASSWORD}).status_code == 401, 5 * SLOW, "him being out")
    assert run_cli("users", "remove", "nobody", cwd=g.dir, env=g.env).returncode == 1
    assert run_cli("users", "permissions", "admin", "--permissions", "fly", cwd=g.dir, env=g.env).returncode == 2


@pytest.mark.parametrize("env,text", [({"INFERNO_ADMIN_PASSWORD": "short"}, "INFERNO_ADMIN_PASSWORD"), ({"INFERNO_JWT_SECRET": "short"}, "INFERNO_JWT_SECRET"),
                                      ({"TOLLGATE_SECRET": "short"}, "TOLLGATE_SECRET")])
def test_secrets_that_are_too_short(gate, env, text):
    g = gate(start=False)
    p = run_cli("serve", cwd=g.dir, env={**g.env, **env}, timeout=20 * SLOW)
    assert p.returncode in (1, 2) and text in p.stderr and "ready" not in p.stderr


def test_nothing_of_these_secrets_is_shown(gate):
    """Not by `config show`, where keys are shown by their first characters, not in /proc of a worker's environment (tests/fault/test_supervisor.py), not in a log."""
    env = {"INFERNO_ADMIN_PASSWORD": "swordfish-swordfish", "INFERNO_JWT_SECRET": "jellyfish-" * 4, "TOLLGATE_SECRET": "cuttlefish-" * 4}
    g = gate(env=env)
    shown = run_cli("config", "show", cwd=g.dir, env=g.env)
    assert shown.returncode == 0 and 'auth.admin_password = "***"' in shown.stdout
    for text in (shown.stdout, shown.stderr, g.log_text(), g.stderr()):
        assert "fish-" not in text


def test_the_password_variable_changes_nobody(g):
    """It is for the first start: a restart with another one leaves the user as he is."""
    g.stop()
    g.env["INFERNO_ADMIN_PASSWORD"] = "quite another one"
    g.start()
    login(g)


def test_one_secret_for_two_gates(gate):
    """INFERNO_JWT_SECRET is what signs: a token of the one is a token of the other that has the same user base."""
    secret = {"INFERNO_JWT_SECRET": "0123456789abcdef0123456789abcdef", "INFERNO_ADMIN_PASSWORD": PASSWORD}
    a, b = gate(toml=LIMITS, env=secret), gate(toml=LIMITS, env=secret)
    t = login(a)
    assert bearer(a, t).get("/v1/models").status_code == 200
    assert bearer(b, t).get("/v1/models").status_code == 401  # signed well, but of no user there: a token is not believed
    assert not (a.dir / "data/jwt.secret").exists()


def test_tokens_by_a_second_opinion(gate):
    """S2-04, S2-08, S2-09: PyJWT reads the gate's tokens, and the gate takes PyJWT's, for the same secret, issuer and user; not with one of them another."""
    secret = "0123456789abcdef0123456789abcdef"
    g = gate(toml=LIMITS, env={"INFERNO_JWT_SECRET": secret, "INFERNO_ADMIN_PASSWORD": PASSWORD})
    ours = jwt.decode(login(g), secret, algorithms=["HS256"], issuer="tollgate")
    assert ours["sub"].startswith("usr_") and ours["exp"] - ours["iat"] == 86400 and len(ours["jti"]) >= 20
    now = int(time.time())
    good = {"iss": "tollgate", "sub": ours["sub"], "jti": "made-elsewhere", "iat": now, "exp": now + 60}
    assert bearer(g, jwt.encode(good, secret, algorithm="HS256")).get("/v1/models").status_code == 200
    for change, key, algorithm in (({"iss": "other"}, secret, "HS256"), ({"sub": "usr_0000000000000000"}, secret, "HS256"), ({"exp": now - 120, "iat": now - 240}, secret, "HS256"),
                                   ({"nbf": now + 600}, secret, "HS256"), ({}, secret[::-1], "HS256"), ({}, secret * 2, "HS512"), ({"exp": None}, secret, "HS256")):
        claim = {k: v for k, v in {**good, **change}.items() if v is not None}
        assert bearer(g, jwt.encode(claim, key, algorithm=algorithm)).get("/v1/models").status_code == 401, (change, algorithm)
    assert any("expired" in r["why"] for r in g.log(wait=0.2) if r["event"] == "auth.token_refused")


@pytest.mark.parametrize("length", [1, 40, 41, 64])
def test_logout_of_whatever_id_a_token_may_have(gate, length):
    """Another issuer with our secret names its tokens as it likes, up to the 64 characters that a token may have: logging out ends each of them, over a restart too."""
    secret = "0123456789abcdef0123456789abcdef"
    g = gate(toml=LIMITS, env={"INFERNO_JWT_SECRET": secret, "INFERNO_ADMIN_PASSWORD": PASSWORD})
    now = int(time.time())
    token = jwt.encode({"iss": "tollgate", "sub": claims(login(g))["sub"], "jti": "j" * length, "iat": now, "exp": now + 600}, secret, algorithm="HS256")
    t = bearer(g, token)
    assert t.get("/v1/models").status_code == 200
    assert t.post(LOGOUT).status_code == 204
    assert t.get("/v1/models").status_code == 401
    g.stop()
    g.start()
    assert bearer(g, token).get("/v1/models").status_code == 401


def test_verify(g):
    """S4-11, S4-12, S4-18, C-32: Bearer or raw key or X-API-Key or token; POST and GET; 401 with the document's texts and a string `error`."""
    k = g.client(ADMIN).post(KEYS, json={"name": "k", "permissions": []}).json()["key"]
    for headers in ({"Authorization": f"Bearer {k}"}, {"Authorization": k}, {"X-API-Key": k}, {"Authorization": f"Bearer {login(g)}"}, {"Cookie": f"api_key={k}"}):
        for method in ("GET", "POST"):
            if "Cookie" in headers and method == "POST":
                continue  # a page of another site could send it
            r = g.client(headers=headers).request(method, "/auth/verify")
            assert r.status_code == 200 and r.json() == {"status": "valid", "message": "API key is valid"}, headers
    for headers, text in (({}, "Missing API key"), ({"Authorization": "Bearer no"}, "Invalid API key")):
        r = g.client(headers=headers).post("/auth/verify")
        assert r.status_code == 401 and r.json()["detail"] == text and r.json()["error"] == "AUTHENTICATION_FAILED"


def test_many_logins_are_bounded(g):
    """Hashing is bounded: a crowd gets 200 or 503 with Retry-After, other requests go on meanwhile."""
    def one(_):
        with g.client(timeout=60 * SLOW) as c:
            return c.post(LOGIN, json={"username": "admin", "password": PASSWORD})
    with concurrent.futures.ThreadPoolExecutor(120) as pool:
        futures = [pool.submit(one, i) for i in range(120)]
        t = time.monotonic()
        assert g.client(ADMIN).get("/v1/models").status_code == 200
        assert time.monotonic() - t < 1 * SLOW
        got = [f.result() for f in futures]
    assert {r.status_code for r in got} <= {200, 503} and sum(r.status_code == 200 for r in got) >= 30
    assert all(re.fullmatch(r"[1-9]\d*", r.headers["retry-after"]) for r in got if r.status_code == 503)


def crowd(g, n=12):
    """Logins that keep the hasher busy, so that whatever comes now waits."""
    threads = [threading.Thread(target=lambda: g.client(timeout=60 * SLOW).post(LOGIN, json={"username": "zz", "password": "x" * 12})) for _ in range(n)]
    for t in threads:
        t.start()
    time.sleep(0.1)
    return threads


@pytest.mark.parametrize("change", [{"password": "second second second"}, {"disabled": True}], ids=["password", "disabled"])
def test_logins_that_wait_while_the_password_goes(g, change):
    """S2-06, S2-10: a login that is let in after the change was answered is one by what holds then; tokens of the old password are void, whenever they were issued, also once the user is enabled again."""
    u = add(g, "vic", [], "first first first")
    busy, got, changed = crowd(g), [], []

    def old():
        r = g.client(timeout=60 * SLOW).post(LOGIN, json={"username": "vic", "password": "first first first"})
        got.append((time.monotonic(), r))

    def new():
        assert g.client(ADMIN, timeout=60 * SLOW).patch(f"{USERS}/{u['id']}", json=change).status_code == 200
        changed.append(time.monotonic())
    threads = [threading.Thread(target=f) for f in [new] + [old] * 10]
    for t in threads:
        t.start()
        time.sleep(0.01)
    for t in threads + busy:
        t.join()
    late = [r.status_code for at, r in got if at > changed[0] + 0.2 * SLOW]
    assert set(late) <= {401} and 401 in {r.status_code for _, r in got}, [(at - changed[0], r.status_code) for at, r in got]
    tokens = [r.json()["token"] for _, r in got if r.status_code == 200]
    assert [bearer(g, t).get("/auth/verify").status_code for t in tokens] == [401] * len(tokens)
    if "disabled" in change:
        assert g.client(ADMIN).patch(f"{USERS}/{u['id']}", json={"disabled": False}).status_code == 200
        assert [bearer(g, t).get("/auth/verify").status_code for t in tokens] == [401] * len(tokens)


def test_every_new_password_ends_the_tokens_of_the_one_before(g):
    """Changes within one second, too: what was issued between two of them is void after the second."""
    u = add(g, "vic", [], "password number 0")
    for i in range(1, 5):
        t = login(g, "vic", f"password number {i - 1}")
        assert bearer(g, t).get("/auth/verify").status_code == 200
        assert g.client(ADMIN, timeout=30 * SLOW).patch(f"{USERS}/{u['id']}", json={"password": f"password number {i}"}).status_code == 200
        assert bearer(g, t).get("/auth/verify").status_code == 401


def test_a_mark_of_a_clock_that_was_wrong(g):
    """A password was changed while the clock was a day ahead: a login says so instead of giving a token that nobody takes; the API keeps the mark, the command line sets it to its own now and warns."""
    u = add(g, "vic", [], "password number 0")
    db = sqlite3.connect(g.dir / "data/tollgate.db", timeout=10)

    def mark(seconds):
        at = int(time.time()) + seconds
        with db:
            db.execute("UPDATE users SET tokens_from = ? WHERE id = ?", (at, u["id"]))
        time.sleep(1.0 * SLOW)  # the gate looks each half second
        return at

    def post(password):
        return g.client(timeout=30 * SLOW).post(LOGIN, json={"username": "vic", "password": password})
    at = mark(86400)
    r = post("password number 0")
    until_when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at - 30))
    assert r.status_code == 503 and "a clock was wrong" in r.json()["message"] and until_when in r.json()["message"] and "`tollgate users passwd`" in r.json()["message"], r.text
    assert abs(int(r.headers["retry-after"]) - 86370) < 60 * SLOW and g.record(r)["reason"] == "clock_was_wrong"
    assert post("another password").status_code == 401, "only whoever has the password is told"
    assert g.client(ADMIN, timeout=30 * SLOW).patch(f"{USERS}/{u['id']}", json={"password": "password number 1"}).status_code == 200
    assert post("password number 1").status_code == 503
    p = run_cli("users", "passwd", "vic", cwd=g.dir, env=g.env, stdin="password number 2\n")
    assert p.returncode == 0 and "warning: the tokens of vic were void up to" in p.stderr and "may live again" in p.stderr, p.stderr
    until(lambda: post("password number 2").status_code == 200, 5 * SLOW, "the mark set back")
    assert bearer(g, login(g, "vic", "password number 2")).get("/auth/verify").status_code == 200
    p = run_cli("users", "passwd", "vic", cwd=g.dir, env=g.env, stdin="password number 3\n")
    assert p.returncode == 0 and p.stderr == "", "a mark of a change just before is none of those"
    until(lambda: post("password number 3").status_code == 200, 5 * SLOW, "the password")
    mark(20)
    assert bearer(g, login(g, "vic", "password number 3")).get("/auth/verify").status_code == 200
    mark(86400)
    assert run_cli("users", "disable", "vic", cwd=g.dir, env=g.env).stderr.startswith("warning: ")
    assert run_cli("users", "enable", "vic", cwd=g.dir, env=g.env).returncode == 0
    until(lambda: post("password number 3").status_code == 200, 5 * SLOW, "the user enabled")


def test_a_password_typed_slowly_on_the_command_line(g):
    """What counts is when it was changed, not when the program was started: a token taken while the new one is typed is void."""
    add(g, "vic", [], "first first first")
    p = subprocess.Popen([str(BINARY), "users", "passwd", "vic"], cwd=g.dir, env=clean_env(g.env), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    time.sleep(2.5)
    t = bearer(g, login(g, "vic", "first first first"))
    assert t.get("/auth/verify").status_code == 200
    out, _ = p.communicate("second second second\n", timeout=30 * SLOW)
    assert p.returncode == 0, out
    until(lambda: t.get("/auth/verify").status_code == 401, 3 * SLOW, "the end of the old password's token")
    assert bearer(g, login(g, "vic", "second second second")).get("/auth/verify").status_code == 200


def test_log_names_users_by_id(g):
    """C-34, S2-63: the opaque id, never the name."""
    u = add(g, "someone@example.org", ["read_models"])
    bearer(g, login(g, "someone@example.org", "another password")).get("/api/v1/models")
    g.wait_log(lambda r: u["id"] in json.dumps(r))
    assert "someone" not in g.log_text()


def test_clients_that_leave_during_a_login(g):
    """The hash ends for nobody; nothing is lost (the sanitizers watch)."""
    for _ in range(20):
        s = g.connect()
        body = json.dumps({"username": "admin", "password": PASSWORD}).encode()
        s.sendall(b"POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        s.close()
    login(g)
    assert os.path.exists(f"/proc/{g.pid}")
