"""
Jobs under way when the engine or the gate is killed, two gates on one database, and canceled jobs: each ends in a true state, is run by whoever has its data, and leaves no file and no process. (Seed ledger S3-52,
S3-65, S3-71; issue "Train and predict behind the same door": SIGKILLs.)
"""
import os
import random
import signal
import struct
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from lib.gate import START_S
from lib.ml import KEYS, SLOW_CONFIG, TRAIN_KEY, config, ended, engine_pids, ml_gate, predict, signal_engine, slow_frame, spool, train, trained
from lib.misdeeds import clock_shim
from lib.raw import SLOW, until


def test_an_engine_that_is_killed_in_a_training(gate):
    """The job is tried again, in a new engine; and canceled while it runs: the row is gone, its process too, no file and no artifact is left (S3-65)."""
    g = ml_gate(gate)
    c = g.client(TRAIN_KEY, timeout=60)
    cid, slow = config(c), config(c, **SLOW_CONFIG)
    r = train(c, slow, slow_frame())
    job = r.json()["job_id"]
    until(lambda: c.get(f"/api/v1/jobs/{job}").json()["status"] == "running", 10 * SLOW, "the job running")
    time.sleep(0.3)
    signal_engine(g, signal.SIGKILL)
    g.wait_log(lambda r: r["event"] == "job.engine" and r["job"] == job, 10 * SLOW)
    g.wait_log(lambda r: r["event"] == "job.started" and r["job"] == job and r["attempt"] == 2, 20 * SLOW)
    until(lambda: len(engine_pids(g)) >= 2, 10 * SLOW, "the training's process")
    assert c.delete(f"/api/v1/jobs/{job}").status_code == 204 and c.get(f"/api/v1/jobs/{job}").status_code == 404
    until(lambda: not spool(g), 10 * SLOW, "the spool being empty")
    assert c.get(f"/api/v1/artifacts/{r.json()['model_artifact_id']}").status_code == 404
    assert ended(c, train(c, cid).json()["job_id"])["status"] == "completed"


def state_of(g, c, job, model):
    """That a job's end is true: with a model that predicts, or without any trace of one."""
    there = c.get(f"/api/v1/artifacts/{model}").status_code == 200
    files = sorted(p.name for p in (g.dir / "artifacts/models").glob(model + "*"))
    if job["status"] == "completed":
        assert there and files == [model + ".json", model + ".tgm"], (job, files)
        frame = slow_frame(10)
        r = predict(c, model, {"columns": frame["columns"][:-1], "data": [row[:-1] for row in frame["data"][:3]]})
        assert r.status_code == 202 and ended(c, r.json()["job_id"])["status"] == "completed"
    else:
        assert job["status"] == "failed" and job["error"].endswith(".") and not there and not files, (job, files)


@pytest.mark.parametrize("kills", [4, pytest.param(150, marks=pytest.mark.slow)])
def test_kills_at_random(gate, kills):
    """Engine or gate, whatever is being done: as many trainings as kills, and each ends."""
    rnd = random.Random(kills)
    g = ml_gate(gate)
    cid, frame = config(g.client(TRAIN_KEY), method="xgboost"), slow_frame(6000)
    made = []
    for _ in range(kills):
        c = g.client(TRAIN_KEY, timeout=60 * SLOW)
        r = until(lambda: (r := train(c, cid, frame)).status_code == 202 and r, 30 * SLOW, "the engine taking a training", 0.2)
        made.append(r.json())
        time.sleep(rnd.uniform(0, 0.8))
        if rnd.random() < 0.5:
            signal_engine(g, signal.SIGKILL)
        else:
            g._clients.clear()
            old = engine_pids(g)
            g.kill()
            until(lambda: not any(os.path.exists(f"/proc/{p}") for p in old), 10 * SLOW, "the old engine being gone")
            g.start()
    c = g.client(TRAIN_KEY, timeout=60 * SLOW)
    for j in made:
        state_of(g, c, ended(c, j["job_id"], 120), j["model_artifact_id"])
    until(lambda: not spool(g), 10 * SLOW, "the spool being empty")
    assert any(c.get(f"/api/v1/jobs/{j['job_id']}").json()["status"] == "completed" for j in made)


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGTERM])
def test_a_gate_that_ends_in_a_training(gate, sig):
    """The job is pending again or runs again under the next gate, and ends in a true state; nothing is left in the spool but what is needed."""
    g = ml_gate(gate)
    c = g.client(TRAIN_KEY)
    cid, slow = config(c), config(c, **SLOW_CONFIG)
    running = train(c, slow, slow_frame()).json()
    waiting = [train(c, cid).json() for _ in range(2)]
    until(lambda: c.get(f"/api/v1/jobs/{running['job_id']}").json()["status"] == "running", 10 * SLOW, "the job running")
    (g.dir / "data/spool/01K7CXYHJ7BR4E87VVTG8FNBMA.frame").write_bytes(b"nobody's")
    os.utime(g.dir / "data/spool/01K7CXYHJ7BR4E87VVTG8FNBMA.frame", (1, 1))
    old = engine_pids(g)
    g._clients.clear()
    if sig == signal.SIGKILL:
        g.kill()
    else:
        g.stop()
    until(lambda: not any(os.path.exists(f"/proc/{p}") for p in old), 10 * SLOW, "the old engine being gone")
    g.start()
    c = g.client(TRAIN_KEY)
    # An orderly end is no try that counts, and both starts are in the log: the second one is told by its place.
    tries = 2 if sig == signal.SIGKILL else 1
    until(lambda: [r["attempt"] for r in g.log() if r["event"] == "job.started" and r["job"] == running["job_id"]] == [1, tries], START_S, "the job's second start")
    for j in waiting:
        assert c.get(f"/api/v1/jobs/{j['job_id']}").json()["status"] == "pending"
    assert c.delete(f"/api/v1/jobs/{running['job_id']}").status_code == 204
    for j in waiting:
        assert ended(c, j["job_id"])["status"] == "completed"
        assert c.get(f"/api/v1/artifacts/{j['model_artifact_id']}").status_code == 200
    assert c.get(f"/api/v1/artifacts/{running['model_artifact_id']}").status_code == 404
    until(lambda: not spool(g), 10 * SLOW, "the spool being empty")
    names = sorted(p.name for p in (g.dir / "artifacts/models").iterdir() if not p.name.startswith("."))
    assert names == sorted(j["model_artifact_id"] + e for j in waiting for e in (".json", ".tgm"))


