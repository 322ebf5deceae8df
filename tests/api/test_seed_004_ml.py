"""
Document 004's /train and /predict (seed ledger S4-11 to S4-14, S4-35 to S4-45, S4-61 to S4-67, S4-73 to S4-77, S4-79, S4-116, C-15, C-16, C-40). The table is one of its kind, made here; its texts are coded as
columns, and applications name them as they are.
"""
import contextlib
import json
import os
import random
import re
import threading

import httpx
import jsonschema
import pytest
from lib.audit import events
from lib.credit import APPLICATION, KEY, KEYS, OTHER_KEY, applications, coded, credit_gate, csv, loans, predict, train, trained
from lib.gate import ADMIN
from lib.ml import FRAME, FUTURE, GOLDEN, SLOW_CONFIG, ended, engine_pids, slow_frame, spool
from lib.ml import config as ml_config
from lib.ml import trained as ml_trained
from lib.raw import SLOW, until

ULID = re.compile(r"^[0-7][0-9A-HJKMNP-TV-Z]{25}$")
TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")


@pytest.fixture(scope="module")
def g(module_gate):
    g = credit_gate(module_gate, files={"datasets/loans.csv": csv(loans()), "datasets/ragged.csv": "a,b\n1,2\n3\n", "secret.csv": "a,b\n1,2\n"})
    os.symlink(g.dir / "secret.csv", g.dir / "datasets/link.csv")
    return g


@pytest.fixture(scope="module")
def c(g):
    return g.client(KEY)


@pytest.fixture(scope="module")
def model(c):
    return trained(c)


def fault(r, field, why="", status=400, code="VALIDATION_ERROR"):
    """S4-73, S4-76: the shape of the document's errors."""
    b = r.json()
    assert r.status_code == status and b["error"] == b["code"] == code and b["message"] == b["detail"] and r.headers["content-type"] == "application/json", r.text
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", b["timestamp"]), r.text
    if code == "VALIDATION_ERROR":
        assert b["message"].startswith(f"Validation error on {field}: ") and why in b["message"], r.text
    return b["message"]


# ---- training ----

def test_train_and_predict(g, c):
    """S4-41, S4-42, S4-61, S4-62, S4-64, S4-65, S4-116: the reply as its origin has it, and what is on record of it when the reply is there."""
    r = train(c, model_type="logistic_regression", test_size=0.25, random_state=7, cv_folds=3)
    b = r.json()
    assert r.status_code == 200 and ULID.match(b["model_id"]) and b["model_type"] == "logistic_regression", r.text
    m = b["metrics"]
    assert {"accuracy", "precision", "recall", "f1_score", "roc_auc", "threshold_analysis", "roc_curve", "confusion_matrix", "calibration_curve"} <= set(m) and m["roc_auc"] > 0.8
    assert {"threshold", "sensitivity", "specificity", "youden_j", "precision", "f1_score"} <= set(m["threshold_analysis"]) and set(m["roc_curve"]) == {"fpr", "tpr", "thresholds"}
    assert sum(map(sum, m["confusion_matrix"]["matrix"])) == 75 == b["measured_rows"]
    assert 0 < b["optimal_threshold"] < 1 and set(b["feature_importance"]) == set(loans()["columns"]) - {"loan_status"} and len(b["cv"]["roc_auc"]) == 3
    assert b["training_config"] == {"model_type": "logistic_regression", "target": "loan_status", "test_size": 0.25, "random_state": 7, "cv_folds": 3, "undersample": False, "selected_features": None}
    assert b["training_time_seconds"] > 0 and TIME.match(b["created_at"])
    mine = [e for e in events(g) if e["request_id"] == r.headers["x-request-id"]]
    by = {e["event"]: e for e in mine}
    assert {"training_started", "training_completed", "model_persisted"} <= set(by) and "training_failed" not in by
    user = by["training_started"]["user"]
    assert by["training_started"]["config"] == b["training_config"] and re.fullmatch("[0-9a-f]{64}", by["training_started"]["dataset_hash"]) and user.startswith("key_")
    done = by["training_completed"]
    assert done["model_id"] == b["model_id"] and done["metrics"] == m and done["duration"] == done["duration_seconds"] > 0
    assert by["model_persisted"]["model_id"] == b["model_id"] and by["model_persisted"]["path"] == f"artifacts/models/{b['model_id']}.tgm"
    # and predictions
    r = predict(c, b["model_id"], [APPLICATION, APPLICATION | {"loan_grade": "G", "loan_int_rate": 21.5, "loan_percent_income": 0.9}])
    p = r.json()
    assert r.status_code == 200 and list(p) == ["model_id", "model_type", "threshold", "predictions", "timestamp", "total_applications", "predicted_defaults", "predicted_approvals"]
    assert p["model_id"] == b["model_id"] and p["model_type"] == "logistic_regression" and p["threshold"] == b["optimal_threshold"] and TIME.match(p["timestamp"])
    assert p["total_applications"] == 2 and p["predicted_defaults"] == sum(x["predicted_default"] for x in p["predictions"]) == 2 - p["predicted_approvals"]
    low, high = p["predictions"]
    assert list(low) == ["application", "predicted_default", "default_probability", "confidence"] and low["application"] == APPLICATION
    assert low["default_probability"] < high["default_probability"] and high["predicted_default"] is True
    for x in (low, high):
        assert x["confidence"] == pytest.approx(max(x["default_probability"], 1 - x["default_probability"])) and x["predicted_default"] == (x["default_probability"] >= p["threshold"])
    made = [e for e in events(g, "prediction_made") if e["request_id"] == r.headers["x-request-id"]]
    assert made and made[0]["model_id"] == b["model_id"] and made[0]["n_samples"] == 2 and made[0]["user"] == user
    # S3-73: the log's own event of both
    ops = [x for x in g.log(wait=0.3) if x["event"] == "ml_operation" and x.get("artifact") == b["model_id"]]
    assert [(x["operation"], x["rows"], x["user"]) for x in ops] == [("train", 300, user), ("predict", 2, user)] and ops[0]["key_prefix"] == "cr_key_4V" and "cost_estimate" in ops[0]
    assert KEY not in g.log_text() and not spool(g)


