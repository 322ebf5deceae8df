"""
Profiles, document 004's settings, and authentication that is off: S4-16, S4-93 to S4-108, S4-110, S4-111, S4-124 to S4-126, S3-87, S2-60, C-12, C-13, C-23, C-36, C-37; DESIGN "Principals and keys".
"""
import json
import time

import pytest

from lib.gate import ADMIN, READ, BINARY, has_ipv6, model, run_cli

CHAT = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
KEY = "cr-test-W8k2nT5vR9xB3mJ7"
PAGE = "https://evil.example"


def show(cwd, **env):
    p = run_cli("config", "show", cwd=cwd, env=env)
    assert p.returncode == 0, p.stderr
    rows = [line.partition("  # ") for line in p.stdout.splitlines()]
    return {a.partition(" = ")[0].strip(): (a.partition(" = ")[2].strip(), b.strip()) for a, _, b in rows}


# --- profiles ----------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("profile,auth,origins,limits,artifacts", [("", "true", "[]", "true", '"file:artifacts/models"'), ("dev", "false", '["*"]', "false", '"file:artifacts/models"'),
                                                                   ("staging", "true", "[]", "true", '"file:artifacts/models"'), ("production", "true", "[]", "true", '"s3://models"')])
def test_table(tmp_path, profile, auth, origins, limits, artifacts):
    """S4-124 to S4-126: the four values of each environment, and that `config show` tells that the profile set them."""
    extra = {"CREDIT_RISK_MODEL_STORAGE_TYPE": "s3", "CREDIT_RISK_S3_BUCKET": "models"} if profile == "production" else {}
    got = show(tmp_path, TOLLGATE_PROFILE=profile, **extra)
    values = {"auth.require_auth": auth, "server.cors_origins": origins, "limits.enabled": limits, "artifacts.url": artifacts}
    assert {k: got[k][0] for k in values} == values
    for k in values:
        assert got[k][1] == ("environment CREDIT_RISK_S3_BUCKET" if extra and k == "artifacts.url" else f"profile {profile}" if profile else "default"), k


def test_dev(gate, worker):
    """S4-124, S3-87: dev serves this machine without a key, any origin, without limits."""
    g = gate(models=[model("m", worker())], toml={"profile": "dev", "limits": {"api": "1/minute"}}, keys=False)
    c = g.client(headers={"Origin": "http://localhost:5173"})
    for _ in range(3):
        r = c.post("/api/v1/inference", json={"prompt": "x", "model": "m"})
        assert r.status_code == 200 and "x-ratelimit-limit" not in r.headers and r.headers["access-control-allow-origin"] == "*"
    assert "AUTHENTICATION IS OFF" in g.stderr()


def test_explicit_wins(gate, worker):
    """C-12: in dev, what is set explicitly holds."""
    g = gate(models=[model("m", worker())], toml={"profile": "dev", "auth": {"require_auth": True}}, env={"CREDIT_RISK_RATE_LIMIT_ENABLED": "true", "CREDIT_RISK_CORS_ORIGINS": "https://a.example"})
    assert g.client().get("/v1/models").status_code == 401
    r = g.client(READ, headers={"Origin": PAGE}).post("/api/v1/inference", json={"prompt": "x", "model": "m"})
    assert r.headers["x-ratelimit-limit"] == "60" and "access-control-allow-origin" not in r.headers


