"""
A 202 is a promise that a bucket which is away for a while does not break: predictions wait for their model, others go on meanwhile, and what is said of it is true. (Issue "Train and predict behind the same door": jobs, the
model store; seed ledger S3-61, S3-71.)
"""
import pytest
from lib.ml import KEYS, TRAIN_KEY, config, ended, ml_gate, predict, spool, train, trained
from lib.raw import SLOW, until
from lib.s3 import Store


@pytest.fixture
def bucket():
    s = Store()
    yield s
    s.close()


def bucket_gate(gate, bucket, **ml):
    return ml_gate(gate, toml={"artifacts": {"url": "s3://models"}, "ml": {"predict_jobs": 1, **ml}}, env={**KEYS, **bucket.env})


def only_in_the_bucket(g, bucket, *ids):
    until(lambda: all(f"models/{i}.json" in bucket.objects for i in ids), 10 * SLOW, "the upload")
    for i in ids:
        for e in (".json", ".tgm"):
            (g.dir / f"artifacts/models/{i}{e}").unlink()


def ask(c, model):
    r = predict(c, model)
    assert r.status_code == 202, r.text
    return r.json()["job_id"]


def tries(bucket):
    return sum(m == "GET" and k.endswith(".tgm") for m, k, _ in bucket.seen)


def test_predictions_wait_for_their_model(gate, bucket):
    """More than three times, with no try counted; the only thread is free for others meanwhile; so it is for a gate that starts in between."""
    g = bucket_gate(gate, bucket)
    c = g.client(TRAIN_KEY)
    cid = config(c)
    away, here = trained(c, cid), trained(c, cid)
    only_in_the_bucket(g, bucket, away)
    bucket.fail("500", 10**6, lambda r: r[0] == "GET" and r[1].endswith(".tgm"))
    waits = [ask(c, away) for _ in range(3)]
    until(lambda: tries(bucket) >= 3, 10 * SLOW, "a try")
    assert ended(c, ask(c, here))["status"] == "completed", "whose model is here goes first"
    until(lambda: tries(bucket) >= 3 * 3 * 4, 60 * SLOW, "four tries of each")
    assert {c.get(f"/api/v1/jobs/{j}").json()["status"] for j in waits} <= {"pending", "running"}
    assert {f"{j}.frame" for j in waits} <= set(spool(g))
    g.stop()
    g.start()
    c = g.client(TRAIN_KEY)
    seen = tries(bucket)
    until(lambda: tries(bucket) > seen, 10 * SLOW, "a try after the start")
    bucket.faults.clear()
    assert [ended(c, j, 60)["status"] for j in waits] == ["completed"] * 3
    until(lambda: not spool(g), 5 * SLOW, "the spool being empty")


def test_not_for_ever(gate, bucket):
    """As long as a job may take; and then the reason is the real one."""
    g = bucket_gate(gate, bucket, job_seconds=3)
    c = g.client(TRAIN_KEY)
    away = trained(c, config(c))
    only_in_the_bucket(g, bucket, away)
    bucket.fail("500", 10**6, lambda r: r[0] == "GET" and r[1].endswith(".tgm"))
    job = ended(c, ask(c, away))
    assert job["status"] == "failed" and job["error"] == "The model store could not be reached for 3 s."
    until(lambda: not spool(g), 5 * SLOW, "the spool being empty")


def test_a_gate_that_ends_while_a_model_waits_for_room(gate):
    """Nothing is lost by it, and no try is counted."""
    g = ml_gate(gate)
    c = g.client(TRAIN_KEY)
    cid = config(c)
    trained(c, cid)
    lock = g.dir / "artifacts/models/.lock"
    lock.unlink()
    lock.mkdir()  # no pair can be made

    def held():
        until(lambda: "cannot be stored now" in c.get(f"/api/v1/jobs/{job}").json()["message"], 20 * SLOW, "the job waiting")
    job = train(c, cid).json()["job_id"]
    held()
    for _ in range(4):
        g.stop()
        assert f"{job}.frame" in spool(g)
        g.start()
        c = g.client(TRAIN_KEY)
        held()
    lock.rmdir()
    row = ended(c, job)
    assert row["status"] == "completed" and c.get(f"/models/{row['artifact_id']}").status_code == 200
    until(lambda: not spool(g), 5 * SLOW, "the spool being empty")
