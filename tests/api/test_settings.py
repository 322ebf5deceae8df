"""PATCH /api/v1/config: options changed while the gate runs (seed ledger S2-26)."""
import json
import os
import secrets
import shutil
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from lib.gate import ADMIN, READ, model, run_cli
from lib.raw import SLOW
from lib.tls import authority

CONFIG = "/api/v1/config"


@pytest.fixture
def g(gate, worker):
    return gate(models=[model("m", worker())], toml={"limits": {"api": "100000/minute", "infer": "50/minute"}})


def infer_limit(g):
    return g.client(READ).post("/v1/chat/completions", json={"model": "m", "messages": []}).headers.get("x-ratelimit-limit")


def test_a_change_is_in_force_and_stays(g):
    """At once, after SIGHUP, after a restart; config show tells where it comes from; null takes it away again."""
    assert infer_limit(g) == "50"
    r = g.client(ADMIN).patch(CONFIG, json={"limits": {"infer": "7/hour"}, "server": {"max_prompt_chars": 20}})
    assert r.status_code == 200 and r.json() == {"settings": {"limits": {"infer": "7/hour"}, "server": {"max_prompt_chars": 20}}}
    assert infer_limit(g) == "7"
    assert g.client(READ).post("/api/v1/inference", json={"model": "m", "prompt": "x" * 21}).status_code == 400
    assert (g.dir / "data/settings.json").stat().st_mode & 0o777 == 0o600
    g.reload()
    assert infer_limit(g) == "7"
    g.stop()
    g.start()
    assert infer_limit(g) == "7"
    shown = run_cli("config", "show", cwd=g.dir, env=g.env).stdout
    assert any("7/hour" in line and "settings.json" in line for line in shown.splitlines())
    assert g.client(ADMIN).get(CONFIG).json()["settings"]["limits"] == {"infer": "7/hour"}
    assert g.client(ADMIN).patch(CONFIG, json={"limits": {"infer": None}}).json() == {"settings": {"server": {"max_prompt_chars": 20}}}
    assert infer_limit(g) == "50"


@pytest.mark.parametrize("patch,says", [
    ({"limits": {"infr": "1/minute"}}, "infer"), ({"limits": {"infer": "often"}}, "infer"), ({"limits": "off"}, "limits"), ({"nowhere": {"x": 1}}, "nowhere.x"),
    ({"server": {"listen": ["127.0.0.1:1"]}}, "restart"), ({"log": {"path": "/etc/passwd"}}, "log.path"), ({"auth": {"admin_key": "mine-mine-mine-mine"}}, "auth.admin_key"),
    ({"auth": {"require_auth": False}}, "auth.require_auth"), ({"server": {"trusted_proxies": ["0.0.0.0/0"]}}, "trusted_proxies"), ({"auth": {"api_keys_file": "x"}}, "api_keys_file"),
    ({"server": {"max_prompt_chars": -1}}, "max_prompt_chars"), ({"server": {"max_prompt_chars": "x"}}, "max_prompt_chars"), ({"model": {"name": "x"}}, "model.name"),
    ({"server": {"max_buffered_bytes": 1048576}}, "max_buffered_bytes"), ({"": {"profile": "dev"}}, "on profile: is changed in tollgate.toml only"),
    ({"profile": "dev"}, "on profile: is changed in tollgate.toml only"), ({"model": {"command": ["x"]}}, "on model.command: models are changed in tollgate.toml only"),
    ({"server": {"cors_origins": ["https://evil.example"]}}, "cors_origins"), ({"server": {"cors_credentials": True}}, "cors_credentials"), ({"auth": {"guesses": "off"}}, "auth.guesses"),
    ({"nope": {}}, "on nope: there is no such table"), ({"limit": {}}, "limits"), ({"model": {}}, "on model: models are changed in tollgate.toml only"),
    ({"auth": {"password_guesses": "1000000/second"}}, "auth.password_guesses"), ({"auth": {"guesses": None}}, "auth.guesses"), ({"log": {"level": 3}}, "level"),
])
def test_what_is_refused_changes_nothing(g, patch, says):
    """Unknown and wrong values with their name, what needs a restart, and what would make more of write_config than it is."""
    r = g.client(ADMIN).patch(CONFIG, json={"limits": {"ml": "5/minute"}, **patch} if "limits" not in patch else patch)
    assert r.status_code == 400 and r.json()["code"] == "VALIDATION_ERROR" and says in r.json()["message"], r.text
    assert g.client(ADMIN).get(CONFIG).json() == {"settings": {}} and not (g.dir / "data/settings.json").exists()


