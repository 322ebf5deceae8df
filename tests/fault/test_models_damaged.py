"""
Models whose files are not what was stored: cut, changed by a byte, another model's, somebody else's format. A prediction with one is refused in one sentence without a path, by a gate that has never seen the
model; neither the gate nor its engine ends, and the model that was put back predicts as before. (Issue "Train and predict behind the same door": the model store; seed ledger S3-71.)
"""
import hashlib
import json
import pickle
import random

import pytest
from lib.ml import FRAME, FUTURE, TRAIN_KEY, config, ended, engine_pids, ml_gate, predict, spool, train, trained
from lib.raw import SLOW, until

BYTES = 25  # bytes of a model that are changed, one at a time


def wide(n=400):
    rnd = random.Random(3)
    return {"columns": ["a", "b", "place", "y"], "data": [[rnd.random(), rnd.random(), f"place {i % 40}", i % 2] for i in range(n)]}


WIDE_FUTURE = {"columns": ["a", "b", "place"], "data": [[0.5, 0.25, "place 7"], [0.1, 0.9, "nowhere"]]}
MODELS = {"linear": ({}, FRAME, FUTURE), "forest": ({"method": "random_forest"}, wide(), WIDE_FUTURE), "numbers": ({"method": "xgboost", "task": "regression"}, wide(), WIDE_FUTURE)}


class Stored:
    """A gate that has trained a model of each kind and was started anew since: it knows nothing of the files."""

    def __init__(self, gate):
        self.g = ml_gate(gate, toml={"ml": {"predict_jobs": 4}})
        c = self.g.client(TRAIN_KEY)
        self.ids = {name: trained(c, config(c, **cfg), frame) for name, (cfg, frame, _) in MODELS.items()}
        self.files = {p: p.read_bytes() for i in self.ids.values() for p in (self.file(i), self.file(i, "json"))}
        self.predicted = {name: self.predict(c, name) for name in MODELS}
        self.g.stop()
        self.g.start()
        self.c = self.g.client(TRAIN_KEY)
        # The engine runs, and has loaded nothing.
        assert train(self.c, config(self.c), {"columns": ["x"], "data": [[1]]}).status_code == 400
        self.pids = engine_pids(self.g)
        assert len(self.pids) == 2

    def file(self, id, ext="tgm"):
        return self.g.dir / f"artifacts/models/{id}.{ext}"

    def predict(self, c, name):
        r = predict(c, self.ids[name], MODELS[name][2])
        assert r.status_code == 202, r.text
        job = ended(c, r.json()["job_id"])
        assert job["status"] == "completed", job
        return c.get(f"/api/v1/artifacts/{r.json()['prediction_artifact_id']}").json()["data"]["predictions"]

    def lives(self):
        assert self.g.alive() and engine_pids(self.g) == self.pids, "a process has ended"

    def restore(self):
        for p, data in self.files.items():
            p.write_bytes(data)

    def refused(self, name, at_once=None):
        """By a failed job; or, where that shows in the metadata or there is no pair, before there is one: with that status."""
        r = predict(self.c, self.ids[name], MODELS[name][2])
        if at_once:
            assert r.status_code == at_once and r.headers["content-type"] == "application/problem+json", r.text
            words = r.json()["detail"]
        else:
            assert r.status_code == 202, r.text
            job = ended(self.c, r.json()["job_id"])
            assert job["status"] == "failed" and job["error"].endswith(".") and ". " not in job["error"], job
            words = job["error"]
            assert self.c.get(f"/api/v1/artifacts/{r.json()['prediction_artifact_id']}").status_code == 404
        assert "/" not in words.replace("/api/v1", "") and "\n" not in words and str(self.g.dir) not in words, words
        return words


@pytest.fixture(scope="module")
def stored(module_gate):
    return Stored(module_gate)


@pytest.fixture
def s(stored):
    yield stored
    stored.lives()
    stored.restore()
    for name in MODELS:
        assert stored.predict(stored.c, name) == stored.predicted[name], "put back it predicts otherwise"
    until(lambda: not spool(stored.g), 5 * SLOW, "the spool being empty")


def cuts(data):
    return [*range(0, len(data), 1024), 1, 7, len(data) - 1]


