"""
Document 003's session of training and prediction, line by line, and what bad input gets (seed ledger S3-26, S3-40, S3-48, S3-51 to S3-62, S3-66 to S3-74, S3-76, S3-79, S3-82, S3-85, S4-61, S4-62, S4-64 to
S4-67).
"""
import json
import re
import sqlite3
import threading

import pytest
from lib.gate import ADMIN
from lib.ml import FRAME, FUTURE, GOLDEN, NOTHING, PREDICT_KEY, TRAIN_KEY, config, ended, ml_gate, predict, spool, train, trained
from lib.raw import SLOW, until

ULID = re.compile(r"^[0-7][0-9A-HJKMNP-TV-Z]{25}$")
TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")
CONFIG = "01K7CXYHJ7BR4E87VVTG8FNBMA"


@pytest.fixture(scope="module")
def g(module_gate):
    return ml_gate(module_gate)


@pytest.fixture(scope="module")
def c(g):
    return g.client(TRAIN_KEY)


@pytest.fixture(scope="module")
def cid(c):
    return config(c)


def near(got, want, tolerance=1e-6):
    return len(got) == len(want) and all(abs(a - b) <= tolerance for a, b in zip(got, want))


def audit(g):
    p = g.dir / "logs/audit.jsonl"
    return [json.loads(x) for x in p.read_text().splitlines()] if p.exists() else []