@pytest.mark.parametrize("patch,field,why", [
    ({"limits": {"infer": "often"}}, "limits.infer", "N/minute"), ({"server": {"max_prompt_chars": "x"}}, "server.max_prompt_chars", "whole number"), ({"server": {"max_prompt_chars": 0}}, "server.max_prompt_chars", "must be from 1"),
    ({"limits": {"enabled": 1}}, "limits.enabled", "true or false"), ({"server": {"cors_methods": ["get"]}}, "server.cors_methods", "capital"), ({"limits": {"infr": "1/minute"}}, "limits.infr", "infer"),
    ({"": {"profile": "dev"}}, "profile", "tollgate.toml"), ({"nope": {}}, "nope", "no such table"),
    ({"limits": {"ml": "5/minute"}, "server": {"max_buffered_bytes": 1048576}}, "server.max_buffered_bytes", "less than max_body_bytes"),
    ({"server": {"max_body_bytes": 1 << 30}, "limits": {"ml": "5/minute"}}, "server.max_body_bytes", "max_buffered_bytes is less than")])
def test_what_is_wrong_is_named(g, patch, field, why):
    """param is the option, and the sentence what was wrong with its value."""
    e = g.client(ADMIN).patch(CONFIG, json=patch).json()
    assert e["error"]["param"] == field and e["message"].startswith(f"Validation error on {field}: ") and why in e["message"] and str(g.dir) not in e["message"], e


@pytest.mark.parametrize("text,status", [("{", 400), ("[]", 400), ("", 400), ('{"limits":{},"limits":{}}', 400)])
def test_bodies_that_are_none(g, text, status):
    assert g.client(ADMIN).patch(CONFIG, content=text, headers={"Content-Type": "application/json"}).status_code == status
    assert g.client(ADMIN).patch(CONFIG, content="{}", headers={"Content-Type": "text/plain"}).status_code == 415


def test_a_variable_has_the_last_word(gate):
    g = gate(env={"TOLLGATE_LIMITS_INFER": "3/minute"})
    r = g.client(ADMIN).patch(CONFIG, json={"limits": {"infer": "9/minute"}})
    assert r.status_code == 409 and "TOLLGATE_LIMITS_INFER" in r.json()["message"]


def test_only_with_the_permission(g):
    assert g.client(READ).patch(CONFIG, json={}).status_code == 403 and g.client(READ).get(CONFIG).status_code == 403


def test_a_file_that_was_spoiled_stops_the_start_with_its_name(g):
    g.client(ADMIN).patch(CONFIG, json={"limits": {"ml": "5/minute"}})
    g.stop()
    for text, says in (("{", "JSON"), (json.dumps({"limits": {"mll": "5/minute"}}), "mll"), (json.dumps({"log": {"path": "x"}}), "log")):
        (g.dir / "data/settings.json").write_text(text)
        p = run_cli("serve", cwd=g.dir, env=g.env)
        assert p.returncode == 2 and "settings.json" in p.stderr and says in p.stderr


def spoil(kind, g):
    """What a reload reads, but not the change that is asked for. The way back."""
    path = g.dir / {"certificate": "gate.pem", "key file": "api_keys.json", "configuration": "tollgate.toml", "model's file": "weights"}[kind]
    if kind == "key file":
        path.chmod(0o644)
        return lambda: path.chmod(0o600)
    text = path.read_text()
    if kind == "configuration":
        path.write_text(text + "\nbad = = 1\n")
    else:
        path.unlink()
    return lambda: path.write_text(text)


@pytest.mark.parametrize("kind,says", [("certificate", "certificate"), ("key file", "key file"), ("configuration", "tollgate.toml"), ("model's file", "its file")])
def test_what_cannot_be_put_in_force_now_is_not_kept(gate, kind, says):
    """503 without the machine's paths; the log has the whole of it. What was set before stays, and the same change is taken when the fault is mended."""
    cert, key = authority().issue("gate")
    toml = {"profile": "production", "artifacts": {"url": "file:a"}, "server": {"tls_cert": "gate.pem", "tls_key": "gate.key"}, "limits": {"api": "1000/minute"}}
    own = {"name": "own", "command": ["/bin/sh", "-c", "exec sleep 1000", "{port}"], "file": "weights"}
    g = gate(toml=toml, models=[own], files={"weights": ""}, api_keys={"valid_keys": [secrets.token_hex(16)]}, start=False)
    shutil.copy(cert, g.dir / "gate.pem"), shutil.copy(key, g.dir / "gate.key")
    (g.dir / "gate.key").chmod(0o600), (g.dir / "tollgate.toml").chmod(0o600)
    g.start()
    c = g.client(ADMIN)
    assert c.patch(CONFIG, json={"limits": {"ml": "5/minute"}}).status_code == 200
    kept = (g.dir / "data/settings.json").read_bytes()
    mend = spoil(kind, g)
    r = c.patch(CONFIG, json={"limits": {"api": "77/minute"}})
    assert r.status_code == 503 and says in r.json()["detail"] and "othing was changed" in r.json()["detail"] and str(g.dir) not in r.text, r.text
    assert (g.dir / "data/settings.json").read_bytes() == kept and c.get(CONFIG).json() == {"settings": {"limits": {"ml": "5/minute"}}}
    assert c.get("/api/v1/models").headers["x-ratelimit-limit"] == "1000"
    assert g.wait_log(lambda line: line.get("event") == "config.reload_failed")["why"]
    assert c.patch(CONFIG, json={"limits": {"api": "often"}}).status_code == 400
    mend()
    assert c.patch(CONFIG, json={"limits": {"api": "77/minute"}}).status_code == 200 and c.get("/api/v1/models").headers["x-ratelimit-limit"] == "77"