def changed(data, at, bit):
    return data[:at] + bytes([data[at] ^ bit]) + data[at + 1:]


@pytest.mark.parametrize("name", MODELS)
def test_cut_at_every_kibibyte(s, name):
    path = s.file(s.ids[name])
    whole = s.files[path]
    for n in cuts(whole):
        path.write_bytes(whole[:n])
        s.refused(name)
        s.lives()


@pytest.mark.parametrize("name", MODELS)
def test_one_byte_changed(s, name):
    path, rnd = s.file(s.ids[name]), random.Random(11)
    whole = s.files[path]
    for at in [0, len(whole) - 1, *(rnd.randrange(len(whole)) for _ in range(BYTES))]:
        path.write_bytes(changed(whole, at, 1 << rnd.randrange(8)))
        s.refused(name)
    s.lives()


@pytest.mark.parametrize("name", MODELS)
def test_damaged_and_its_metadata_made_to_fit(s, name):
    """Its digest is right then, and the engine's own checks are what is left: refused all the same, or read as what it says it is; never an end of the engine."""
    path, meta, rnd = s.file(s.ids[name]), s.file(s.ids[name], "json"), random.Random(12)
    whole, known = s.files[path], json.loads(s.files[meta])
    bad = [whole[:n] for n in cuts(whole)] + [changed(whole, rnd.randrange(len(whole)), 1 << rnd.randrange(8)) for _ in range(BYTES)]
    said = set()
    for data in [*bad, whole + whole, b"\0" * len(whole), pickle.dumps({"coef": [1.0]}), b""]:
        path.write_bytes(data)
        meta.write_text(json.dumps({**known, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}))
        said.add(s.refused(name))
        s.lives()
    assert said and not any("digest" in w or "SHA" in w for w in said), said


@pytest.mark.parametrize("name", MODELS)
def test_metadata_cut(s, name):
    """What is no JSON any more is no model's: 409 at once."""
    meta = s.file(s.ids[name], "json")
    whole = s.files[meta]
    for n in [*range(0, len(whole), 1024), 1, len(whole) // 2, len(whole) - 1]:
        meta.write_bytes(whole[:n])
        assert "not what was saved" in s.refused(name, at_once=409)


def test_another_models_files(s):
    """Its file, its metadata, and both."""
    one, other = s.ids["linear"], s.ids["forest"]
    s.file(one).write_bytes(s.files[s.file(other)])
    s.refused("linear")
    s.restore()
    s.file(one, "json").write_bytes(s.files[s.file(other, "json")])
    s.refused("linear", at_once=409)
    s.file(one).write_bytes(s.files[s.file(other)])
    s.refused("linear", at_once=409)


def test_a_later_version(s):
    """A gate of a later version that shares the folder may write what this one does not know."""
    for name in MODELS:
        path, meta = s.file(s.ids[name]), s.file(s.ids[name], "json")
        data = b"TGMODEL9" + s.files[path][8:]
        path.write_bytes(data)
        meta.write_text(json.dumps({**json.loads(s.files[meta]), "sha256": hashlib.sha256(data).hexdigest()}))
        assert s.refused(name) == "The model was made by a later version of Tollgate."


@pytest.mark.parametrize("ext", ["tgm", "pkl", "joblib"])
def test_a_pickle_in_its_place(s, ext):
    """Whatever it is called it is never read as what it is (ADR 0018)."""
    class Evil:
        def __reduce__(self):
            return (open, (str(s.g.dir / "pwned"), "w"))
    path = s.file(s.ids["linear"])
    path.unlink()
    s.file(s.ids["linear"], ext).write_bytes(pickle.dumps(Evil()))
    s.refused("linear", at_once=None if ext == "tgm" else 409)
    assert not (s.g.dir / "pwned").exists()
    if ext != "tgm":
        s.file(s.ids["linear"], ext).unlink()


def test_files_that_are_none(s):
    """A link, a folder, a file that cannot be opened as one."""
    path = s.file(s.ids["linear"])
    path.unlink()
    path.symlink_to(s.file(s.ids["forest"]))
    s.refused("linear", at_once=409)
    path.unlink()
    path.mkdir()
    s.refused("linear", at_once=409)
    path.rmdir()
    s.refused("linear", at_once=409)