def test_the_session(gate):
    """S3-26 to S3-28, S3-75: all ten steps with the document's own curl lines."""
    g = ml_gate(gate)
    url, js = g.url, ["-H", "Content-Type: application/json"]

    def curl(*args):
        status, headers, body = g.curl(*args)
        return status, json.loads(body)
    # 1
    status, body = curl(f"{url}/health")
    assert status == 200 and body["status"] == "healthy" and body["checks"]["database"] == "healthy"
    # 2
    status, body = curl(f"{url}/api/v1/configs")
    assert status == 401 and body["type"] == "urn:chapkit:error:unauthorized" and body["detail"] == "Missing authentication header: X-API-Key"
    # 3
    status, body = curl("-H", f"X-API-Key: {TRAIN_KEY}", f"{url}/api/v1/system")
    assert status == 200 and all(k in body for k in ("current_time", "timezone", "python_version", "platform", "hostname"))
    # 4, twice: the guide can be run again (S3-40)
    for want in (201, 200):
        status, body = curl("-X", "POST", f"{url}/api/v1/configs", "-H", f"X-API-Key: {TRAIN_KEY}", *js, "-d", f'''{{
    "id": "{CONFIG}",
    "name": "secure_disease_model",
    "data": {{}}
  }}''')
        assert status == want and body["id"] == CONFIG and TIME.match(body["created_at"])
    # 5
    status, first = curl("-X", "POST", f"{url}/api/v1/ml/$train", "-H", f"X-API-Key: {TRAIN_KEY}", *js, "-d", f'''{{
    "config_id": "{CONFIG}",
    "data": {{
      "columns": ["rainfall", "mean_temperature", "disease_cases"],
      "data": [
        [100.5, 25.3, 12],
        [85.2, 27.1, 8],
        [120.8, 24.5, 15],
        [95.3, 26.2, 10],
        [110.0, 26.0, 13],
        [75.5, 28.0, 6],
        [130.2, 23.8, 18],
        [88.9, 27.5, 9]
      ]
    }}
  }}''')
    assert status == 202 and set(first) == {"job_id", "model_artifact_id", "status", "message"}
    assert first["status"] == "pending" and first["message"] == "Training job submitted"
    assert ULID.match(first["job_id"]) and ULID.match(first["model_artifact_id"]) and len({CONFIG, first["job_id"], first["model_artifact_id"]}) == 3  # S3-59
    # 6
    job = ended(g.client(TRAIN_KEY), first["job_id"])
    status, again = curl("-H", f"X-API-Key: {TRAIN_KEY}", f"{url}/api/v1/jobs/{first['job_id']}")
    assert status == 200 and again == job and job["status"] == "completed" and job["result"] == "Training completed successfully"
    # 7
    status, model = curl("-H", f"X-API-Key: {TRAIN_KEY}", f"{url}/api/v1/artifacts/{first['model_artifact_id']}")
    assert status == 200 and model["parent_id"] is None and model["level"] == 0
    data = model["data"]
    assert data["model_type"] == "sklearn.linear_model.LinearRegression" and data["engine"] == "tollgate-engine" and data["ml_type"] == "trained_model"
    assert data["config_id"] == CONFIG and data["method"] == "linear_regression" and data["target"] == "disease_cases" and data["features"] == ["rainfall", "mean_temperature"]
    assert TIME.match(data["trained_at"]) and data["model_size_bytes"] > 0 and data["duration_seconds"] >= 0 and data["metrics"]["r2"] > 0.9
    # S3-52: both were made when it was asked for, and were last changed when the job ended
    assert model["created_at"] == job["created_at"] and model["updated_at"] == job["updated_at"]
    # 8: with the other key (S3-69)
    status, second = curl("-X", "POST", f"{url}/api/v1/ml/$predict", "-H", f"X-API-Key: {PREDICT_KEY}", *js, "-d", f'''{{
    "model_artifact_id": "{first['model_artifact_id']}",
    "historic": {{
      "columns": ["rainfall", "mean_temperature"],
      "data": []
    }},
    "future": {{
      "columns": ["rainfall", "mean_temperature"],
      "data": [
        [110.0, 26.0],
        [90.0, 28.0],
        [125.0, 24.0],
        [80.0, 29.0]
      ]
    }}
  }}''')
    assert status == 202 and set(second) == {"job_id", "prediction_artifact_id", "status", "message"}
    assert second["status"] == "pending" and second["message"] == "Prediction job submitted"
    # 9
    job = ended(g.client(PREDICT_KEY), second["job_id"])
    assert job["status"] == "completed" and job["result"] == "Prediction completed successfully"
    # 10
    status, _, text = g.curl("-H", f"X-API-Key: {PREDICT_KEY}", f"{url}/api/v1/artifacts/{second['prediction_artifact_id']}")
    body = json.loads(text)
    frame = body["data"]["predictions"]
    assert status == 200 and body["parent_id"] == first["model_artifact_id"] and body["level"] == 1
    assert frame["columns"] == ["rainfall", "mean_temperature", "sample_0"] and [r[:2] for r in frame["data"]] == FUTURE["data"]
    assert near([r[2] for r in frame["data"]], GOLDEN), frame  # S3-55
    assert re.search(r"\[\s*110\.0,\s*26\.0,", text), text  # S3-72: as they were sent
    # what the log has of it: S3-73, S3-74, S3-76, S3-79
    text = (g.dir / "logs/app.log").read_text()
    assert "sk_ml_train" in text and TRAIN_KEY not in text
    ops = {r["operation"]: r for r in g.log() if r["event"] == "ml_operation"}
    assert set(ops) == {"train", "predict"} and ops["train"]["key_prefix"] == "sk_ml_tra" and ops["train"]["rows"] == 8 and ops["predict"]["rows"] == 4
    assert ops["train"]["key_label"] == "sk_ml_train" and isinstance(ops["train"]["cost_estimate"], (int, float))
    # and the audit trail: S4-61, S4-62, S4-64 to S4-67
    want = {"training_started", "training_completed", "model_persisted", "model_loaded", "prediction_made"}
    until(lambda: want <= {e["event"] for e in audit(g)}, 3 * SLOW, "the audit events")
    by = {e["event"]: e for e in audit(g)}
    assert by["training_started"]["config"]["config_id"] == CONFIG and len(by["training_started"]["dataset_hash"]) == 64
    assert by["training_completed"]["model_id"] == by["model_persisted"]["model_id"] == by["model_loaded"]["model_id"] == by["prediction_made"]["model_id"] == first["model_artifact_id"]
    assert by["prediction_made"]["n_samples"] == 4 and by["model_persisted"]["path"].endswith(first["model_artifact_id"] + ".tgm") and by["training_completed"]["metrics"]["r2"] > 0.9
    assert by["training_started"]["request_id"] == by["training_completed"]["request_id"] == ops["train"]["request_id"]
    assert not spool(g)