@pytest.mark.parametrize("method", ["xgboost", "random_forest"])
def test_the_other_methods(c, method):
    b = trained(c, model_type=method, cv_folds=2, undersample=True, path="/train/")
    assert b["model_type"] == method and b["metrics"]["roc_auc"] > 0.7 and b["training_config"]["undersample"] is True and b["training_rows"] < 240
    p = predict(c, b["model_id"], path="/predict/")
    assert p.status_code == 200 and p.json()["model_type"] == method and 0 <= p.json()["predictions"][0]["default_probability"] <= 1


def test_hashes_and_seeds(g, c):
    """S4-61: dataset_hash changes with the data and with nothing else; a random_state makes a training repeatable."""
    data, other = loans(), loans()
    other["data"][17][1] += 1
    out = [trained(c, data=data), trained(c, data=json.loads(json.dumps(data)), cv_folds=2), trained(c, data=other)]
    of = [next(e["dataset_hash"] for e in events(g, "training_started") if e["request_id"] == rid) for rid in
          (next(e["request_id"] for e in events(g, "training_completed") if e["model_id"] == b["model_id"]) for b in out)]
    assert of[0] == of[1] != of[2] and out[0]["metrics"] == out[1]["metrics"] and len({b["model_id"] for b in out}) == 3


def test_target_and_features(c):
    """loan_status if there is such a column, else the last; or what is named."""
    frame = {"columns": ["a", "b", "y"], "data": [[i % 7, i % 5, int(i % 7 > 3)] for i in range(60)]}
    b = trained(c, data=frame, cv_folds=2)
    assert b["training_config"]["target"] == "y" and set(b["feature_importance"]) == {"a", "b"}
    b = trained(c, data=frame, cv_folds=2, target="b", model_type="linear_regression", selected_features=["a"])
    assert b["training_config"]["target"] == "b" and set(b["feature_importance"]) == {"a"} and b["optimal_threshold"] is None and "rmse" in b["metrics"]
    # a model that predicts numbers has a prediction, and no decision
    p = c.post("/predict", json={"model_id": b["model_id"], "data": {"columns": ["a"], "data": [[1], [2]]}}).json()
    assert [list(x) for x in p["predictions"]] == [["application", "prediction"]] * 2 and p["threshold"] is None and p["predicted_defaults"] is None and p["predictions"][1]["application"] == {"a": 2}
    fault(c.post("/predict", json={"model_id": b["model_id"], "threshold": 0.5, "data": {"columns": ["a"], "data": [[1]]}}), "threshold")


@pytest.mark.parametrize("method", ["xgboost", "random_forest"])
def test_trees_of_numbers(c, method):
    """As linear regression: no threshold and no decision; the reply says what the task was, and training_config what was asked for."""
    frame = {"columns": ["a", "b", "amount"], "data": [[i % 7, i % 5, 100 + 10 * (i % 7) + i % 5] for i in range(140)]}
    b = trained(c, data=frame, model_type=method, cv_folds=3)
    assert b["task"] == "regression" and "task" not in b["training_config"] and set(b["metrics"]) == {"rmse", "mae", "r2"} and b["metrics"]["r2"] > 0.9 and b["optimal_threshold"] is None
    assert len(b["cv"]["rmse"]) == 3 and set(b["feature_importance"]) == {"a", "b"} and "coefficients" not in b and c.get(f"/models/{b['model_id']}/results").json() == b
    p = c.post("/predict", json={"model_id": b["model_id"], "data": {"columns": ["a", "b"], "data": [[1, 0], [5, 4]]}}).json()
    assert [list(x) for x in p["predictions"]] == [["application", "prediction"]] * 2 and [x["prediction"] for x in p["predictions"]] == pytest.approx([110, 154], abs=8)
    assert (p["model_type"], p["threshold"], p["predicted_defaults"], p["predicted_approvals"]) == (method, None, None, None)
    fault(c.post("/predict", json={"model_id": b["model_id"], "threshold": 0.5, "data": {"columns": ["a", "b"], "data": [[1, 1]]}}), "threshold")
    row = c.get("/models/" + b["model_id"]).json()
    assert (row["threshold"], row["roc_auc"], row["accuracy"]) == (None, None, None)
    # by CSV, and two values as numbers because somebody says so
    body = "a,y\n" + "".join(f"{i % 7},{int(i % 7 > 3)}\n" for i in range(70))
    for task in ("regression", "classification"):
        r = c.post("/train", params={"model_type": method, "cv_folds": 2, "task": task}, content=body.encode(), headers={"content-type": "text/csv"})
        assert r.status_code == 200 and r.json()["task"] == r.json()["training_config"]["task"] == task and ("rmse" in r.json()["metrics"]) == (task == "regression"), r.text