PRODUCTION = {"TOLLGATE_PROFILE": "production", "TOLLGATE_ARTIFACTS_URL": "file:artifacts/models", "INFERENCE_ADMIN_KEY": ADMIN}
REFUSED = {
    "plain": ({"LOAD_BALANCER_HOST": "0.0.0.0", "LOAD_BALANCER_PORT": "0"}, ["listen", "0.0.0.0:0", "trusted_proxies", "tls:"]),
    "plain6": ({"TOLLGATE_SERVER_LISTEN": "127.0.0.1:0,[::]:0"}, ["listen", "[::]:0", "trusted_proxies"]),
    "admin_key": ({"INFERENCE_ADMIN_KEY": "your-secret-admin-key"}, ["admin_key", "INFERENCE_ADMIN_KEY", "document 000", "tollgate init"]),
    "list": ({"TOLLGATE_API_KEYS": "demo-key-12345"}, ["keys", "TOLLGATE_API_KEYS", "document 001"]),
    "chapkit": ({"CHAPKIT_API_KEYS": "sk_ml_train_abc123,sk_ml_predict_xyz789"}, ["chapkit_keys", "document 003"]),
    "password": ({"INFERNO_ADMIN_PASSWORD": "your-password"}, ["admin_password", "INFERNO_ADMIN_PASSWORD", "a password that document 002 prints", "choose another"]),
    "placeholder": ({"INFERENCE_READ_KEY": "<your-api-key>"}, ["read_key", "document 002"]),
    "unexpanded": ({"CHAPKIT_API_KEYS": "$TRAIN_KEY,$PREDICT_KEY,$ADMIN_KEY"}, ["chapkit_keys", "document 003"]),
    "everybody": ({"LOAD_BALANCER_HOST": "0.0.0.0", "LOAD_BALANCER_PORT": "0", "TOLLGATE_SERVER_TRUSTED_PROXIES": "10.0.0.1,0.0.0.0/0"}, ["trusted_proxies", "0.0.0.0/0 is everybody", "name the proxies"]),
    "everybody6": ({"TOLLGATE_SERVER_TRUSTED_PROXIES": "::/0"}, ["trusted_proxies", "::/0 is everybody"]),
    "mapped": ({"TOLLGATE_SERVER_TRUSTED_PROXIES": "::ffff:0:0/96"}, ["trusted_proxies", "::ffff:0:0/96 is everybody"]),
    "halves": ({"TOLLGATE_SERVER_TRUSTED_PROXIES": "10.0.0.0/8,0.0.0.0/1,128.0.0.0/1"}, ["trusted_proxies", "0.0.0.0/1 is everybody"]),
    "origins": ({"CREDIT_RISK_CORS_ORIGINS": "*"}, ["cors_origins", '"*"', "name the origins"]),
    "artifacts": ({"TOLLGATE_ARTIFACTS_URL": ""}, ["artifacts", "s3://", "file:"]),
    "bucket": ({"CREDIT_RISK_MODEL_STORAGE_TYPE": "s3"}, ["CREDIT_RISK_MODEL_STORAGE_TYPE", "CREDIT_RISK_S3_BUCKET"]),
}


@pytest.mark.parametrize("command", [("serve",), ("config", "check")], ids=["serve", "check"])
@pytest.mark.parametrize("name", REFUSED)
def test_production_refuses(tmp_path, command, name):
    """S2-60, S4-110, S4-126, C-13, C-23, T-WEAK: a sentence that names the option and what to do; exit 2, nothing is listened on; no key is shown."""
    env, words = REFUSED[name]
    p = run_cli(*command, cwd=tmp_path, env={**PRODUCTION, **env})
    assert p.returncode == 2 and all(x in p.stderr for x in words) and "listening" not in p.stderr, p.stderr
    assert not any(k in p.stderr + p.stdout for k in ("your-secret-admin-key", "demo-key-12345", "sk_ml_train_abc123"))
    assert name in ("artifacts", "bucket") or run_cli("config", "check", cwd=tmp_path, env={**PRODUCTION, **env, "TOLLGATE_PROFILE": "staging"}).returncode == 0, "all right elsewhere"


def test_production_starts(gate, worker):
    """The same profile with everything in its place: loopback, or a proxy that is named; limits off is said loudly (S4-111)."""
    g = gate(models=[model("m", worker())], env={**PRODUCTION, "CREDIT_RISK_RATE_LIMIT_ENABLED": "false"})
    assert g.client(READ).get("/v1/models").status_code == 200 and "without limits" in g.stderr() and "usually has" not in g.stderr()
    usual = [("limits", "api"), ("limits", "train"), ("limits", "predict"), ("auth", "guesses"), ("auth", "password_guesses")]
    g = gate(models=[model("m", worker())], toml={"limits": {"api": "off", "train": "off", "predict": "off"}, "auth": {"guesses": "off", "password_guesses": "off"}}, env=PRODUCTION)
    assert all(f"runs without a limit that it usually has: [{t}] {n} (" in g.stderr() for t, n in usual) and "without limits" not in g.stderr()
    g = gate(listen=["0.0.0.0:0"], toml={"server": {"trusted_proxies": ["10.0.0.0/8"]}}, env=PRODUCTION)
    assert g.client(READ).get("/v1/models").status_code == 200


