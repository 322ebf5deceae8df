"""PATCH /api/v1/config: options changed while the gate runs (seed ledger S2-26)."""
import json

import pytest
from lib.gate import ADMIN, READ, model, run_cli

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
    ({"": {"profile": "dev"}}, "profile", "tollgate.toml")])
def test_what_is_wrong_is_named(g, patch, field, why):
    """param is the option, and the sentence what was wrong with its value."""
    e = g.client(ADMIN).patch(CONFIG, json=patch).json()
    assert e["error"]["param"] == field and e["message"].startswith(f"Validation error on {field}: ") and why in e["message"] and "the new settings" not in e["message"], e


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