def test_the_dollar_may_be_escaped(c, cid):
    """S3-56, C-42."""
    r = c.post("/api/v1/ml/%24train", json={"config_id": cid.lower(), "data": FRAME})
    assert r.status_code == 202 and ended(c, r.json()["job_id"])["status"] == "completed"
    r = c.post("/api/v1/ml/%24predict", json={"artifact_id": r.json()["model_artifact_id"], "historic": NOTHING, "future": FUTURE, "geo": {"type": "FeatureCollection", "features": []}})
    assert r.status_code == 202 and ended(c, r.json()["job_id"])["status"] == "completed"


def test_geo_may_come_along(c, cid):
    """S3-57: clients of the origin send all the members of their models; geo is optional in both bodies and used by neither."""
    for geo in (None, {"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": None, "properties": {"id": 1}}]}):
        r = train(c, cid, geo=geo)
        assert r.status_code == 202 and ended(c, r.json()["job_id"])["status"] == "completed", r.text
        r = predict(c, r.json()["model_artifact_id"], geo=geo)
        assert r.status_code == 202 and ended(c, r.json()["job_id"])["status"] == "completed", r.text


def test_the_config_chooses(c):
    """Method, target, features and seed; the names that clients look for (C-47)."""
    frame = {"columns": ["sick", "a", "b", "noise"], "data": [[i % 2, i % 2 + (i % 7) / 10, i, (i * 37) % 11] for i in range(60)]}
    for method, name in (("logistic_regression", "sklearn.linear_model.LogisticRegression"), ("xgboost", "xgboost.XGBClassifier"), ("random_forest", "xgboost.XGBRFClassifier")):
        cid = config(c, method=method, target="sick", features=["a", "noise"], seed=7, test_size=0.25)
        data = c.get(f"/api/v1/artifacts/{trained(c, cid, frame)}").json()["data"]
        assert data["model_type"] == name and data["target"] == "sick" and data["features"] == ["a", "noise"] and "accuracy" in data["metrics"], data


def test_trees_of_numbers(c):
    """The task is the target's where nobody says it; the names that clients look for, and a prediction that is a number."""
    frame = {"columns": ["a", "place", "cases"], "data": [[i % 9, "north" if i % 2 else "south", 100 + 5 * (i % 9) + 40 * (i % 2)] for i in range(90)]}
    future = {"columns": ["a", "place"], "data": [[2, "north"], [7, "south"]]}
    for method, name in (("xgboost", "xgboost.XGBRegressor"), ("random_forest", "xgboost.XGBRFRegressor")):
        for task in ({}, {"task": "regression"}):
            model = trained(c, config(c, method=method, target="cases", cv_folds=3, test_size=0.2, **task), frame)
            data = c.get(f"/api/v1/artifacts/{model}").json()["data"]
            assert data["model_type"] == name and data["task"] == "regression" and set(data["metrics"]) == {"rmse", "mae", "r2"} and data["metrics"]["r2"] > 0.9, data
        r = predict(c, model, future)
        assert r.status_code == 202 and ended(c, r.json()["job_id"])["status"] == "completed", r.text
        p = c.get(f"/api/v1/artifacts/{r.json()['prediction_artifact_id']}").json()["data"]["predictions"]
        assert p["columns"] == ["a", "place", "sample_0"] and [x[2] for x in p["data"]] == pytest.approx([150, 135], abs=8)
    two = {"columns": ["a", "y"], "data": [[i % 9, i % 9 > 4] for i in range(90)]}
    for task, says in (({}, "classification"), ({"task": "regression"}, "regression")):
        data = c.get(f"/api/v1/artifacts/{trained(c, config(c, method='xgboost', **task), two)}").json()["data"]
        assert data["task"] == says and ("roc_auc" in data["metrics"]) == (says == "classification"), data


def test_tasks_that_do_not_fit(c):
    """At once where the columns tell; else a job that has failed with a sentence."""
    texts = {"columns": ["a", "y"], "data": [[1, "x"], [2, "z"]]}
    problem(train(c, config(c, method="xgboost", task="regression"), texts), 400, "data.columns[1]", '"y"', "text", "regression needs numbers")
    for data, frame, why in (({"task": "classification"}, [[1, 1], [2, 2], [3, 3]], "The target y has more than two values; a classification is between two."),
                             ({"task": None}, [[1, 1], [2, None], [3, 3], [4, 4]], "Row 2: there is no value in the target y."),
                             ({"undersample": True}, [[1, 1], [2, 2], [3, 3]], "undersample is about classes; a regression has none.")):
        r = train(c, config(c, method="random_forest", **data), {"columns": ["a", "y"], "data": frame})
        assert r.status_code == 202 and ended(c, r.json()["job_id"])["error"] == why, r.text