def test_production_gives_no_user_a_password_that_a_document_prints(gate):
    """T-WEAK: neither by the API nor on the command line; elsewhere it is as good as any."""
    user = {"username": "eve", "password": "your-password", "permissions": []}
    g = gate(env=PRODUCTION)
    r = g.client(ADMIN).post("/api/v1/users", json=user)
    assert r.status_code == 400 and r.json()["error"]["param"] == "password" and "document 002" in r.json()["message"] and "your-password" not in r.text
    p = run_cli("users", "add", "eve", cwd=g.dir, env=g.env, stdin="your-password\n")
    assert p.returncode == 1 and "the documents print" in p.stderr
    made = g.client(ADMIN, timeout=60).post("/api/v1/users", json={**user, "password": "correct horse battery"}).json()
    assert g.client(ADMIN).patch(f"/api/v1/users/{made['id']}", json={"password": "your-password"}).status_code == 400
    assert gate().client(ADMIN, timeout=60).post("/api/v1/users", json=user).status_code == 201


def test_production_can_be_looked_at_and_made_ready(tmp_path):
    """What production refuses keeps nobody from seeing why (`config show`), nor from making better keys (`init`), which is what the sentence advises."""
    env = {"TOLLGATE_PROFILE": "production", "INFERENCE_ADMIN_KEY": "your-secret-admin-key", "CREDIT_RISK_CORS_ORIGINS": "*"}
    got = show(tmp_path, **env)
    assert got["profile"] == ('"production"', "environment TOLLGATE_PROFILE") and got["artifacts.url"][1] == "default" and got["server.cors_origins"][0] == '["*"]'
    assert run_cli("init", cwd=tmp_path, env={"TOLLGATE_PROFILE": "production"}).returncode == 0
    assert run_cli("config", "check", cwd=tmp_path, env={"TOLLGATE_PROFILE": "production", "TOLLGATE_ARTIFACTS_URL": "s3://models/x"}).returncode == 0


def test_production_and_also(tmp_path):
    """What the command line adds to listen on is judged too."""
    p = run_cli("serve", "--also", "0.0.0.0:0", cwd=tmp_path, env={**PRODUCTION, "LOAD_BALANCER_PORT": "0"})
    assert p.returncode == 2 and "--also" in p.stderr and "0.0.0.0:0" in p.stderr


def test_production_and_the_key_file(gate, worker, tmp_path):
    """A document's key in api_keys.json stops the start; one that is written there later voids the file, as every fault of it does."""
    (tmp_path / "api_keys.json").write_text(json.dumps({"valid_keys": ["a-good-key-0123456789", "prod-key-67890"]}))
    (tmp_path / "api_keys.json").chmod(0o600)
    for command in (("serve",), ("config", "check")):
        p = run_cli(*command, cwd=tmp_path, env={**PRODUCTION, "LOAD_BALANCER_PORT": "0"})
        assert p.returncode == 2 and "valid_keys[1]" in p.stderr and "document 001" in p.stderr and "prod-key" not in p.stderr
    assert "valid_keys[1]" in run_cli("config", "check", cwd=tmp_path).stderr
    good = "a-good-key-0123456789"
    g = gate(models=[model("m", worker())], env=PRODUCTION, api_keys={"valid_keys": [good]})
    c = g.client(good)
    assert c.get("/v1/models").status_code == 200
    g.write_keys({"valid_keys": [good, "demo-key-12345"]})
    g.wait_log(lambda r: r.get("event") == "keys.void" and "valid_keys[1]" in r["why"])
    assert c.get("/v1/models").status_code == 401 and g.client("demo-key-12345").get("/v1/models").status_code == 401
    g.write_keys({"valid_keys": [good]})
    g.wait_log(lambda r: r.get("event") == "keys.loaded")
    assert c.get("/v1/models").status_code == 200


def test_reload_into_production(gate):
    """A reload that production would not start with leaves the old configuration in force and says why."""
    g = gate(listen=["0.0.0.0:0"])
    g.write_config(toml={"profile": "production", "artifacts": {"url": "s3://models"}})
    r = g.reload()
    assert r["event"] == "config.reload_failed" and "without TLS" in r["why"] and g.client(READ).get("/health").status_code == 200