def many_keys(tmp_path, n=20000 // SLOW**2):
    """A reload that takes its time."""
    path = tmp_path / "keys.txt"
    path.write_text("\n".join(secrets.token_hex(16) for _ in range(n)))
    path.chmod(0o600)
    return {"CHAPKIT_API_KEY_FILE": str(path)}


def test_a_change_is_in_force_whatever_else_is_read_again(gate, tmp_path):
    """A reload that began before the change does not count as the change's own."""
    g = gate(env=many_keys(tmp_path), toml={"limits": {"api": "100000/minute"}})
    c = g.client(ADMIN, timeout=30 * SLOW)
    for n in range(100001, 100021):
        t = threading.Timer((n % 20) * 0.004, os.kill, (g.pid, signal.SIGHUP))
        t.start()
        assert c.patch(CONFIG, json={"limits": {"api": f"{n}/minute"}}).status_code == 200
        assert {x.get("/api/v1/models").headers["x-ratelimit-limit"] for x in (c, g.client(ADMIN))} == {str(n)}
        t.join()
        time.sleep(0.1)


def test_changes_at_once_are_all_kept(gate):
    g = gate(toml={"limits": {"api": "100000/minute"}})
    names = ["train", "predict", "poll", "infer", "ml"]
    with ThreadPoolExecutor(5) as pool:
        assert set(pool.map(lambda n: g.client(ADMIN).patch(CONFIG, json={"limits": {n: "7/hour"}}).status_code, names)) == {200}
    assert g.client(ADMIN).get(CONFIG).json()["settings"]["limits"] == dict.fromkeys(names, "7/hour")


@pytest.mark.parametrize("patch,field", [
    ({"limits": {"enabled": False}}, "limits.enabled"), ({"limits": {"enabled": None}}, "limits.enabled"), ({"limits": {"key_requests": "off"}}, "limits.key_requests"),
    ({"limits": {"key_requests": None}}, "limits.key_requests"), ({"limits": {"key_tokens_per_minute": 0}}, "limits.key_tokens_per_minute"), ({"limits": {"key_in_flight": 0}}, "limits.key_in_flight"),
    ({"log": {"level": "error"}}, "log.level"), ({"log": {"rotate_bytes": 1}}, "log.rotate_bytes"), ({"log": {"rotate_keep": 1}}, "log.rotate_keep"), ({"ml": {"key_jobs": 0}}, "ml.key_jobs")])
def test_nobody_frees_himself(g, patch, field):
    """Of his own bounds and of the log: with write_config alone, 403 with the option; with all permissions, 200."""
    made = g.client(ADMIN).post("/api/v1/auth/api-keys", json={"name": "k", "permissions": ["write_config", "read_models"]}).json()
    c = g.client(made["key"])
    r = c.patch(CONFIG, json={"limits": {"ml": "5/minute", **patch.get("limits", {})}, **{t: v for t, v in patch.items() if t != "limits"}})
    assert r.status_code == 403 and r.json()["code"] == "PERMISSION_DENIED" and field in r.json()["message"] and r.json()["error"]["param"] == field, r.text
    assert g.client(ADMIN).get(CONFIG).json() == {"settings": {}}
    assert c.patch(CONFIG, json={"limits": {"ml": "5/minute"}}).status_code == 200
    assert g.client(ADMIN).patch(CONFIG, json=patch).status_code == 200


def test_who_lost_a_permission_meanwhile_changes_nothing(gate, tmp_path):
    """A change in line behind others is judged again when its turn comes, by all the permissions that it needs."""
    g = gate(env={"INFERNO_ADMIN_PASSWORD": "correct horse battery", **many_keys(tmp_path)}, toml={"limits": {"api": "off"}})
    login = g.client().post("/api/v1/auth/login", json={"username": "admin", "password": "correct horse battery"}).json()
    start = time.monotonic()
    assert g.client(ADMIN).patch(CONFIG, json={"limits": {"ml": "99/minute"}}).status_code == 200
    n = max(3, min(40, round(2 / (time.monotonic() - start))))
    with ThreadPoolExecutor(n + 1) as pool:
        before = [pool.submit(lambda c, i: c.patch(CONFIG, json={"limits": {"ml": f"{i + 1}/minute"}}).status_code, g.client(ADMIN, timeout=60 * SLOW), i) for i in range(n)]
        time.sleep(0.1)
        last = pool.submit(g.client(login["token"], timeout=60 * SLOW).patch, CONFIG, json={"limits": {"enabled": False}})
        time.sleep(0.1)
        assert run_cli("users", "permissions", "admin", "--permissions", "write_config,read_models", cwd=g.dir, env=g.env).returncode == 0
        time.sleep(0.3)  # it is looked at four times a second
        assert not all(b.done() for b in before)
        assert {b.result() for b in before} == {200} and last.result().status_code == 403, last.result().text
    assert "enabled" not in g.client(ADMIN).get(CONFIG).json()["settings"]["limits"]