def test_fifty_predictions_at_once(g, c, cid):
    """S3-85: each has an answer of its own, and the same result."""
    model, out, lock = trained(c, cid), [], threading.Lock()

    def one():
        own = g.client(PREDICT_KEY)
        r = predict(own, model)
        with lock:
            out.append((r.status_code, r.json()))
    threads = [threading.Thread(target=one) for _ in range(50)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert [s for s, _ in out] == [202] * 50 and len({b["job_id"] for _, b in out} | {b["prediction_artifact_id"] for _, b in out}) == 100
    for _, b in out:
        assert ended(c, b["job_id"])["status"] == "completed"
        rows = c.get(f"/api/v1/artifacts/{b['prediction_artifact_id']}").json()["data"]["predictions"]["data"]
        assert near([r[2] for r in rows], GOLDEN)


def test_many_rows_in_one_call(c, cid):
    """S3-82: no bound of prompts or of ordinary bodies is in the way."""
    model, n = trained(c, cid), 10000
    r = predict(c, model, {"columns": ["mean_temperature", "place", "rainfall"], "data": [[20 + i % 10, f"p{i}", 100.25] for i in range(n)]})
    assert r.status_code == 202 and ended(c, r.json()["job_id"])["status"] == "completed"
    p = c.get(f"/api/v1/artifacts/{r.json()['prediction_artifact_id']}").json()["data"]["predictions"]
    assert len(p["data"]) == n and p["columns"] == ["mean_temperature", "place", "rainfall", "sample_0"] and p["data"][7][1] == "p7" and all(isinstance(x[3], float) for x in p["data"])


def problem(r, status, *words):
    assert r.status_code == status and r.headers["content-type"] == "application/problem+json", r.text
    body = r.json()
    for w in words:
        assert w in body["detail"], body
    assert body["status"] == status and "/" not in body["detail"].replace("/api/v1", "")
    return body


@pytest.mark.parametrize("frame,words", [
    ({"columns": ["a", "y"], "data": [[1, 2], [3, 4], [5]]}, ["data.data[2]"]),
    ({"columns": ["a", "y"], "data": [[1, 2], [3, 4, 5]]}, ["data.data[1]"]),
    ({"columns": ["a", "y"], "data": [[1, 2], [{}, 4]]}, ["data.data[1][0]"]),
    ({"columns": ["a", "y"], "data": [[1, 2], [1, [4]]]}, ["data.data[1][1]"]),
    ({"columns": ["a", "a"], "data": [[1, 2]]}, ["data.columns[1]"]),
    ({"columns": ["a", 5], "data": [[1, 2]]}, ["data.columns[1]"]),
    ({"columns": [], "data": []}, ["data.columns"]),
    ({"columns": ["y"], "data": [[1], [2]]}, ["data.columns", "besides the target"]),
    ({"columns": ["a", "y"], "data": [[1, "x"], [2, "z"]]}, ["data.columns[1]", '"y"', "text"]),
    ({"columns": ["a", "y"]}, ["data.data"]),
    ({"data": [[1]]}, ["data.columns"]),
    ([1], ["data"]),
    ("text", ["data"]),
])
def test_bad_frames_are_told_at_once(g, c, cid, frame, words):
    """S3-60: by row and column, before there is a job, and nothing of it stays."""
    problem(c.post("/api/v1/ml/$train", json={"config_id": cid, "data": frame}), 400, "Validation error on ", *words)
    assert not spool(g)


@pytest.mark.parametrize("body,status,words", [
    ({"data": FRAME}, 400, ["config_id", "is required"]),
    ({"config_id": "no", "data": FRAME}, 400, ["config_id", "ULID"]),
    ({"config_id": 5, "data": FRAME}, 400, ["config_id", "string"]),
    ({"config_id": "01K7CXYHJ7BR4E87VVTG8FNZZZ", "data": FRAME}, 404, ["Entity with id 01K7CXYHJ7BR4E87VVTG8FNZZZ not found"]),
    ({"config_id": CONFIG, "data": FRAME, "speed": 1}, 400, ["speed"]),
    ({"config_id": CONFIG}, 400, ["data"]),
])
def test_bad_members_of_a_training(g, c, body, status, words):
    problem(c.post("/api/v1/ml/$train", json=body), status, *words)
    assert not spool(g)


@pytest.mark.parametrize("member,words", [
    ('"x":"a\\u0000b"', ["on x: holds a NUL"]),
    ('"x":[1,{"y":1e400}]', ["on x: holds a number out of range"]),
    ('"x":{"y":{"z":9223372036854775808}}', ["on x.y.z: holds a number out of range"]),
    ('"x":{"y":[],"v":{"a":1,"\\u0061":2}}', ["on x.v: has a member twice"]),
    ('"x\\u0000":1', ["on body: holds a NUL"]),
])
def test_members_that_only_their_reader_refuses(g, c, cid, member, words):
    """S3-60: what is the sender's is a 400 that names the member, and no fault of the engine's."""
    for path, body in (("/api/v1/ml/$train", f'{{"config_id":"{cid}",{member},"data":{json.dumps(FRAME)}}}'),
                       ("/api/v1/ml/$predict", f'{{"model_artifact_id":"{cid}",{member},"historic":{json.dumps(NOTHING)},"future":{json.dumps(FUTURE)}}}')):
        problem(c.post(path, content=body, headers={"Content-Type": "application/json"}), 400, "Validation error ", *words)
    r = c.post("/train", content=f'{{{member},"data":{json.dumps(FRAME)}}}', headers={"Content-Type": "application/json"})
    assert r.status_code == 400 and words[0] in r.json()["message"], r.text
    assert not spool(g)


def test_what_is_no_body(c, cid):
    post = c.build_request
    for headers, content, status in (({"Content-Type": "text/plain"}, b"{}", 415), ({}, b"{}", 415), ({"Content-Type": "application/json"}, b"", 400),
                                     ({"Content-Type": "application/json"}, b"{", 400), ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, b"{}", 415)):
        r = c.send(post("POST", "/api/v1/ml/$train", headers=headers, content=content))
        assert r.status_code == status and r.headers["content-type"] == "application/problem+json", r.text