# --- document 004's settings ---------------------------------------------------------------------------------------------------------
def test_settings(tmp_path):
    """S4-93 to S4-106: every setting by environment, in any case, over .env."""
    (tmp_path / ".env").write_text("CREDIT_RISK_APP_NAME='Credit Risk API' # quoted\nexport CREDIT_RISK_LOG_LEVEL=ERROR\ncredit_risk_train_rate_limit=4/hour\n")
    (tmp_path / ".env").chmod(0o600)
    got = show(tmp_path, credit_risk_predict_rate_limit="9/minute", CREDIT_RISK_LOG_LEVEL="WARNING", CREDIT_RISK_API_KEYS=f'["{KEY}", "tiny"]', CREDIT_RISK_CORS_ORIGINS="https://a.example,https://b.example",
               CREDIT_RISK_MODEL_STORAGE_PATH="/srv/models", CREDIT_RISK_RATE_LIMIT_ENABLED="False")
    assert got["server.name"] == ('"Credit Risk API"', ".env:1 CREDIT_RISK_APP_NAME")
    assert got["log.level"] == ('"warn"', "environment CREDIT_RISK_LOG_LEVEL")
    assert got["limits.train"] == ('"4/hour"', ".env:3 CREDIT_RISK_TRAIN_RATE_LIMIT") and got["limits.predict"][0] == '"9/minute"'
    assert got["auth.credit_risk_keys"][0] == f'["{KEY[:9]}", "***"]'
    assert got["server.cors_origins"][0] == '["https://a.example", "https://b.example"]'
    assert got["artifacts.url"][0] == '"file:/srv/models"' and got["limits.enabled"][0] == "false"
    assert show(tmp_path, CREDIT_RISK_DEBUG="1")["log.level"] == ('"debug"', "log.debug, environment CREDIT_RISK_DEBUG")


@pytest.mark.parametrize("name,value", [("DEBUG", "maybe"), ("REQUIRE_AUTH", "sometimes"), ("API_KEYS", '["a"'), ("CORS_ORIGINS", "example.com"), ("RATE_LIMIT_ENABLED", "2"),
                                        ("TRAIN_RATE_LIMIT", "10 per hour"), ("PREDICT_RATE_LIMIT", "many"), ("MODEL_STORAGE_TYPE", "ftp"), ("LOG_LEVEL", "LOUD")])
def test_bad_settings(tmp_path, name, value):
    """S4-108: the start fails with the variable's name, from the environment and from .env."""
    name = "CREDIT_RISK_" + name
    p = run_cli("serve", cwd=tmp_path, env={name: value})
    assert p.returncode == 2 and f"environment {name}" in p.stderr, p.stderr
    (tmp_path / ".env").write_text(f"\n{name}='{value}'\n")
    p = run_cli("config", "check", cwd=tmp_path)
    assert p.returncode == 2 and f".env:2 {name}" in p.stderr, p.stderr


def test_settings_that_are_not_used(tmp_path):
    """A slip of the pen is said."""
    p = run_cli("config", "check", cwd=tmp_path, env={"CREDIT_RISK_DEBUGG": "1"})
    assert p.returncode == 0 and "CREDIT_RISK_DEBUGG is ignored" in p.stderr


def test_app_name(gate):
    """S4-95: the name at /, whatever stands in it."""
    g = gate(env={"CREDIT_RISK_APP_NAME": '<b>"Credit & Risk"'})
    assert g.client().get("/").json()["name"] == '<b>"Credit & Risk"'
    page = g.client().get("/", headers={"Accept": "text/html"}).text
    assert "<title>&lt;b&gt;&quot;Credit &amp; Risk&quot;</title>" in page and "<b>" not in page
    assert gate().client().get("/").json()["name"] == "Tollgate"


def test_keys(gate, worker):
    """S4-16, C-37: CREDIT_RISK_API_KEYS, commas or JSON: inference and /train, no configs, no admin."""
    for text in (f"another-key-0123456789, {KEY}", json.dumps([KEY])):
        g = gate(models=[model("m", worker())], env={"CREDIT_RISK_API_KEYS": text})
        c = g.client(KEY)
        r = c.post("/v1/chat/completions", json=CHAT)
        assert r.status_code == 200 and g.record(r)["key_name"] == "CREDIT_RISK_API_KEYS" and g.record(r)["key_prefix"] == KEY[:9]
        assert g.client(headers={"Authorization": f"Bearer {KEY}"}).get("/v1/models").status_code == 200
        assert c.post("/models/reload").status_code == 403
        assert g.client("wrong-" + KEY).get("/v1/models").status_code == 401


