"""Document 003's keys and what its clients are told without one (seed ledger S3-01, S3-08, S3-11, S3-17, S3-22), and document 004's settings of limits (S4-15, S4-38, S4-118)."""
import subprocess

import pytest
from lib.gate import ADMIN, ROOT, model, run_cli
from lib.raw import until

CHAPKIT = {"CHAPKIT_API_KEYS": " sk_ml_train_abc123, ,sk_ml_predict_xyz789,sk_ml_admin_master001 ,,"}


def test_keys_from_the_environment(gate, worker):
    """S3-01, S3-08: comma separated, blanks and empty items dropped; all of them valid together; an empty item is no key."""
    g = gate(models=[model("m", worker())], env=CHAPKIT)
    for key in ("sk_ml_train_abc123", "sk_ml_predict_xyz789", "sk_ml_admin_master001"):
        assert g.external(key).get("/v1/models").status_code == 200, key
    for key in ("", "sk_ml_train", "sk_ml_train_abc123,"):
        assert g.external(key).get("/v1/models").status_code == 401, key


def test_the_log_says_whose_key_it_was(gate, worker):
    """S3-11: the text before the last "_" is a team's or an application's label; the key itself is in no line."""
    g = gate(models=[model("m", worker())], env={"CHAPKIT_API_KEYS": "sk_ml_train_ds_team_abc123,sk_ml_predict_app_xyz789"})
    for key, label in (("sk_ml_train_ds_team_abc123", "sk_ml_train_ds_team"), ("sk_ml_predict_app_xyz789", "sk_ml_predict_app")):
        r = g.external(key).get("/v1/models")
        assert r.status_code == 200 and g.record(r)["key_label"] == label and g.record(r)["key_prefix"] == key[:9]
    assert "abc123" not in g.log_text() and "xyz789" not in g.log_text()


@pytest.mark.parametrize("path", ["/api/v1/configs", "/api/v1/configs?x=1", "/api/v1/jobs/1", "/api/v1/artifacts/1"])
def test_problem_of_a_missing_key(gate, path):
    """S3-20 to S3-22: the five members to the letter, `status` a number that is the answer's, `instance` the path without its query."""
    r = gate().external().get(path)
    p = r.json()
    assert r.status_code == 401 and p["status"] == 401 and isinstance(p["status"], int) and r.headers["content-type"] == "application/problem+json"
    assert {k: p[k] for k in ("type", "title", "detail", "instance")} == {
        "type": "urn:chapkit:error:unauthorized", "title": "Unauthorized", "detail": "Missing authentication header: X-API-Key", "instance": path.split("?")[0]}


def test_every_error_has_a_code_and_a_challenge(gate, worker):
    """S2-51, S4-15, S4-115: whatever goes wrong has a code of ours, no internals, and a 401 its WWW-Authenticate."""
    g = gate(models=[model("m", worker())])
    answers = [g.external().get("/auth/verify"), g.external("no").get("/v1/models"), g.external(ADMIN).get("/nothing"), g.external(ADMIN).delete("/health"),
               g.external(ADMIN).post("/v1/chat/completions", content="{", headers={"Content-Type": "application/json"}), g.external(ADMIN).get("/jobs"),
               g.external(ADMIN).post("/api/v1/auth/api-keys", json=[]), g.external(ADMIN).post("/v1/chat/completions", json={"model": "zzz", "messages": []})]
    known = set(line.split('"')[1] for line in (ROOT / "src/tables/errors.def").read_text().splitlines() if line.startswith("ERROR("))
    for r in answers:
        assert r.status_code >= 400 and r.json()["code"] in known, r.text
        assert "src/" not in r.text and ".c:" not in r.text and "sqlite" not in r.text.lower() and str(g.dir) not in r.text
        assert ("www-authenticate" in r.headers) == (r.status_code == 401)


@pytest.mark.parametrize("name,option", [("CREDIT_RISK_TRAIN_RATE_LIMIT", "train"), ("CREDIT_RISK_PREDICT_RATE_LIMIT", "predict")])
@pytest.mark.parametrize("value,good", [("2/minute", True), ("10/hour", True), ("often", False), ("0/minute", False), ("5/fortnight", False)])
def test_rates_are_settings(gate, name, option, value, good):
    """S4-38: N/period by the document's variable; a bad one stops the start with the variable's name. (The routes they are for come later.)"""
    g = gate(start=False)
    p = run_cli("config", "show", cwd=g.dir, env={**g.env, name: value})
    if good:
        assert p.returncode == 0 and any(line.startswith(f'limits.{option} = "{value}"') and name in line for line in p.stdout.splitlines()), p.stdout
    else:
        assert p.returncode == 2 and name in p.stderr


def test_no_secret_is_under_version_control():
    """S2-77, S4-113: what the gate makes or reads as a secret is ignored, and nothing in the tree looks like a private key or one of ours."""
    for name in ("data/keys.env", "data/secret.key", "data/jwt.secret", "data/tollgate.db", ".env", "api_keys.json"):
        assert subprocess.run(["git", "check-ignore", "-q", name], cwd=ROOT).returncode == 0, name
    found = subprocess.run(["git", "grep", "-lE", "^-----BEGIN (RSA |EC |)PRIVATE KEY|tg_[a-z0-9]{16}_[A-Za-z0-9]{44}"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    assert [f for f in found if not f.startswith("tests/")] == []


def test_keys_taken_out_of_the_list_end_and_no_others(gate, worker):
    """S3-17: a predict key is taken away by a reload of the file that names it; the train key works on."""
    g = gate(models=[model("m", worker())], files={".env": "CHAPKIT_API_KEYS=sk_ml_train_abc123,sk_ml_predict_xyz789\n"})
    assert g.external("sk_ml_predict_xyz789").get("/v1/models").status_code == 200
    (g.dir / ".env").write_text("CHAPKIT_API_KEYS=sk_ml_train_abc123\n")
    assert g.reload()["event"] == "config.reloaded"
    until(lambda: g.external("sk_ml_predict_xyz789").get("/v1/models").status_code == 401, 3, "the key being out")
    assert g.external("sk_ml_train_abc123").get("/v1/models").status_code == 200