def test_a_config_that_does_not_fit(c):
    for data, words in (({"target": "zzz"}, ["data.columns", "zzz"]), ({"features": ["rainfall", "zzz"]}, ["data.columns", "zzz"]), ({"features": ["disease_cases"]}, ["features[0]", "target"])):
        problem(train(c, config(c, **data)), 400, *words)


@pytest.mark.parametrize("data,frame,words", [
    ({}, {"columns": ["a", "y"], "data": []}, ["row"]),
    ({"method": "logistic_regression"}, {"columns": ["a", "y"], "data": [[1, 1], [2, 1], [3, 1]]}, ["y"]),
    ({"method": "xgboost"}, {"columns": ["a", "y"], "data": [[1, 1], [2, 1], [3, 1]]}, ["y"]),
    ({"method": "xgboost", "task": "classification"}, {"columns": ["a", "y"], "data": [[1, 1], [2, 2], [3, 3]]}, ["y"]),
])
def test_what_cannot_be_learned_is_a_failed_job(g, c, data, frame, words):
    """S3-60, S4-63: one sentence, no path and no trace; no model and no file is left."""
    r = train(c, config(c, **data), frame)
    assert r.status_code == 202, r.text
    job = ended(c, r.json()["job_id"])
    assert job["status"] == "failed" and job["error"].endswith(".") and "\n" not in job["error"] and "/" not in job["error"] and all(w in job["error"] for w in words), job
    assert c.get(f"/api/v1/artifacts/{r.json()['model_artifact_id']}").status_code == 404
    assert not list((g.dir / "artifacts/models").glob(r.json()["model_artifact_id"] + "*"))
    until(lambda: [e for e in audit(g) if e["event"] == "training_failed" and e["error"] == job["error"]], 3 * SLOW, "training_failed")


