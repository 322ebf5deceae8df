"""What each key and user used and what it cost (seed ledger S2-75, S3-13, S3-14, S3-16, S3-18, S3-19, S3-84): GET /api/v1/usage, `tollgate usage`, what a restart and a crash leave of it."""
import json
import os
import signal
import sqlite3
import time
from datetime import datetime, timedelta, timezone

import pytest
from lib.gate import ADMIN, READ, model, run_cli
from lib.raw import SLOW, Stream, chat_body, until

USAGE, KEYS = "/api/v1/usage", "/api/v1/auth/api-keys"
SERVICE_A, SERVICE_B = "sk_ml_service_a_key123", "sk_ml_service_b_key456"        # document 003, case 2
CUSTOMER_1, CUSTOMER_2 = "sk_ml_customer_1_abc123", "sk_ml_customer_2_xyz789"    # and case 3
FREE = {"limits": {"api": "off"}}
COUNTS = ["requests", "errors", "limited", "prompt_tokens", "completion_tokens", "trainings", "predictions", "rows", "cost"]


def today(days=0):
    return (datetime.now(timezone.utc) + timedelta(days=days)).strftime("%Y-%m-%d")


@pytest.fixture
def g(gate, worker):
    return gate(models=[model("m", worker(), price_prompt="0.15", price_completion="2.5")], env={"CHAPKIT_API_KEYS": ",".join([SERVICE_A, SERVICE_B, CUSTOMER_1, CUSTOMER_2])},
                toml={**FREE, "prices": {"currency": "EUR"}})


def chat(g, key, times=1, stream=False, **more):
    for _ in range(times):
        r = g.client(key).post("/v1/chat/completions", json={"model": "m", "stream": stream, "messages": [{"role": "user", "content": "hi"}], **more})
        r.read()
    return r


def usage(g, key=ADMIN, **query):
    r = g.client(key).get(USAGE, params=query)
    assert r.status_code == 200, r.text
    return r.json()


def row(u, label):
    return next((r for r in u["usage"] if r["label"] == label or r["name"] == label), None)


def counted(g, label, requests, **query):
    """The row, once so many requests stand in it: the last bytes of an answer leave a moment before it is recorded."""
    until(lambda: (row(usage(g, **query), label) or {"requests": 0})["requests"] == requests, 5 * SLOW, f"{requests} requests of {label}")
    return row(usage(g, **query), label)


def same(a, b):
    return {k: a[k] for k in COUNTS} == {k: b[k] for k in COUNTS}


def test_two_services_are_two_rows_that_survive_a_restart(g):
    """S3-13, S3-14, S3-16, S3-18: counts and cost of each key, exactly; the same after a restart, under the same id, and counted on."""
    chat(g, SERVICE_A, 3)
    chat(g, SERVICE_A, stream=True)
    chat(g, SERVICE_B, 2)
    a, b = counted(g, "sk_ml_service_a", 4), counted(g, "sk_ml_service_b", 2)
    assert (a["prompt_tokens"], a["completion_tokens"], b["prompt_tokens"], b["completion_tokens"]) == (28, 20, 14, 10)
    # 7 tokens at 0.15 and 5 at 2.5 a million: 13.55 millionths a request
    assert a["cost"] == pytest.approx(4 * 13.55e-6, abs=1e-12) and b["cost"] == pytest.approx(2 * 13.55e-6, abs=1e-12)
    assert '"cost":0.0000542' in g.client(ADMIN).get(USAGE, params={"principal": a["principal"]}).text  # not 5.42e-05, and not 0.000054199999
    assert a["principal"] != b["principal"] and a["source"] == "CHAPKIT_API_KEYS" and a["key_prefix"] == "sk_ml_ser" and a["name"] == a["label"]
    u = usage(g)
    assert u["currency"] == "EUR" and u["from"] == today(-29) and u["to"] == today() and u["next"] is None
    assert all(u["total"][k] == pytest.approx(sum(r[k] for r in u["usage"])) for k in COUNTS)
    text = json.dumps(u)
    assert not any(k in text for k in (SERVICE_A, SERVICE_B, "key123", "key456", ADMIN[:10], READ[:10]))
    g.stop()
    g.start()
    again = row(usage(g), "sk_ml_service_a")
    assert again["principal"] == a["principal"] and same(again, a)
    chat(g, SERVICE_A)
    assert counted(g, "sk_ml_service_a", 5)["prompt_tokens"] == 35