def test_tasks_that_do_not_fit(c):
    """400 that names the field, before the data where it can be; else what only the data can tell."""
    frame = {"columns": ["a", "grade", "amount"], "data": [[i, "ABC"[i % 3], i * 2.5] for i in range(30)]}
    assert "logistic_regression" in fault(train(c, data=frame, task="regression"), "task", "classification only")
    fault(train(c, data=frame, model_type="linear_regression", task="classification"), "task", "regression only")
    fault(train(c, data=frame, model_type="xgboost", task="ranking"), "task", "classification, regression")
    fault(train(c, data=frame, model_type="xgboost", task="regression", target="grade"), "target", "a regression needs numbers")
    fault(c.post("/train?model_type=xgboost&task=both", content=b"a,b\n1,2\n", headers={"content-type": "text/csv"}), "task")
    fault(c.post("/train?task=regression", content=b"a,b\n1,2\n", headers={"content-type": "text/csv"}), "task")
    for more in ({"task": "classification"}, {"target": "grade"}):
        assert "more than two values" in fault(train(c, data=frame, model_type="xgboost", **more), None, code="TRAINING_FAILED")


def test_models_are_shown(c, model):
    """S4-44: what /train made is in the list, its results are the reply; S4-67: document 003's routes see it."""
    row = c.get("/models/" + model["model_id"]).json()
    assert row == {"model_id": model["model_id"], "model_type": "logistic_regression", "threshold": model["optimal_threshold"], "roc_auc": model["metrics"]["roc_auc"],
                   "accuracy": model["metrics"]["accuracy"], "created_at": model["created_at"]}
    assert row in c.get("/models/", params={"limit": 1000}).json() and c.get(f"/models/{model['model_id']}/results").json() == model


def test_both_documents_share_their_models(module_gate, g, model):
    """S4-67: a model of /train is an artifact that $predict takes; a model of $train is in /models/ and /predict takes it."""
    c = g.client(ADMIN)
    a = c.get("/api/v1/artifacts/" + model["model_id"]).json()
    assert a["level"] == 0 and a["data"]["ml_type"] == "trained_model" and a["data"]["model_type"] == "logistic_regression" and a["data"]["target"] == "loan_status"
    frame = {"columns": list(coded(APPLICATION)), "data": [list(coded(APPLICATION).values())]}
    r = c.post("/api/v1/ml/$predict", json={"model_artifact_id": model["model_id"], "historic": {"columns": ["x"], "data": []}, "future": frame})
    assert r.status_code == 202 and ended(c, r.json()["job_id"])["status"] == "completed", r.text
    sample = c.get("/api/v1/artifacts/" + r.json()["prediction_artifact_id"]).json()["data"]["predictions"]["data"][0][-1]
    assert sample == predict(c, model["model_id"]).json()["predictions"][0]["default_probability"]
    other = ml_trained(c, ml_config(c), FRAME)
    assert other in [m["model_id"] for m in c.get("/models/", params={"limit": 1000}).json()]
    p = c.post("/predict", json={"model_id": other, "data": FUTURE})
    assert p.status_code == 200 and [x["prediction"] for x in p.json()["predictions"]] == pytest.approx(GOLDEN, abs=1e-6) and p.json()["model_type"] == "linear_regression"
    loans_left = {"columns": ["rainfall"], "data": [[1.5]]}
    assert "mean_temperature" in fault(c.post("/predict", json={"model_id": other, "data": loans_left}), "data.columns", "which the model needs")


def test_applications_are_coded_as_the_data_was(c, model):
    """Texts that were columns of 0 and 1 in training: an application and its coded row are predicted the same."""
    some = list(applications(20, seed=9))
    p = predict(c, model["model_id"], some).json()["predictions"]
    rows = [coded(a) for a in some]
    data = {"columns": list(rows[0]), "data": [list(r.values()) for r in rows]}
    q = c.post("/predict", json={"model_id": model["model_id"], "data": data}).json()["predictions"]
    assert [x["default_probability"] for x in p] == [x["default_probability"] for x in q] and [x["application"] for x in p] == some and [x["application"] for x in q] == rows
    assert len({x["default_probability"] for x in p}) == 20


def test_thresholds(c, model):
    some = list(applications(10, seed=3))
    all_in, none_in = (predict(c, model["model_id"], some, threshold=t, include_probabilities=t == 1).json() for t in (0, 1))
    assert all_in["predicted_defaults"] == 10 and all_in["threshold"] == 0 and {x["default_probability"] for x in all_in["predictions"]} == {None}
    assert none_in["predicted_approvals"] == 10 and none_in["threshold"] == 1 and all(0 < x["default_probability"] < 1 for x in none_in["predictions"])