def test_bad_predictions(g, c, cid):
    """S3-71: unknown 404, no model 400, columns that are not there or hold something else 400."""
    model = trained(c, cid)
    problem(predict(c, "01K7CXYHJ7BR4E87VVTG8FNZZZ"), 404, "Entity with id 01K7CXYHJ7BR4E87VVTG8FNZZZ not found")
    problem(predict(c, "no"), 400, "model_artifact_id", "ULID")
    problem(c.post("/api/v1/ml/$predict", json={"historic": NOTHING, "future": FUTURE}), 400, "model_artifact_id", "is required")
    problem(predict(c, model, artifact_id=cid), 400, "artifact_id")
    problem(predict(c, model, {"columns": ["rainfall"], "data": [[1]]}), 400, "future.columns", "mean_temperature")
    problem(predict(c, model, {"columns": ["rainfall", "mean_temperature"], "data": [[1, "warm"]]}), 400, "future.columns[1]", "text")
    problem(predict(c, model, {"columns": ["rainfall", "mean_temperature"], "data": [[1, 2], [1]]}), 400, "future.data[1]")
    problem(predict(c, model, {"columns": ["rainfall", "mean_temperature", "sample_0"], "data": [[1, 2, 3]]}), 400, "future.columns[2]", "is called sample_0")
    problem(predict(c, model, colour="red"), 400, "colour")
    r = predict(c, model)
    assert ended(c, r.json()["job_id"])["status"] == "completed"
    problem(predict(c, r.json()["prediction_artifact_id"]), 400, "is no trained model")
    assert not spool(g)


def test_a_missing_column_is_made_of_no_other(c):
    """S3-60: not of one whose name it begins with, be it numbers or 0 and 1 in training."""
    for rows in ([[i, 3 * i + 1] for i in range(50)], [[i % 2, i] for i in range(50)]):
        m = trained(c, config(c), {"columns": ["region_size", "y"], "data": rows})
        problem(predict(c, m, {"columns": ["region"], "data": [["north"], ["size"]]}), 400, "future.columns", 'lack "region_size"')


def test_as_many_columns_as_there_may_be(c):
    """4096 names of the greatest length, escaped: the engine's answer about them is past 6 MB."""
    names = [f"{i:04d}".ljust(256, "\x01") for i in range(4096)]
    cid = config(c, features=[names[1], names[4000]])
    model = trained(c, cid, {"columns": names, "data": [[(i * (k % 7 + 1)) % 13 for k in range(4096)] for i in range(6)]})
    r = predict(c, model, {"columns": names[:4001], "data": [[1] * 4001]})
    assert r.status_code == 202, r.text
    assert ended(c, r.json()["job_id"])["status"] == "completed"


def test_what_it_costs(gate):
    """S3-18, S3-79: by the price table, in the log and on the key's account."""
    g = ml_gate(gate, toml={"prices": {"train": "42.5", "train_row": "1000", "predict": "0.25"}})
    c = g.client(TRAIN_KEY)
    model = trained(c, config(c))
    assert predict(c, model).status_code == 202
    cost = {r["operation"]: r["cost_estimate"] for r in g.log() if r["event"] == "ml_operation"}
    assert cost == {"train": 50.5, "predict": 0.25}
    used = g.client(ADMIN).get("/api/v1/usage").text
    assert '"trainings":1' in used and '"predictions":1' in used and "50.75" in used, used


def test_who_may(gate):
    """S3-12, S3-69: keys of the database are bound to what they may; the document's own may both."""
    g = ml_gate(gate)
    admin = g.client(ADMIN)
    only = {p: g.client(admin.post("/api/v1/auth/api-keys", json={"name": p, "permissions": [p]}).json()["key"]) for p in ("run_inference", "train_models")}
    assert train(only["run_inference"], CONFIG).status_code == 403 and predict(only["train_models"], CONFIG).status_code == 403
    assert train(only["train_models"], CONFIG).status_code == 404 and predict(only["run_inference"], CONFIG).status_code == 404


def test_without_an_engine(gate):
    g = ml_gate(gate, toml={"ml": {"engine": False}})
    r = train(g.client(TRAIN_KEY), CONFIG)
    assert r.status_code == 503 and int(r.headers["retry-after"]) >= 1 and r.json()["code"] == "UNAVAILABLE"


# --- what a model is -----------------------------------------------------------------------------------------------------------
TEXTS = {"columns": ["x", "paid"], "data": [[n, "Charged Off" if n < 20 else "Fully Paid"] for n in range(40)]}