def test_billing_by_customer(g):
    """S3-14, S3-18: what to bill whom, by day, of one customer alone, page by page, in order."""
    chat(g, CUSTOMER_1, 2)
    chat(g, CUSTOMER_2)
    one, two = counted(g, "sk_ml_customer_1", 2), counted(g, "sk_ml_customer_2", 1)
    assert usage(g, principal=one["principal"])["usage"] == [one] and same(usage(g, principal=one["principal"])["total"], one)
    days = usage(g, group="day", principal=two["principal"])
    assert [d["day"] for d in days["usage"]] == [today()] and same(days["usage"][0], two)
    seen, after = [], ""
    while after is not None:
        page = usage(g, limit=1, after=after)
        seen += [r["principal"] for r in page["usage"]]
        after = page["next"]
    assert seen == sorted(r["principal"] for r in usage(g)["usage"]) and {one["principal"], two["principal"]} <= set(seen)


def test_days(g):
    """Rows of other days, as the days before left them: ranges include both ends, days without use have no row, pages go on behind a day."""
    chat(g, SERVICE_A)
    me = counted(g, "sk_ml_service_a", 1)["principal"]
    with sqlite3.connect(g.dir / "data/tollgate.db", timeout=10) as db:
        day = int(time.time()) // 86400
        for back in (1, 2, 5, 40):
            db.execute("INSERT INTO usage SELECT ?, principal, 10 * ?, prompt_tokens, completion_tokens, cost, errors, limited, rows_seen, trainings, predictions FROM usage "
                       "WHERE principal = ? AND day = ?", (day - back, back, me, day))
    assert row(usage(g), "sk_ml_service_a")["requests"] == 1 + 10 + 20 + 50
    assert row(usage(g, **{"from": today(-40)}), "sk_ml_service_a")["requests"] == 1 + 10 + 20 + 50 + 400
    assert row(usage(g, **{"from": today(-2), "to": today(-1)}), "sk_ml_service_a")["requests"] == 30
    assert usage(g, **{"from": today(-4), "to": today(-3)})["usage"] == []
    days = usage(g, group="day", principal=me)
    assert [(d["day"], d["requests"]) for d in days["usage"]] == [(today(-5), 50), (today(-2), 20), (today(-1), 10), (today(), 1)] and days["next"] is None
    first = usage(g, group="day", principal=me, limit=2)
    assert [d["day"] for d in first["usage"]] == [today(-5), today(-2)] and first["next"] == today(-2)
    assert [d["day"] for d in usage(g, group="day", principal=me, limit=2, after=first["next"])["usage"]] == [today(-1), today()]
    assert first["total"]["requests"] == 81  # of the range, not of the page


