"""
Trained models of a folder, as document 004's service shows them (seed ledger S4-44 to S4-53, S4-119, C-07, C-35): GET /models/, /models/{id}, /models/{id}/results, POST /models/{id}/persist. The files are put there by hand, as a
restored backup does; that training puts them there is tested with training.
"""
import hashlib
import json
import os

import pytest

from lib.audit import events
from lib.gate import ADMIN, READ, model

REPORT = {"metrics": {"accuracy": 0.91, "roc_auc": 0.95, "confusion_matrix": {"matrix": [[9, 1], [1, 9]]}}, "optimal_threshold": 0.42, "feature_importance": [{"feature": "income", "importance": 1.0}]}
META = {"method": "logistic_regression", "model_type": "logistic_regression", "created_at": "2026-11-01T10:00:00Z", "target": "loan_status", "features": ["income"], "report": REPORT,
        "about": {"threshold": 0.42}, "created_by": "key_1", "training_config": {"model_type": "logistic_regression", "test_size": 0.2}, "training_time_seconds": 1.5}


def put(g, i, content=b"weights", **more):
    folder = g.dir / "artifacts/models"
    folder.mkdir(parents=True, exist_ok=True)
    meta = {**META, "id": i, "format": "tgm", "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content), "saved_at": "2026-11-01T10:00:01Z", **more}
    (folder / f"{i}.tgm").write_bytes(content)
    (folder / f"{i}.json").write_text(json.dumps(meta))
    return folder


@pytest.fixture(scope="module")
def g(module_gate, module_worker):
    g = module_gate(models=[model("chat", module_worker())], toml={"auth": {"guesses": "off"}})
    put(g, "01JB0000000000000000000001")
    put(g, "01JB0000000000000000000002", method="xgboost", model_type="xgboost.XGBClassifier", report={"metrics": {"r2": 1}}, about={})
    return g


def test_the_folder_is_made(gate):
    """S4-46, S4-104: with its parents, by default and where its variable says."""
    assert (gate().dir / "artifacts/models").is_dir()
    g = gate(env={"CREDIT_RISK_MODEL_STORAGE_PATH": "some/where/models"})
    assert (g.dir / "some/where/models").is_dir() and not (g.dir / "artifacts").exists()
    off = gate(toml={"ml": {"engine": False}})
    assert not (off.dir / "artifacts").exists() and off.client(READ).get("/models/").status_code == 503
    blocked = gate(files={"artifacts": "a file"})
    assert "no models can be kept" in blocked.stderr() and blocked.client(READ).get("/models/").status_code == 503
    assert blocked.client(READ).get("/v1/models").status_code == 200


def test_list_and_one(g):
    """S4-44, S4-51: the list equals the files."""
    c = g.client(READ)
    rows = c.get("/models/").json()
    assert rows[0] == {"model_id": "01JB0000000000000000000001", "model_type": "logistic_regression", "threshold": 0.42, "roc_auc": 0.95, "accuracy": 0.91, "created_at": "2026-11-01T10:00:00Z"}
    assert rows[1] == {"model_id": "01JB0000000000000000000002", "model_type": "xgboost", "threshold": None, "roc_auc": None, "accuracy": None, "created_at": "2026-11-01T10:00:00Z"}
    assert [r["model_id"] for r in rows] == sorted(p.stem for p in (g.dir / "artifacts/models").glob("*.json")) == sorted(p.stem for p in (g.dir / "artifacts/models").glob("*.tgm"))
    for r in rows:
        assert c.get("/models/" + r["model_id"]).json() == r
    assert c.head("/models/").status_code == 200


def test_results(g):
    """Origins' train reply, out of what was kept."""
    r = g.client(READ).get("/models/01JB0000000000000000000001/results").json()
    assert {k: r[k] for k in ("model_id", "model_type", "training_config", "training_time_seconds")} == {"model_id": "01JB0000000000000000000001", "model_type": "logistic_regression",
                                                                                                     "training_config": META["training_config"], "training_time_seconds": 1.5}
    assert {k: r[k] for k in REPORT} == REPORT
    folder = put(g, "plan", training_config=None, training_time_seconds=None, model_type="sklearn.linear_model.LogisticRegression", created_at=None, trained_at="2026-11-02T10:00:00Z", duration_seconds=2.5,
                 report={**REPORT, "model_id": "liar"}, plan={"method": "logistic_regression", "target": "y", "features": None, "seed": 7, "test_size": 0.3, "cv_folds": 0, "undersample": True})
    r = g.client(READ).get("/models/plan/results").json()
    assert r["model_id"] == "plan" and r["model_type"] == "logistic_regression" and r["training_time_seconds"] == 2.5 and r["created_at"] == "2026-11-02T10:00:00Z" and r["metrics"] == REPORT["metrics"]
    assert r["training_config"] == {"model_type": "logistic_regression", "test_size": 0.3, "random_state": 7, "undersample": True, "cv_folds": 0, "selected_features": None, "target": "y"}
    put(g, "bare", report=None, about=None)
    assert g.client(READ).get("/models/bare/results").status_code == g.client(READ).get("/models/bare").status_code == 200
    for n in ("plan", "bare"):
        os.remove(folder / f"{n}.json")
        os.remove(folder / f"{n}.tgm")


def test_persist(g):
    """Admin only (S0-19); says where the model is; on record; as often as one likes."""
    i = "01JB0000000000000000000001"
    for _ in range(2):
        r = g.client(ADMIN).post(f"/models/{i}/persist")
        assert r.status_code == 200 and sorted(r.json()) == ["instructions", "model_id", "path"]
        assert r.json()["model_id"] == i and r.json()["path"] == f"artifacts/models/{i}.tgm"
        e = next(e for e in events(g, "model_persisted") if e["request_id"] == r.headers["x-request-id"])
        assert e["model_id"] == i and e["path"] == f"artifacts/models/{i}.tgm"
    assert g.client(READ).post(f"/models/{i}/persist").status_code == 401
    assert g.client().post(f"/models/{i}/persist").status_code == 401
    assert g.client(ADMIN).post("/models/nobody/persist").status_code == 404


def test_what_is_not_there(g):
    """404, in document 000's family; the words of document 000 are no ids (C-07), and its own routes stay what they are."""
    c, a = g.client(READ), g.client(ADMIN)
    r = c.get("/models/nobody")
    assert r.status_code == 404 and r.json()["code"] == "MODEL_NOT_FOUND" and r.json()["detail"] == "Model not found: nobody"
    for word in ("info", "register", "set_active", "reload", "active", "pool"):
        (g.dir / "artifacts/models" / f"{word}.tgm").write_bytes(b"x")
        (g.dir / "artifacts/models" / f"{word}.json").write_text("{}")
        assert c.get(f"/models/{word}/results").status_code == 404
        assert c.get(f"/models/{word}").status_code == (200 if word == "info" else 404)
        os.remove(g.dir / "artifacts/models" / f"{word}.tgm")
        os.remove(g.dir / "artifacts/models" / f"{word}.json")
    assert "loaded" in c.get("/models/info").json() and "models" in c.get("/models").json()
    assert a.post("/models/register", json={}).status_code == 501
    assert a.post("/models/reload").status_code == 200
    assert c.get("/models/a/b/c").status_code == 404 and a.delete("/models/a").status_code in (404, 405)
    assert g.client().get("/models/nobody").status_code == 401


@pytest.mark.parametrize("path", ["/models/..", "/models/../x", "/models/%2e%2e", "/models/..%2fx", "/models/a%2fb", "/models/a%00b", "/models/a.json", "/models/a%20b", "/models/" + "a" * 65, "/models//", "/models/%c3%a9",
                                  "/models/x/results/", "/models/.lock", "/models/a%5cb"])
def test_names_stay_in_the_folder(g, path):
    """S4-52."""
    (g.dir / "artifacts/x.json").write_text("{}")
    (g.dir / "artifacts/x.tgm").write_text("x")
    out = g.raw(f"GET {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {ADMIN}\r\nConnection: close\r\n\r\n".encode())
    assert out.split()[1] in (b"404", b"400"), out


def test_half_pairs_links_and_changed_files(g):
    """S4-52, S4-53: what is no whole pair of ours is not in the list; a changed file is 409 where its bytes are asked for, and said."""
    c, a, folder = g.client(READ), g.client(ADMIN), g.dir / "artifacts/models"
    names = [r["model_id"] for r in c.get("/models/").json()]
    (folder / "half.tgm").write_bytes(b"x")
    (folder / "other.json").write_text("{}")
    (folder / "old.joblib").write_bytes(b"x")
    put(g, "link")
    os.rename(folder / "link.tgm", g.dir / "elsewhere.tgm")
    os.symlink(g.dir / "elsewhere.tgm", folder / "link.tgm")
    put(g, "badmeta")
    (folder / "badmeta.json").write_text('{"id":"badmeta"')
    assert [r["model_id"] for r in c.get("/models/").json()] == names
    assert c.get("/models/half").status_code == c.get("/models/link").status_code == 404 and c.get("/models/badmeta").status_code == 409
    put(g, "changed")
    assert a.post("/models/changed/persist").status_code == 200
    (folder / "changed.tgm").write_bytes(b"Weights")
    r = a.post("/models/changed/persist")
    assert r.status_code == 409 and "not what was saved" in r.json()["detail"] and str(g.dir) not in r.text
    assert any(x["event"] == "model.refused" and "SHA-256" in x["why"] for x in g.log())
    for n in ("half.tgm", "other.json", "old.joblib", "link.tgm", "link.json", "badmeta.tgm", "badmeta.json", "changed.tgm", "changed.json"):
        os.remove(folder / n)


def test_pages(gate):
    """A list has at most `limit` rows (100; up to 1000) and says where it goes on."""
    g = gate()
    long = "z" * 64
    for i in [f"m{n:03}" for n in range(130)] + [long]:
        put(g, i)
    c = g.client(READ)
    r = c.get("/models/")
    assert len(r.json()) == 100 and r.headers["link"] == '</models/?after=m099&limit=100>; rel="next"'
    r = c.get("/models/?after=m099&limit=100")
    assert len(r.json()) == 31 and "link" not in r.headers
    assert len(c.get("/models/?limit=1000").json()) == 131
    r = c.get("/models/?limit=1&after=m129")
    assert [x["model_id"] for x in r.json()] == [long] and "link" not in r.headers
    assert c.get("/models/?after=" + long).json() == []
    for bad in ("limit=0", "limit=1001", "limit=x", "limit=", "after=..", "after=" + "a" * 65, "limit=-1"):
        r = c.get("/models/?" + bad)
        assert r.status_code == 400 and bad.split("=")[0] in r.json()["detail"], bad