def test_key_files(gate, worker):
    """C-36: CHAPKIT_API_KEY_FILE, one key a line; a changed file is taken on SIGHUP. Named and not there: no start (with the file's name)."""
    first, second = "ml-first-key-0123456789", "ml-second-key-0123456789"
    g = gate(models=[model("m", worker())], env={"CHAPKIT_API_KEY_FILE": "keys.txt"}, files={"keys.txt": f"# ours\n{first}\n"})
    r = g.client(first).post("/v1/chat/completions", json=CHAT)
    assert r.status_code == 200 and g.record(r)["key_name"] == "CHAPKIT_API_KEY_FILE"
    g.replace("keys.txt", f"{second}\n")
    g.reload()
    assert g.client(first).get("/v1/models").status_code == 401 and g.client(second).get("/v1/models").status_code == 200
    p = run_cli("serve", cwd=g.dir, env={"CHAPKIT_API_KEY_FILE": "absent.txt", "LOAD_BALANCER_PORT": "0"})
    assert p.returncode == 2 and "CHAPKIT_API_KEY_FILE" in p.stderr and "absent.txt" in p.stderr


def test_rate_limits_off(gate, worker):
    """S4-100: RATE_LIMIT_ENABLED=false, no 429 and no limit headers; on again by a reload."""
    g = gate(models=[model("m", worker())], toml={"limits": {"api": "1/minute", "enabled": False}})
    c = g.client(READ)
    for _ in range(5):
        r = c.post("/api/v1/inference", json={"prompt": "x", "model": "m"})
        assert r.status_code == 200 and "x-ratelimit-limit" not in r.headers
    g.write_config(toml={"limits": {"api": "1/minute"}})
    g.reload()
    assert [c.post("/api/v1/inference", json={"prompt": "x", "model": "m"}).status_code for _ in range(2)] == [200, 429]


def test_workers_get_no_key(gate):
    """S4-121: what a started worker inherits has none of these keys, in whatever case they were written."""
    env = {"CREDIT_RISK_API_KEYS": KEY, "credit_risk_api_keys": KEY, "CREDIT_RISK_DEBUG": "false", "CHAPKIT_API_KEYS": "ck-0123456789abcdef"}
    g = gate(env=env, wait=False, models=[{"name": "m", "command": ["/bin/sh", "-c", "env > env.txt; exec sleep 60 # {port}"]}])
    path = g.dir / "env.txt"
    for _ in range(100):
        if path.exists() and "PATH=" in path.read_text():
            break
        time.sleep(0.05)
    text = path.read_text()
    assert "CREDIT_RISK_DEBUG=false" in text and KEY not in text and "ck-0123456789abcdef" not in text and ADMIN not in text


# --- require_auth = false ------------------------------------------------------------------------------------------------------------
OFF = {"auth": {"require_auth": False}}


def test_auth_off(gate, worker):
    """S4-98, S3-87, C-12: calls without a key pass as `anonymous`, with CHAPKIT's permissions; a wrong key is 401 all the same; a right one is its owner's."""
    g = gate(models=[model("m", worker())], toml=OFF, env={"TOLLGATE_API_KEYS": KEY})
    c = g.client()
    r = c.post("/v1/chat/completions", json=CHAT)
    assert r.status_code == 200
    assert {k: g.record(r)[k] for k in ("user", "key_name", "key_prefix")} == {"user": "anonymous", "key_name": "anonymous", "key_prefix": None}
    assert c.get("/v1/models").status_code == 200 and c.get("/models").status_code == 200 and c.get("/nothing").status_code == 404
    for bad in ({"X-API-Key": "wrong-key-0123456789"}, {"Authorization": "Bearer wrong"}, {"Cookie": "api_key=wrong"}):
        r = c.get("/v1/models", headers=bad)
        assert r.status_code == 401 and r.headers["www-authenticate"], bad
    assert g.record(g.client(KEY).get("/v1/models"))["key_name"] == "TOLLGATE_API_KEYS"
    assert "AUTHENTICATION IS OFF" in g.stderr()


@pytest.mark.parametrize("method,path", [("POST", "/models/reload"), ("GET", "/gpu"), ("GET", "/metrics"), ("GET", "/status"), ("GET", "/logs"), ("POST", "/settings/power_profile"), ("GET", "/jobs")])
def test_auth_off_admin(gate, method, path):
    """Admin permissions always need a key: without one it is the 401 of a missing key, and with the admin's it works."""
    g = gate(toml=OFF)
    r = g.client().request(method, path)
    assert r.status_code == 401 and r.headers["www-authenticate"] and r.json()["event"] == "auth.missing_key"
    assert g.client(ADMIN).request(method, path).status_code not in (401, 403)