def test_csv(g, c, model):
    """A CSV body with its options in the query string makes the same model as JSON."""
    body = csv(loans()).encode()
    r = c.post("/train?model_type=logistic_regression&cv_folds=5&undersample=false&test_size=0.2&selected_features=", content=body, headers={"content-type": "text/csv"})
    fault(r, "selected_features[0]", "bytes")
    r = c.post("/train", params={"test_size": 0.2, "random_state": 42}, content=body, headers={"content-type": "text/csv; charset=utf-8"})
    assert r.status_code == 200 and r.json()["metrics"] == model["metrics"] and r.json()["training_config"] == model["training_config"], r.text
    for features in ("loan_int_rate,loan_grade_A", '["loan_int_rate","loan_grade_A"]'):
        r = c.post("/train", params={"selected_features": features}, content=body, headers={"content-type": "text/csv"})
        assert r.status_code == 200 and set(r.json()["feature_importance"]) == {"loan_int_rate", "loan_grade_A"}
    for query, field in (("cv_folds=11", "cv_folds"), ("colour=red", "colour"), ("cv_folds=3&cv_folds=4", "cv_folds"), ("undersample=maybe", "undersample"), ("target=%ff", "target"), ("target", "target"),
                         ("dataset=loans.csv", "dataset"), ("target=zzz", "target"), ("test_size=0.9", "test_size"), ("selected_features=a,%ff", "selected_features"), ("selected_features=[1", "selected_features")):
        fault(c.post("/train?" + query, content=body, headers={"content-type": "text/csv"}), field)
    fault(c.post("/train", content=b"a,b\n1,2\n3\n", headers={"content-type": "text/csv"}), "row 3")
    r = c.post("/train", content=body, headers={"content-type": "text/plain"})
    assert r.status_code == 415 and r.json()["error"] == "UNSUPPORTED_MEDIA_TYPE"


def test_datasets(g, c, model):
    """By name, out of one folder and nothing else."""
    b = trained(c, dataset="loans.csv")
    assert b["metrics"] == model["metrics"] and b["training_config"] == model["training_config"] | {"dataset": "loans.csv"}
    hashes = {e["dataset_hash"] for e in events(g, "training_started") if e["config"].get("model_type") == "logistic_regression" and e["config"]["selected_features"] is None and e["config"]["target"] == "loan_status"
              and e["config"]["cv_folds"] == 5 and e["config"]["test_size"] == 0.2}
    assert hashes, "the same data has the same hash, wherever it came from"
    for name in ("../secret.csv", "/etc/passwd", str(g.dir / "secret.csv"), "link.csv", "none.csv", ".hidden", "", "a/b.csv", "x" * 300, 7, "a\nb"):
        text = fault(train(c, dataset=name), "dataset")
        assert "secret" not in text and "/etc" not in text and str(g.dir) not in text
    assert "row 3" in fault(train(c, dataset="ragged.csv"), "dataset")
    fault(train(c, dataset="loans.csv", data=loans(20)), "dataset", "together with data")
    fault(c.post("/train", json={"model_type": "xgboost"}), "data", "is required, or dataset")


def test_cells_of_csv(g, c):
    """One cell never turns a column of numbers into texts: it is a number as pandas reads them, or missing, or at fault; as a body, by form and as a data set."""
    rnd = random.Random(4)
    rows = [f"{rnd.random() + i % 2:.6f},{i % 2}" for i in range(200)]

    def sent(cell):
        body = "\n".join(["a,y", *rows[:100], f"{cell},1", *rows[100:]])
        (g.dir / "datasets/cells.csv").write_text(body)
        yield c.post("/train?cv_folds=2", content=body.encode(), headers={"content-type": "text/csv"})
        yield c.post("/train", data={"cv_folds": "2"}, files={"file": ("cells.csv", body.encode(), "text/csv")})
        yield train(c, dataset="cells.csv", cv_folds=2)
    want = {r.json()["metrics"]["roc_auc"] for r in sent("1.5")}
    assert len(want) == 1 and want.pop() > 0.95
    for cell in ("NA", "", "nan", "+1.5", ".5", "5.", " 2", "007", "1E0"):
        for r in sent(cell):
            assert r.status_code == 200 and r.json()["metrics"]["roc_auc"] > 0.95 and list(r.json()["feature_importance"]) == ["a"], (cell, r.text)
    for cell, why in (("typo", "is text, but row 2 of this column is a number"), ("-inf", "is text"), ("1e999", "must be a finite number"), ("1;5", "is text")):
        for r in sent(cell):
            assert "row 102, column a" in r.json()["message"] and why in r.json()["message"] and r.json()["error"] == "VALIDATION_ERROR" and r.status_code == 400, (cell, r.text)


# ---- asking for it later ----

def test_respond_async(g, c):
    """RFC 7240: 202 with the job to look at; the model is there when that has ended."""
    r = train(c, headers={"Prefer": "respond-async"})
    job = r.json()
    assert r.status_code == 202 and r.headers["preference-applied"] == "respond-async" and r.headers["location"] == f"/api/v1/jobs/{job['id']}", r.text
    assert job["kind"] == "credit_train" and job["status"] == "pending" and ULID.match(job["artifact_id"])
    done = ended(c, job["id"])
    assert done["status"] == "completed" and done["artifact_id"] == job["artifact_id"]
    assert c.get(f"/models/{job['artifact_id']}/results").json()["training_config"]["target"] == "loan_status" and predict(c, job["artifact_id"]).status_code == 200
    # it may wait a while first
    for prefer in ("handling=lenient, respond-async; x=1, wait=60", "RESPOND-ASYNC,wait=99999"):
        assert train(c, headers={"Prefer": prefer}).status_code == 200
    assert train(c, headers={"Prefer": "respond-async, wait=soon"}).status_code == 202
    assert train(c, headers={"Prefer": "wait=0"}).status_code == 200
    r = train(c, headers={"Prefer": "respond-async"}, target="no")
    fault(r, "target")