def test_two_gates_on_one_database(gate):
    """Each runs the jobs whose data lie in its own spool, and no other's; one that starts leaves the other's running jobs alone."""
    g = ml_gate(gate)
    c = g.client(TRAIN_KEY)
    slow = config(c, **SLOW_CONFIG)
    job = train(c, slow, slow_frame()).json()["job_id"]
    until(lambda: c.get(f"/api/v1/jobs/{job}").json()["status"] == "running", 10 * SLOW, "the job running")
    other = ml_gate(gate, toml={"store": {"url": f"sqlite:{g.dir / 'data/tollgate.db'}"}})
    o = other.client(TRAIN_KEY)
    cid = config(o)
    mine = train(o, cid).json()["job_id"]
    assert ended(o, mine)["status"] == "completed"
    behind = train(c, cid).json()["job_id"]
    assert ended(o, train(o, cid).json()["job_id"])["status"] == "completed"  # though the other one is older
    assert o.get(f"/api/v1/jobs/{job}").json()["status"] == "running" and o.get(f"/api/v1/jobs/{behind}").json()["status"] == "pending"
    assert c.delete(f"/api/v1/jobs/{job}").status_code == 204
    assert ended(c, behind)["status"] == "completed"


def test_a_job_that_waits_is_canceled(gate):
    """409 for who predicts with it before; 404 after; its data is removed although it never ran."""
    g = ml_gate(gate)
    c = g.client(TRAIN_KEY)
    slow, cid = config(c, **SLOW_CONFIG), config(c)
    first, second = train(c, slow, slow_frame()).json(), train(c, cid).json()
    until(lambda: c.get(f"/api/v1/jobs/{first['job_id']}").json()["status"] == "running", 10 * SLOW, "the job running")
    for j in (first, second):
        r = c.post("/api/v1/ml/$predict", json={"model_artifact_id": j["model_artifact_id"], "historic": {"columns": ["a"], "data": []}, "future": {"columns": ["a"], "data": [[1]]}})
        assert r.status_code == 409 and r.json()["detail"] == "The model is still being trained."  # S3-71
    assert len(spool(g)) >= 2
    for j in (second, first):
        assert c.delete(f"/api/v1/jobs/{j['job_id']}").status_code == 204
    until(lambda: not spool(g), 10 * SLOW, "the spool being empty")


def test_who_waits_at_the_gate_that_does_not_run_it(gate):
    """S4-61: two gates have one spool, as in a change of hands: /train at the one is answered when the other has trained; of what failed there, with its error."""
    g = ml_gate(gate)
    trained(g.client(TRAIN_KEY), config(g.client(TRAIN_KEY)))
    other = ml_gate(gate, toml={"store": {"url": f"sqlite:{g.dir / 'data/tollgate.db'}"}, "ml": {"spool": str(g.dir / "data/spool")}, "artifacts": {"url": f"file:{g.dir / 'artifacts/models'}"}})

    def post(rows):
        return other.client(TRAIN_KEY).post("/train", json={"data": {"columns": ["a", "y"], "data": rows * 20}}, timeout=40 * SLOW)
    with ThreadPoolExecutor(2) as pool:
        good, bad = pool.map(post, ([[1, 0], [2, 1]], [[1, 1], [2, 1]]))
    assert good.status_code == 200 and good.json()["metrics"], good.text
    assert bad.status_code == 400 and "one value" in bad.text, bad.text
    assert not any(x["event"] == "job.started" for x in other.log(0.1))


@pytest.mark.release_only  # a sanitizer's runtime must come first
def test_the_time_of_day_jumps_in_a_job(gate, tmp_path):
    """Three hours back: how long it took is told as it was."""
    told = tmp_path / "clock"
    told.write_bytes(struct.pack("q", 0))
    g = ml_gate(gate, env={**KEYS, "LD_PRELOAD": str(clock_shim(tmp_path)), "CLOCK_FILE": str(told)})
    c = g.client(TRAIN_KEY)
    cid = config(c)
    trained(c, cid)
    zygote = engine_pids(g)[1]
    os.kill(zygote, signal.SIGSTOP)
    try:
        job = train(c, cid).json()["job_id"]
        until(lambda: c.get(f"/api/v1/jobs/{job}").json()["status"] == "running", 10 * SLOW, "the job running")
        with open(told, "r+b") as f:
            f.write(struct.pack("q", -3 * 3600))
    finally:
        os.kill(zygote, signal.SIGCONT)
    row = ended(c, job)
    assert row["status"] == "completed" and row["finished_at"] < row["started_at"], "the clock was set"
    line = next(x for x in g.log(0.2) if x["event"] == "job.completed" and x["job"] == job)
    assert line["ms"] < 60_000 * SLOW, line
