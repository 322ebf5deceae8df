"""
A model goes with its artifact: its files, what the bucket has of it, and its name in every list, from the answer to the DELETE on; whatever is away or ends in between. (Document 003, "artifacts"; seed ledger S3-50, S4-44.)
"""
import contextlib
import os
import sqlite3
import time

import pytest
from lib.ml import FUTURE, KEYS, TRAIN_KEY, config, ended, ml_gate, predict, spool, trained
from lib.raw import SLOW, until
from lib.s3 import Store


@pytest.fixture
def bucket():
    s = Store()
    yield s
    s.close()


def bucket_gate(gate, bucket):
    return ml_gate(gate, toml={"artifacts": {"url": "s3://models"}}, env={**KEYS, **bucket.env})


def files(g):
    return sorted(p.name for p in (g.dir / "artifacts/models").iterdir() if not p.name.startswith("."))


def pair(*ids):
    return sorted(i + e for i in ids for e in (".json", ".tgm"))


def delete(c, id):
    r = c.delete(f"/api/v1/artifacts/{id}")
    assert r.status_code == 204, r.text


def unknown(c, id):
    """To every route that names models."""
    assert c.get(f"/models/{id}").status_code == c.get(f"/models/{id}/results").status_code == 404
    assert c.get("/models/").status_code in (200, 503) and id not in c.get("/models/").text
    assert predict(c, id).status_code == 404
    r = c.post("/predict", json={"model_id": id, "data": FUTURE})
    assert r.status_code == 400 and r.json()["error"] == "MODEL_NOT_FOUND", r.text


def forget_row(g, id):
    with contextlib.closing(sqlite3.connect(g.dir / "data/tollgate.db", timeout=20, isolation_level=None)) as db:
        assert db.execute("DELETE FROM artifacts WHERE id = ?", (id,)).rowcount == 1


def leaving(g, id, age_s):
    """As a gate leaves it that ended in the middle of a deletion."""
    mark = g.dir / f"artifacts/models/{id}.leaving"
    mark.write_bytes(b"")
    os.utime(mark, (time.time() - age_s,) * 2)


def test_its_files_go_too(gate):
    g = ml_gate(gate)
    c = g.client(TRAIN_KEY)
    cid = config(c)
    one, other = trained(c, cid), trained(c, cid)
    made = predict(c, one).json()
    assert ended(c, made["job_id"])["status"] == "completed"
    delete(c, one)
    assert files(g) == pair(other)
    unknown(c, one)
    assert [m["model_id"] for m in c.get("/models/").json()] == [other]
    assert c.get(f"/api/v1/artifacts/{made['prediction_artifact_id']}").json()["parent_id"] is None, "predictions stay"
    delete(c, made["prediction_artifact_id"])
    assert files(g) == pair(other)
    assert c.delete(f"/api/v1/artifacts/{one}").status_code == 404
    assert ended(c, predict(c, other).json()["job_id"])["status"] == "completed"


def test_what_the_bucket_has_goes_too(gate, bucket):
    """Soon, and not only when models that wait have their turn."""
    g = bucket_gate(gate, bucket)
    c = g.client(TRAIN_KEY)
    cid = config(c)
    one, other = trained(c, cid), trained(c, cid)
    delete(c, one)
    unknown(c, one)
    until(lambda: sorted(bucket.objects) == [f"models/{n}" for n in pair(other)], 5 * SLOW, "the objects being gone")
    until(lambda: files(g) == pair(other), 5 * SLOW, "the mark being gone")
    for n in pair(other):
        (g.dir / "artifacts/models" / n).unlink()
    delete(c, other)  # one that is in the bucket only
    until(lambda: not bucket.objects and not files(g), 5 * SLOW, "the other one's objects being gone")


def test_a_bucket_that_is_away_is_told_later(gate, bucket):
    """The answer waits for nothing; the mark outlives the gate; meanwhile nobody sees the model, also when the bucket is back and still has it."""
    g = bucket_gate(gate, bucket)
    c = g.client(TRAIN_KEY)
    one = trained(c, config(c))
    bucket.fail("500", 1000, lambda r: r[0] == "DELETE")  # from here on: a connection that is open already outlives the door
    bucket.close()
    begun = time.monotonic()
    delete(c, one)
    assert time.monotonic() - begun < 2 * SLOW
    assert files(g) == [f"{one}.deleted"]
    unknown(c, one)
    g.stop()
    bucket.seen.clear()
    bucket.open()
    g.start()
    c = g.client(TRAIN_KEY)
    until(lambda: any(m == "DELETE" for m, _, _ in bucket.seen), 10 * SLOW, "a try")
    unknown(c, one)
    assert c.get("/models/").json() == [] and f"models/{one}.json" in bucket.objects
    g.stop()
    bucket.faults.clear()
    g.start()
    until(lambda: not bucket.objects and not files(g), 10 * SLOW, "the objects being gone")


def test_a_gate_that_ended_in_between(gate):
    """Marked, and then: the row went, or it stayed. A mark that is young may be of a transaction that goes on."""
    g = ml_gate(gate)
    c = g.client(TRAIN_KEY)
    cid = config(c)
    went, stayed, young = (trained(c, cid) for _ in range(3))
    until(lambda: not spool(g), 5 * SLOW, "the spool being empty")  # a mark there would be another reason to remove a model without a row
    g.kill()
    for id in (went, young):
        forget_row(g, id)
    for id, age in ((went, 300), (stayed, 300), (young, 0)):
        leaving(g, id, age)
    g.start()
    until(lambda: files(g) == sorted([*pair(stayed, young), f"{young}.leaving"]), 10 * SLOW, "what is left")
    c = g.client(TRAIN_KEY)
    unknown(c, went)
    assert c.get(f"/models/{stayed}").status_code == 200
    assert ended(c, predict(c, stayed).json()["job_id"])["status"] == "completed"


def test_a_database_that_is_away_at_the_start_is_asked_again_soon(gate):
    """What became of a mark the database alone knows: it was asked again a quarter of a minute later only."""
    g = ml_gate(gate)
    c = g.client(TRAIN_KEY)
    went = trained(c, config(c))
    g.stop()
    forget_row(g, went)
    leaving(g, went, 300)
    os.rename(g.dir / "data/tollgate.db", g.dir / "data/away")
    g.start()
    time.sleep(1.5)
    assert f"{went}.leaving" in files(g)
    os.rename(g.dir / "data/away", g.dir / "data/tollgate.db")
    until(lambda: not files(g), 6 * SLOW, "the model being gone")


def test_what_cannot_be_marked_stays(gate):
    """503, and nothing has changed."""
    g = ml_gate(gate)
    c = g.client(TRAIN_KEY)
    one = trained(c, config(c))
    mark = g.dir / f"artifacts/models/{one}.leaving"
    mark.mkdir()
    r = c.delete(f"/api/v1/artifacts/{one}")
    assert r.status_code == 503 and r.headers["retry-after"] and "nothing was deleted" in r.json()["detail"], r.text
    assert c.get(f"/api/v1/artifacts/{one}").status_code == c.get(f"/models/{one}").status_code == 200
    mark.rmdir()
    delete(c, one)
    assert files(g) == []