def test_auth_off_without_any_key(gate, worker):
    """000's 500 is for a gate that lets nobody in: with authentication off the read routes work, the admin routes still say what is missing."""
    g = gate(models=[model("m", worker())], toml=OFF, keys=False)
    assert g.client().get("/models").status_code == 200
    r = g.client().post("/models/reload")
    assert r.status_code == 500 and r.json()["detail"] == "INFERENCE_ADMIN_KEY not configured"


def test_auth_off_is_for_loopback_listeners(gate, worker, tmp_path):
    """A listener that other machines reach, and a Unix socket, ask for a key as ever, whoever comes."""
    listen = ["127.0.0.1:0", "0.0.0.0:0", f"unix:{tmp_path}/s"] + (["[::1]:0"] if has_ipv6() else [])
    g = gate(models=[model("m", worker())], toml=OFF, listen=listen)
    assert g.client().get("/v1/models").status_code == 200
    wide = g.tcp("0.0.0.0")[0]
    assert g.client(url=f"http://127.0.0.1:{wide}").get("/v1/models").status_code == 401
    assert b" 401 " in g.raw(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", unix=tmp_path / "s").split(b"\r\n")[0]
    if has_ipv6():
        assert g.client(url=f"http://[::1]:{g.tcp('::1')[0]}").get("/v1/models").status_code == 200


@pytest.mark.parametrize("headers", [{"X-Forwarded-For": "10.0.0.1"}, {"Forwarded": "for=10.0.0.1"}, {"Via": "1.1 proxy"}, {"Host": "evil.example"}, {"Origin": PAGE}, {"Origin": "null"},
                                     {"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://localhost.evil.example"}])
def test_auth_off_is_not_for_others(gate, worker, headers):
    """A proxy in front, a foreign Host (rebinding) or a page of another site ends it, also in profile dev with its "*"."""
    g = gate(models=[model("m", worker())], toml={"profile": "dev"})
    assert g.client(headers=headers).post("/v1/chat/completions", json=CHAT).status_code == 401
    assert g.client(READ, headers=headers).post("/v1/chat/completions", json=CHAT).status_code == 200


def test_auth_off_and_pages(gate, worker):
    """Pages that this machine serves on other ports are welcome, and those of listed origins."""
    g = gate(models=[model("m", worker())], toml={"profile": "dev", "server": {"cors_origins": ["https://app.example"]}})
    for origin in ("http://localhost:3000", "http://127.0.0.1:8080", "https://app.example"):
        r = g.client(headers={"Origin": origin, "Sec-Fetch-Site": "cross-site"}).post("/v1/chat/completions", json=CHAT)
        assert r.status_code == 200, origin
    for origin in (PAGE, "http://localhost:1@evil.example", "http://evil.example#localhost", "file://localhost", "localhost:3000"):
        assert g.client(headers={"Origin": origin}).post("/v1/chat/completions", json=CHAT).status_code == 401, origin
    assert g.client(headers=[("Origin", "http://localhost:3000"), ("Origin", PAGE)]).post("/v1/chat/completions", json=CHAT).status_code == 401


def test_auth_off_behind_a_trusted_proxy(gate, worker):
    """With trusted_proxies set nobody is taken for a caller of this machine; the start says that the option has no effect."""
    g = gate(models=[model("m", worker())], toml={**OFF, "server": {"trusted_proxies": ["127.0.0.1"]}})
    assert g.client().get("/v1/models").status_code == 401 and "has no effect" in g.stderr()


def test_auth_comes_back_with_a_reload(gate, worker):
    """The option is live, both ways."""
    g = gate(models=[model("m", worker())], toml=OFF)
    c = g.client()
    assert c.get("/v1/models").status_code == 200
    g.write_config(toml={"auth": {"require_auth": True}})
    g.reload()
    assert c.get("/v1/models").status_code == 401


def test_anonymous_has_a_limit_by_address(gate, worker):
    """Without a name the address counts."""
    g = gate(models=[model("m", worker())], toml={**OFF, "limits": {"api": "2/minute"}})
    ask = [g.client(source=s).post("/api/v1/inference", json={"prompt": "x", "model": "m"}).status_code for s in ("127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.2")]
    assert ask == [200, 200, 429, 200]


def test_binary_holds_no_other_secret():
    """S4-113: of the documents' keys the program knows those of its deny list; no key of a test or of a real provider is in it."""
    blob = BINARY.read_bytes()
    assert b"demo-key-12345" in blob and ADMIN.encode() not in blob and READ.encode() not in blob and b"sk-proj-" not in blob