def slow(c, **kw):
    return c.post("/train", json={"model_type": SLOW_CONFIG["method"], "cv_folds": SLOW_CONFIG["cv_folds"], "data": slow_frame()}, timeout=60 * SLOW, **kw)


def test_who_waits_and_who_leaves(g, c):
    """A job that is deleted ends its request; a training goes on when its client has left; a long one is answered by its job."""
    got, before = [], {j["id"] for j in c.get("/api/v1/jobs").json()}
    t = threading.Thread(target=lambda: got.append(slow(g.client(KEY))))
    t.start()
    until(lambda: [j for j in c.get("/api/v1/jobs").json() if j["id"] not in before and j["status"] == "running"], 20 * SLOW, "the training")
    job = next(j["id"] for j in c.get("/api/v1/jobs").json() if j["id"] not in before)
    assert c.delete(f"/api/v1/jobs/{job}").status_code == 204
    t.join(20 * SLOW)
    assert got and fault(got[0], None, code="TRAINING_FAILED") == "Training failed: The job was canceled."
    r = slow(c, headers={"Prefer": "respond-async, wait=1"})
    assert r.status_code == 202 and r.json()["status"] == "running" and r.headers["location"].endswith(r.json()["id"])
    assert c.delete(r.headers["location"]).status_code == 204
    body = json.dumps({"data": loans(), "cv_folds": 10}).encode()
    before = {j["id"] for j in c.get("/api/v1/jobs").json()}
    s = g.connect()
    s.sendall(b"POST /train HTTP/1.1\r\nHost: x\r\nAuthorization: " + KEY.encode() + b"\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    until(lambda: {j["id"] for j in c.get("/api/v1/jobs").json()} - before, 20 * SLOW, "the job")
    s.close()
    (job,) = {j["id"] for j in c.get("/api/v1/jobs").json()} - before
    assert ended(c, job)["status"] == "completed"
    until(lambda: not spool(g), 5 * SLOW, "an empty spool")


def test_a_stop_answers_who_waits(gate):
    """The gate ends in the middle of a training: its client has the job, which goes on after the restart."""
    g, got = credit_gate(gate), []
    c = g.client(KEY)
    mine = httpx.Client(base_url=g.url, headers={"Authorization": KEY}, trust_env=False)  # g.stop() closes its own
    t = threading.Thread(target=lambda: got.append(slow(mine)))
    t.start()
    until(lambda: [j for j in c.get("/api/v1/jobs").json() if j["status"] == "running"], 20 * SLOW, "the training")
    g.stop()
    t.join(20 * SLOW)
    mine.close()
    assert got and got[0].status_code == 202 and got[0].json()["status"] in ("pending", "running"), got[0].text
    g.start()
    c, job = g.client(KEY), got[0].json()["id"]
    until(lambda: c.get(f"/api/v1/jobs/{job}").json()["status"] == "running", 20 * SLOW, "the training")
    assert c.delete(f"/api/v1/jobs/{job}").status_code == 204


def test_models_survive_a_restart(gate):
    """S4-45, S4-66: train, restart, predict; the model is loaded once, and that is on record. A file that is not what was saved is not used."""
    g = credit_gate(gate)
    m = trained(g.client(KEY))["model_id"]
    first = predict(g.client(KEY), m).json()["predictions"]
    g.stop()
    g.start()
    before = len(events(g, "model_loaded"))
    for _ in range(2):
        r = predict(g.client(KEY), m)
        assert r.status_code == 200 and r.json()["predictions"] == first
    loaded = events(g, "model_loaded")[before:]
    assert [e["model_id"] for e in loaded] == [m]
    with open(g.dir / f"artifacts/models/{m}.tgm", "r+b") as f:
        f.seek(100)
        byte = f.read(1)
        f.seek(100)
        f.write(bytes([byte[0] ^ 1]))
    r = predict(g.client(KEY), m)
    assert r.status_code == 500 and r.json()["error"] == "INTERNAL_ERROR" and "tgm" not in r.text and str(g.dir) not in r.text
    assert g.wait_log(lambda x: x["event"] == "model.refused" and x["model_id"] == m)


# ---- what cannot be done ----

def test_trainings_that_fail(g, c):
    """S4-63, S4-75, S4-79: 400 TRAINING_FAILED with one sentence, a failed job, training_failed on record."""
    columns = ["a", "y"]
    for data, said in (([[i, 1] for i in range(50)], "one value"), ([], "row"), ([[i, i % 3] for i in range(60)], "y"), ([[i, int(i == 3)] for i in range(60)], "")):
        r = train(c, data={"columns": columns, "data": data})
        text = fault(r, None, code="TRAINING_FAILED")
        assert re.fullmatch(r"Training failed: [A-Z][^/\n]*\.", text) and said in text, text
        job = next(j for j in reversed(c.get("/api/v1/jobs").json()) if j["kind"] == "credit_train")
        assert job["status"] == "failed" and text == "Training failed: " + job["error"]
        mine = {e["event"]: e for e in events(g) if e["request_id"] == r.headers["x-request-id"]}
        assert mine["training_failed"]["error"] == job["error"] and mine["training_failed"]["config"]["target"] == "y" and "training_completed" not in mine
        assert c.get("/models/" + job["artifact_id"]).status_code == 404
    assert not spool(g)


def shape(v):
    return {k: shape(x) for k, x in v.items()} if isinstance(v, dict) else [shape(v[0])] if isinstance(v, list) and v else None


def test_the_description_is_what_happens(g, c):
    """S4-81, S4-82: the documented requests, sent, have the documented answers; what the schema refuses is refused."""
    doc, model = g.external().get("/openapi.json").json()["paths"], None
    for path in ("/train", "/train/", "/predict", "/predict/"):
        media = doc[path]["post"]["requestBody"]["content"]["application/json"]
        body = media["example"] | ({"model_id": model} if model else {})
        jsonschema.validate(body, media["schema"])
        r = c.post(path, json=body)
        want = doc[path]["post"]["responses"]["200"]["content"]["application/json"]["example"]
        if model is None or path == "/train/":
            assert r.status_code == 200 and shape({k: v for k, v in r.json().items() if k != "feature_importance"}) == shape({k: v for k, v in want.items() if k != "feature_importance"}), r.text
            model = trained(c)["model_id"] if path == "/train/" else None
        else:
            assert r.status_code == 200 and shape(r.json()) == shape(want), r.text
    r = c.post("/train", json=doc["/train"]["post"]["requestBody"]["content"]["application/json"]["example"], headers={"Prefer": "respond-async"})
    assert set(r.json()) == set(doc["/train"]["post"]["responses"]["202"]["content"]["application/json"]["example"])
    schema = doc["/train"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    for more in ({"cv_folds": 1}, {"test_size": 0.6}, {"model_type": "svm"}, {"undersample": "no"}, {"selected_features": ["a", "a"]}, {"random_state": -1}, {"nobody": 1}, {"target": ""}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(more, schema)
        assert train(c, **{"data": loans(20), **more}).status_code == 400
    assert {p["name"] for p in doc["/train"]["post"]["parameters"] if p["in"] == "query"} == set(schema["properties"]) - {"data", "dataset"}
    schema = doc["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    for field, value in (("person_age", 17), ("person_income", 0), ("loan_grade", "H"), ("loan_percent_income", 2)):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"model_id": "x", "applications": [APPLICATION | {field: value}]}, schema)
    jsonschema.validate({"model_id": "x", "applications": [APPLICATION]}, schema)


def test_options_are_checked(g, c):
    """S4-76, C-15: each by its row of tables/credit.def, at once and without a job."""
    before = len(c.get("/api/v1/jobs").json())
    for more, field, why in (({"model_type": "svm"}, "model_type", "logistic_regression"), ({"model_type": 3}, "model_type", ""), ({"test_size": 0.05}, "test_size", "from 0.1 to 0.5"), ({"test_size": "x"}, "test_size", ""),
                             ({"random_state": -1}, "random_state", ""), ({"random_state": 1.5}, "random_state", "whole"), ({"random_state": 4294967296}, "random_state", ""), ({"cv_folds": 1}, "cv_folds", "from 2 to 10"),
                             ({"cv_folds": True}, "cv_folds", ""), ({"undersample": 1}, "undersample", "true or false"), ({"target": "zzz"}, "target", "is no column"), ({"target": ""}, "target", ""),
                             ({"target": ["a"]}, "target", ""), ({"selected_features": []}, "selected_features", ""), ({"selected_features": "loan_amnt"}, "selected_features", ""),
                             ({"selected_features": ["loan_amnt", "loan_amnt"]}, "selected_features[1]", "twice"), ({"selected_features": ["loan_amnt", "zzz"]}, "selected_features[1]", "is no column"),
                             ({"selected_features": ["loan_status"]}, "selected_features[0]", "is the target"), ({"selected_features": [1]}, "selected_features[0]", ""), ({"epochs": 3}, "epochs", "known are model_type"),
                             ({"data": {"columns": ["y"], "data": [[1]]}}, "data", "besides the target"), ({"data": {"columns": ["a", "y"], "data": [[1, 2], [3]]}}, "data.data[1]", ""),
                             ({"data": {"columns": ["a", "a"], "data": []}}, "data.columns[1]", ""), ({"data": 7}, "data", ""), ({"data": {"columns": ["a", "y"], "data": [[1, {}]]}}, "data.data[0][1]", "")):
        fault(train(c, **{"data": loans(20), **more}), field, why)
    words = {"columns": ["a", "y"], "data": [[1, "x"], [2, "z"]]}
    fault(train(c, data=words, model_type="linear_regression"), "target", "holds text")
    assert train(c, test_size=None, target=None, selected_features=None, dataset=None).status_code == 200  # null is as if it were absent
    for body in (b"", b"[]", b"{", b'{"data":1,"data":2}', b"\xff"):
        r = c.post("/train", content=body, headers={"content-type": "application/json"})
        assert r.status_code == 400 and r.json()["error"] == "VALIDATION_ERROR", r.text
    # An option in the wrong place would have no effect, and a type that is none is told all that there are.
    for query, field in (("cv_folds=3", "cv_folds"), ("&speed", "speed"), ("=1", '""')):
        fault(c.post(f"/train?{query}", json={"data": loans(20)}), field, "stands in the query string")
    for kind in ("text/plain", "application/xml", "text/csv2"):
        r = c.post("/train", content=b"a,b\n1,2\n", headers={"content-type": kind})
        assert r.status_code == 415 and all(t in r.json()["message"] for t in ("application/json", "text/csv", "multipart/form-data")), r.text
    assert len(c.get("/api/v1/jobs").json()) == before + 1 and not spool(g)


def test_predictions_are_checked(c, model):
    """S4-74, S4-76, C-16: unknown models are 400, whatever the id is; a field out of its bounds is named with its place."""
    m = model["model_id"]
    for unknown in ("01JB0000000000000000000001", "nobody", "../x", "/etc/passwd", "..", "a" * 200, "info", "é", "x\ny", m.lower()):
        assert fault(predict(c, unknown), None, code="MODEL_NOT_FOUND") == f"Model not found: {unknown.encode()[:64].decode(errors='ignore')}", unknown
    four = [APPLICATION] * 3
    for field, value in (("person_age", 17), ("person_age", 30.5), ("person_age", "x"), ("person_income", 0), ("loan_int_rate", 101), ("loan_percent_income", 1.01), ("loan_intent", "CAR"), ("loan_grade", "H"),
                         ("cb_person_default_on_file", True), ("person_emp_length", None), ("loan_amnt", -1)):
        fault(predict(c, m, [*four, APPLICATION | {field: value}]), f"applications[3].{field}", "must be")
    fault(predict(c, m, [*four, {k: v for k, v in APPLICATION.items() if k != "loan_grade"}]), "applications[3].loan_grade", "is required")
    fault(predict(c, m, [APPLICATION | {"shoe_size": 44}]), "applications[0].shoe_size", "is not known")
    fault(predict(c, m, []), "applications", "at least one")
    for more, field in (({"threshold": 1.1}, "threshold"), ({"threshold": -0.1}, "threshold"), ({"threshold": "0.5"}, "threshold"), ({"include_probabilities": 1}, "include_probabilities"), ({"speed": 1}, "speed"),
                        ({"model_id": 7}, "model_id"), ({"model_id": None}, "model_id"), ({"model_id": ""}, "model_id"), ({"model_id": "x" * 300}, "model_id")):
        fault(c.post("/predict", json={"model_id": m, "applications": [APPLICATION], **more}), field)
    fault(c.post("/predict", json={"applications": [APPLICATION]}), "model_id", "is required")
    fault(c.post("/predict", json={"model_id": m}), "applications", "is required, or data")
    fault(c.post("/predict", json={"model_id": m, "applications": [APPLICATION], "data": {"columns": ["a"], "data": [[1]]}}), "data", "together")
    row = coded(APPLICATION)
    fault(c.post("/predict", json={"model_id": m, "data": {"columns": list(row), "data": [["old", *list(row.values())[1:]]]}}), "data.columns[0]", "holds text")
    # The columns of an application in a table are a table all the same: the fault lies where the caller wrote it.
    fault(c.post("/predict", json={"model_id": m, "data": {"columns": list(APPLICATION), "data": [["old", *list(APPLICATION.values())[1:]]]}}), "data.columns[0]", "holds text")
    r = c.post("/predict", content=b"a,b\n1,2\n", headers={"content-type": "text/csv"})
    assert r.status_code == 415


def test_a_refused_prediction_is_not_billed(g, c):
    """S4-64: an answer that would be too long is a 400; no prediction was made, so none is on record and none costs."""
    name = "a" * 240
    m = trained(c, data={"columns": [name, "y"], "data": [[i, 3 * i + 1] for i in range(60)]}, model_type="linear_regression", cv_folds=2)["model_id"]

    def made():
        return [e["n_samples"] for e in events(g, "prediction_made") if e["model_id"] == m], [x["rows"] for x in g.log() if x.get("event") == "ml_operation" and x["operation"] == "predict" and x.get("artifact") == m]
    r = c.post("/predict", json={"model_id": m, "data": {"columns": [name], "data": [[i] for i in range(180000)]}}, timeout=60 * SLOW)
    fault(r, "data", "longer than 48 MiB")
    assert c.post("/predict", json={"model_id": m, "data": {"columns": [name], "data": [[1]]}}).status_code == 200
    until(lambda: made()[1] == [1], 3 * SLOW, "the one prediction in the log")
    assert made() == ([1], [1])


def test_a_model_that_applications_do_not_fit(c):
    """What an application lacks is said; so is a text where a number was learnt."""
    b = trained(c, data={"columns": ["person_age", "shoe_size", "y"], "data": [[i % 9 + 20, i % 5, int(i % 9 > 4)] for i in range(60)]}, cv_folds=2)
    fault(predict(c, b["model_id"]), "applications", 'lack "shoe_size"')
    b = trained(c, data={"columns": ["loan_grade", "y"], "data": [[i % 9, int(i % 9 > 4)] for i in range(60)]}, cv_folds=2)
    fault(predict(c, b["model_id"]), "applications", '"loan_grade" holds text')
    b = trained(c, data={"columns": ["loan_grade_A", "loan_grade_size", "y"], "data": [[i % 2, i % 5, int(i % 9 > 4)] for i in range(60)]}, cv_folds=2)
    fault(predict(c, b["model_id"]), "applications", 'lack "loan_grade_size"')  # it was more than 0 and 1: no text's code


def test_random_bodies(g, c, model):
    """S4-77, S4-79: whatever is sent, the answer is JSON of this family, no 5xx, and shows nothing of the inside."""
    rnd = random.Random(46)
    good = [json.dumps({"data": loans(12), "cv_folds": 2}).encode(), json.dumps({"model_id": model["model_id"], "applications": [APPLICATION]}).encode(), csv(loans(8)).encode()]
    types = ["application/json", "text/csv", "application/json", ""]
    for i in range(150):
        body = bytearray(rnd.choice(good))
        for _ in range(rnd.randrange(1, 8)):
            at = rnd.randrange(len(body))
            body[at:at + rnd.choice((0, 1, 1, 20))] = rnd.choice((b"", b"\x00", b"\xff", b'"', b"{", b"]", b"1e999", b"-", b",", b"\\u0000", b"\\ud800", bytes([rnd.randrange(256)])))
        path = rnd.choice(("/train", "/predict", "/train/", "/predict/", "/train?target=" + rnd.choice(("%00", "x", "%e9", "a%26b"))))
        r = c.post(path, content=bytes(body), headers={"content-type": rnd.choice(types)} if rnd.random() < 0.95 else {})
        assert r.status_code in (200, 400, 413, 415), (path, bytes(body), r.text)
        assert r.headers["content-type"] == "application/json" and (r.status_code == 200 or isinstance(r.json()["error"], str))
        assert not re.search(r"/tmp|/work|\.c:\d|sqlite|SELECT|0x[0-9a-f]{6}|spool|tgm", r.text), r.text
    until(lambda: not spool(g), 5 * SLOW, "an empty spool")


def test_without_engine_or_store(gate):
    g = credit_gate(gate, toml={"ml": {"engine": False}})
    for r in (train(g.client(KEY), data=loans(12)), predict(g.client(KEY), "x")):
        fault(r, None, status=503, code="UNAVAILABLE")
    assert g.client(KEY).get("/v1/models").status_code == 200


def test_a_lost_engine(g, c, model):
    """It is started again, and nobody is told what it was: 200, or 503 with Retry-After."""
    for pid in engine_pids(g):
        with contextlib.suppress(ProcessLookupError):  # the first one that ends takes others along
            os.kill(pid, 9)
    for _ in range(3):
        r = predict(c, model["model_id"])
        assert r.status_code == 200 or (r.status_code == 503 and int(r.headers["retry-after"]) >= 1), r.text
    until(lambda: predict(c, model["model_id"]).status_code == 200, 20 * SLOW, "the engine")


# ---- who and how often ----

def test_carriers(g, model):
    """S4-11 to S4-14 on these routes, C-03."""
    body = {"model_id": model["model_id"], "applications": [APPLICATION]}
    for headers in ({"Authorization": f"Bearer {KEY}"}, {"Authorization": KEY}, {"X-API-Key": KEY}):
        assert g.client().post("/predict", json=body, headers=headers).status_code == 200
    for path in ("/train", "/train/", "/predict", "/predict/"):
        r = g.client().post(path, json=body)
        assert r.status_code == 401 and r.json()["detail"] == "Missing API key" and r.json()["error"] == "AUTHENTICATION_FAILED"
        r = g.client().post(path, json=body, headers={"Authorization": "Bearer wrong_key_1234567890"})
        assert r.status_code == 401 and r.json()["detail"] == "Invalid API key"
        assert g.client(KEY).get(path).status_code in (404, 405)


def test_training_is_limited(gate):
    """S4-35, S4-37, S4-39, S4-40: 10 an hour, an address's keys share them, what is invalid counts; both spellings of the route are one."""
    g = gate(env=KEYS)
    for i in range(10):
        r = g.client((KEY, OTHER_KEY)[i % 2]).post(("/train", "/train/")[i % 3 == 0], json={})
        assert r.status_code == 400 and r.headers["x-ratelimit-limit"] == "10" and int(r.headers["x-ratelimit-remaining"]) == 9 - i
    for key in (KEY, OTHER_KEY):
        r = g.client(key).post("/train", json={})
        fault(r, None, status=429, code="RATE_LIMITED")
        assert 3500 < int(r.headers["retry-after"]) <= 3600 and r.headers["x-ratelimit-remaining"] == "0" and int(r.headers["x-ratelimit-reset"]) > 1e9
    assert g.external(KEY).post("/train", json={}).status_code == 400  # from another address: of KEY's own ten five are left
    assert g.client(KEY).get("/models/").status_code == 200


def test_predictions_are_limited(gate):
    """S4-36: 100 a minute."""
    c = gate(env=KEYS).client(KEY)
    for i in range(100):
        r = c.post("/predict", content=b"x")
        assert r.status_code == 415, (i, r.text)
    r = c.post("/predict", content=b"x")
    fault(r, None, status=429, code="RATE_LIMITED")
    assert 1 <= int(r.headers["retry-after"]) <= 60 and r.headers["x-ratelimit-limit"] == "100"


def test_the_limit_is_a_setting(gate):
    """S4-38."""
    c = gate(env={**KEYS, "CREDIT_RISK_TRAIN_RATE_LIMIT": "2/minute", "CREDIT_RISK_PREDICT_RATE_LIMIT": "1/second"}).client(KEY)
    assert [c.post("/train", json={}).status_code for _ in range(3)] == [400, 400, 429]
    c = gate(env={**KEYS, "CREDIT_RISK_RATE_LIMIT_ENABLED": "false"}).client(KEY)
    assert {c.post("/train", json={}).status_code for _ in range(12)} == {400}