def test_which_class_is_predicted_is_told(c):
    """Of two texts nobody can guess which one the yes of a prediction means: the artifact, the reply and the results name both, the one that is predicted behind the other."""
    reply = c.post("/train", json={"model_type": "logistic_regression", "target": "paid", "data": TEXTS}).json()
    classes = ["Charged Off", "Fully Paid"]
    assert reply["classes"] == c.get(f"/models/{reply['model_id']}/results").json()["classes"] == c.get(f"/api/v1/artifacts/{reply['model_id']}").json()["data"]["classes"] == classes
    for x, paid in ((0, False), (39, True)):
        [p] = c.post("/predict", json={"model_id": reply["model_id"], "data": {"columns": ["x"], "data": [[x]]}}).json()["predictions"]
        assert p["predicted_default"] is paid and (p["default_probability"] > 0.5) is paid
    numbers = c.post("/train", json={"model_type": "linear_regression", "target": "y", "data": {"columns": ["x", "y"], "data": [[n, 2 * n] for n in range(20)]}}).json()
    assert numbers["classes"] is None and c.get(f"/api/v1/artifacts/{numbers['model_id']}").json()["data"]["classes"] is None


def test_an_artifact_says_how_good_its_model_is(c):
    """With what it was measured on: the same that /models/{id}/results says."""
    model = trained(c, config(c, method="xgboost", cv_folds=3, test_size=0.2), {"columns": ["a", "b", "y"], "data": [[n % 7, n % 11, n % 2] for n in range(60)]})
    data, results = c.get(f"/api/v1/artifacts/{model}").json()["data"], c.get(f"/models/{model}/results").json()
    assert data["measured_on"] == "held_back" and data["measured_rows"] == 12 and data["training_rows"] == 48 and len(data["cv"]["roc_auc"]) == 3
    for name in ("metrics", "measured_on", "measured_rows", "training_rows", "cv", "feature_importance", "optimal_threshold"):
        assert data[name] == results[name], name
    plain = c.get(f"/api/v1/artifacts/{trained(c, config(c))}").json()["data"]
    assert plain["measured_on"] == "training" and "cv" not in plain


def test_models_and_artifacts_that_have_lost_each_other(gate):
    """As after a restore of the database: a model without its artifact can be removed, one without its files says so."""
    g = ml_gate(gate)
    c = g.client(TRAIN_KEY)
    cid = config(c)
    gone, alone, kept = trained(c, cid), trained(c, cid), trained(c, cid)
    with sqlite3.connect(g.dir / "data/tollgate.db", timeout=10) as db:
        db.execute("DELETE FROM artifacts WHERE id = ?", [alone])
    for p in (g.dir / "artifacts/models").glob(f"{gone}.*"):
        p.unlink()
    r = predict(c, gone)
    assert r.status_code == 409 and "files are missing" in r.json()["detail"], r.text
    assert c.delete(f"/api/v1/artifacts/{gone}").status_code == 204 and c.get(f"/api/v1/artifacts/{gone}").status_code == 404
    assert c.get(f"/models/{alone}").status_code == 200 and c.get(f"/api/v1/artifacts/{alone}").status_code == 404
    assert c.delete(f"/api/v1/artifacts/{alone}").status_code == 204 and c.delete(f"/api/v1/artifacts/{alone}").status_code == 404
    assert c.get(f"/models/{alone}").status_code == 404 and not list((g.dir / "artifacts/models").glob(f"{alone}*"))
    assert c.get(f"/models/{kept}").status_code == 200 and c.delete(f"/api/v1/artifacts/{CONFIG}").status_code == 404


def test_predictions_have_a_bound_that_is_told(gate):
    """What an artifact may hold, with the number."""
    g = ml_gate(gate)
    c = g.client(TRAIN_KEY, timeout=120 * SLOW)
    model = trained(c, config(c), {"columns": ["a", "y"], "data": [[n, 2 * n] for n in range(9)]})
    rows = b",".join([b"[123456789.123456]"] * 1_200_000)
    r = c.post("/api/v1/ml/$predict", content=b'{"model_artifact_id":"%s","historic":{"columns":["a"],"data":[]},"future":{"columns":["a"],"data":[%s]}}' % (model.encode(), rows),
               headers={"Content-Type": "application/json"})
    end = ended(c, r.json()["job_id"], 60)
    assert end["status"] == "failed" and "32 MiB" in end["error"] and "fewer rows" in end["error"]