@pytest.mark.parametrize("how", ["stream", "no event yet", "plain", "broken off"])
def test_who_leaves_before_the_usage_pays_for_the_prompt(gate, worker, how):
    """S3-18: an answer that is left, or breaks off, before its usage has come costs the reckoned prompt and what passed: leaving early is no way to a long prompt for nothing. The log says the same."""
    w = worker()
    g = gate(models=[model("m", w, price_prompt="1", price_completion="1")], env={"CHAPKIT_API_KEYS": SERVICE_A}, toml=FREE)
    stream = how != "plain"
    w.behave(chunks=30, pace=0.05, stop_after=4 if how == "broken off" else None, delay=0 if how in ("stream", "broken off") else 10, prompt_tokens=5000, completion_tokens=30)
    body = chat_body(text="x" * 20000, stream=stream)
    s = Stream(g, text="x" * 20000, key=SERVICE_A, stream=stream)
    w.wait(1)
    if how == "broken off":
        s.rest()
    elif how == "stream":
        for _ in range(3):
            s.event()
    s.vanish()
    r, prompt = counted(g, "sk_ml_service_a", 1), -(-len(body) // 4)
    assert r["prompt_tokens"] == prompt > 5000 and (3 <= r["completion_tokens"] <= 30 if how in ("stream", "broken off") else r["completion_tokens"] == 0)
    assert r["cost"] == pytest.approx((prompt + r["completion_tokens"]) / 1e6)
    line = g.wait_log(lambda x: x["event"] == "request" and x["endpoint"] == "/v1/chat/completions")
    assert (line["prompt_tokens"], line["completion_tokens"]) == (prompt, r["completion_tokens"])


def test_who_never_reached_a_worker_pays_nothing(gate, worker):
    """Left in the queue: nobody worked for it."""
    w = worker().behave(delay=2 * SLOW)
    g = gate(models=[model("m", w, slots=1)], env={"CHAPKIT_API_KEYS": SERVICE_A}, toml=FREE)
    busy = Stream(g, key=ADMIN, stream=False)
    w.wait(1)
    waiting = Stream(g, text="x" * 20000, key=SERVICE_A)
    until(lambda: "\ntollgate_requests_queued 1\n" in g.client(ADMIN).get("/metrics").text, 5 * SLOW, "its waiting")
    waiting.vanish()
    r = counted(g, "sk_ml_service_a", 1)
    assert (r["prompt_tokens"], r["completion_tokens"]) == (0, 0)
    busy.close()


def test_managed_keys_users_and_nameless_callers(gate, worker):
    """S2-75, S3-19: keys of the database and users by their names, local callers without any; both secrets of a rotated key are one row; a user who was removed keeps his."""
    g = gate(models=[model("m", worker(), protocol="infer")], env={"INFERNO_ADMIN_PASSWORD": "correct horse battery"}, toml=FREE)
    admin = g.client(ADMIN)
    k = admin.post(KEYS, json={"name": "büro", "permissions": ["read_models"]}).json()
    second = admin.post(f"{KEYS}/{k['id']}/rotate").json()
    for secret in (k["key"], second["key"]):
        assert g.client(secret).get("/v1/models").status_code == 200
    token = admin.post("/api/v1/auth/login", json={"username": "admin", "password": "correct horse battery"}).json()["token"]
    assert g.client(headers={"Authorization": f"Bearer {token}"}).get("/v1/models").status_code == 200
    assert g.client().post("/infer", json={"model_name": "m", "request_body": {"prompt": "hi"}}).status_code == 200
    key, user, local = counted(g, "büro", 2), counted(g, "admin", 2, principal=admin.get("/api/v1/users").json()["users"][0]["id"]), counted(g, "local", 1)
    assert key["principal"] == k["id"] and key["source"] == "database" and key["key_prefix"] == second["prefix"] and key["label"] is None
    assert user["source"] == "user" and user["name"] == "admin" and user["principal"].startswith("usr_")
    assert local["principal"] == "local" and local["key_prefix"] is None
    admin.delete(f"/api/v1/users/{user['principal']}")
    assert row(usage(g, principal=user["principal"]), "admin")["requests"] == 2  # the login and what came of it


def test_errors_and_limits_are_counted(gate, worker):
    """S3-84: what was refused for the limit stands apart; other failures are errors; a key that is none counts nowhere."""
    g = gate(models=[model("m", worker())], env={"CHAPKIT_API_KEYS": SERVICE_A}, toml={"limits": {"api": "off", "infer": "3/hour"}})
    statuses = [chat(g, SERVICE_A, model="m" if i else "unknown").status_code for i in range(5)]
    assert statuses == [404, 200, 200, 429, 429]
    assert g.client("sk_ml_of_nobody_12345").get("/v1/models").status_code == 401
    r = counted(g, "sk_ml_service_a", 5)
    assert (r["errors"], r["limited"], r["prompt_tokens"], r["cost"]) == (3, 2, 14, 0)
    assert not any("nobody" in str(x) for x in usage(g)["usage"])


def test_who_may_ask_and_what(g):
    """Guard read_metrics; every wrong question is a 400 that names its field, and asks the database nothing."""
    assert g.client(READ).get(USAGE).status_code == 403 and g.client().get(USAGE).status_code == 401
    watcher = g.client(ADMIN).post(KEYS, json={"name": "w", "permissions": ["read_metrics"]}).json()["key"]
    assert usage(g, watcher)["usage"] is not None
    for query, field in [({"from": "yesterday"}, "from"), ({"to": "2026-02-30"}, "to"), ({"from": "2026-1-1"}, "from"), ({"from": "2026-01-01T00:00:00Z"}, "from"), ({"from": ""}, "from"),
                         ({"from": today(1)}, "from"), ({"from": today(), "to": today(-1)}, "from"), ({"group": "week"}, "group"), ({"principal": ""}, "principal"),
                         ({"principal": "x" * 40}, "principal"), ({"limit": "0"}, "limit"), ({"limit": "1001"}, "limit"), ({"group": "day", "after": "key_x"}, "after")]:
        r = g.client(ADMIN).get(USAGE, params=query)
        assert r.status_code == 400 and r.json()["code"] == "VALIDATION_ERROR" and r.json()["error"]["param"] == field, (query, r.text)
    assert usage(g, principal="key_' OR 1=1 --")["usage"] == []


def test_a_killed_gate_loses_what_the_database_had_not_heard(gate, worker):
    """What was told, every usage_flush_s seconds, survives SIGKILL; what came after is lost, and nothing is counted twice."""
    g = gate(models=[model("m", worker())], env={"CHAPKIT_API_KEYS": SERVICE_A}, toml={**FREE, "store": {"usage_flush_s": 1}})
    chat(g, SERVICE_A, 3)

    def kept():
        try:
            with sqlite3.connect(f"file:{g.dir}/data/tollgate.db?mode=ro", uri=True, timeout=5) as db:
                return db.execute("SELECT COALESCE(SUM(requests), 0) FROM usage u JOIN usage_principals p ON p.principal = u.principal WHERE label = 'sk_ml_service_a'").fetchone()[0]
        except sqlite3.OperationalError:
            return 0  # it is made when there is something to keep
    until(lambda: kept() == 3, 5 * SLOW, "the database hearing of it")
    os.kill(g.pid, signal.SIGSTOP)
    os.kill(g.pid, signal.SIGKILL)
    g.proc.wait()
    g.kill()
    g.toml["store"]["usage_flush_s"] = 3600
    g.write_config()
    g.start()
    chat(g, SERVICE_A, 2)
    assert kept() == 3
    g.kill()
    g.start()
    assert counted(g, "sk_ml_service_a", 3)


def test_a_database_that_is_away_hears_of_it_later(gate, worker):
    """Deltas wait in memory while somebody holds the database; requests are not held up; then they are there, once."""
    g = gate(models=[model("m", worker())], env={"CHAPKIT_API_KEYS": SERVICE_A}, toml={**FREE, "store": {"usage_flush_s": 1}})
    chat(g, SERVICE_A)
    counted(g, "sk_ml_service_a", 1)
    db = sqlite3.connect(g.dir / "data/tollgate.db", isolation_level=None, timeout=10)
    db.execute("BEGIN IMMEDIATE")
    chat(g, SERVICE_A, 3)
    g.wait_log(lambda r: r["event"] == "store.usage_waits", 10 * SLOW)
    chat(g, SERVICE_A)
    assert g.client(ADMIN).get(USAGE).status_code == 503
    db.execute("ROLLBACK")
    db.close()
    until(lambda: g.client(ADMIN).get(USAGE).status_code == 200, 10 * SLOW, "the database being back", 0.2)
    assert counted(g, "sk_ml_service_a", 5)["prompt_tokens"] == 35


def test_days_that_are_over_are_forgotten(gate, worker):
    """[store] usage_days: rows of older days go, and who has none left."""
    g = gate(models=[model("m", worker())], env={"CHAPKIT_API_KEYS": SERVICE_A}, toml={**FREE, "store": {"usage_days": 2}})
    chat(g, SERVICE_A)
    counted(g, "sk_ml_service_a", 1)
    with sqlite3.connect(g.dir / "data/tollgate.db", timeout=10) as db:
        day = int(time.time()) // 86400
        db.executemany("INSERT INTO usage VALUES (?, ?, 7, 0, 0, 0, 0, 0, 0, 0, 0)", [(day - 1, "key_old"), (day - 2, "key_old"), (day - 3, "key_older")])
        db.execute("INSERT INTO usage_principals VALUES ('key_older', 'gone', 'gone', '', '')")
    chat(g, SERVICE_A)
    counted(g, "sk_ml_service_a", 2)
    old = {r["principal"]: r["requests"] for r in usage(g, **{"from": "2020-01-01"})["usage"]}
    assert old["key_old"] == 7 and "key_older" not in old
    with sqlite3.connect(g.dir / "data/tollgate.db", timeout=10) as db:
        assert not db.execute("SELECT 1 FROM usage_principals WHERE principal = 'key_older'").fetchall()


def test_nothing_is_counted_where_nobody_wants_it(gate, worker):
    """usage_days = 0, and a gate without a database: 503 with the reason, and no file is made for it."""
    for store in ({"usage_days": 0}, {"url": ""}):
        g = gate(models=[model("m", worker())], toml={**FREE, "store": store})
        chat(g, READ)
        r = g.client(ADMIN).get(USAGE)
        assert r.status_code == 503 and "usage_days" in r.json()["message"]
        g.stop()
        assert not (g.dir / "data/tollgate.db").exists()


def test_the_command_line_tells_the_same(g):
    """`tollgate usage`: the database's words, as a table and as JSON, by principal and by day."""
    chat(g, SERVICE_A, 2)
    chat(g, SERVICE_B)
    a = counted(g, "sk_ml_service_a", 2)
    counted(g, "sk_ml_service_b", 1)
    g.stop()
    out = json.loads(run_cli("usage", "--json", cwd=g.dir).stdout)
    assert next(r for r in out["usage"] if r["principal"] == a["principal"]) == a and out["currency"] == "EUR" and out["to"] == today()
    days = json.loads(run_cli("usage", "--json", "--by", "day", "--principal", a["principal"], "--from", today(-3), cwd=g.dir).stdout)
    assert [(d["day"], d["requests"]) for d in days["usage"]] == [(today(), 2)] and days["total"]["requests"] == 2 and days["from"] == today(-3)
    table = run_cli("usage", cwd=g.dir).stdout
    assert "sk_ml_service_a" in table and a["principal"] in table and "0.0000271" in table and "EUR" in table and SERVICE_A not in table
    for args in (["--from", "soon"], ["--by", "week"], ["--from", today(1)], ["--nonsense"], ["--from"]):
        p = run_cli("usage", *args, cwd=g.dir)
        assert p.returncode == 2 and p.stderr, args
    assert run_cli("usage", "--help", cwd=g.dir).returncode == 0


@pytest.mark.parametrize("value,why", [("0.0000001", "six places"), ("-1", "six places"), ("1e3", "six places"), ("1,5", "six places"), (".5", "six places"), ("1.", "six places"),
                                       ("", "six places"), ("1000.000001", "from 0 to 1000"), (0.5, "in quotes"), (-1, "six places"), (True, "in quotes"), (1001, "from 0 to 1000")])
def test_prices_that_are_none(gate, value, why):
    """A price is a decimal in quotes, exact to six places; whatever else stops the start with its place."""
    g = gate(toml={"prices": {"train": value}}, start=False)
    p = run_cli("config", "check", cwd=g.dir)
    assert p.returncode == 2 and why in p.stderr and "[prices] train" in p.stderr, p.stderr


def test_prices_as_they_are_shown(gate):
    g = gate(toml={"prices": {"train": "42.50", "predict": 3, "train_row": "0.000001"}}, start=False)
    shown = run_cli("config", "show", cwd=g.dir).stdout
    assert 'train = "42.5"' in shown and 'predict = "3"' in shown and 'train_row = "0.000001"' in shown and 'predict_row = "0"' in shown
