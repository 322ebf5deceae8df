"""
Trainings whose engine or gate is SIGKILLed at random moments. However that goes: every job ends in a true state, and nothing is left that belongs to none. (Issue "Train and predict behind the same door": jobs; seed
ledger S3-61, S3-63.) Ten trainings here, two hundred in `make soak`; TOLLGATE_KILL_SEED chooses the moments.
"""
import contextlib
import hashlib
import json
import math
import os
import random
import signal
import sqlite3
import time
from pathlib import Path

import httpx
import pytest
from lib.ml import ENDS, TRAIN_KEY, config, ended, engine_pids, ml_gate, predict, spool, train
from lib.raw import SLOW, until

SEED = int(os.environ.get("TOLLGATE_KILL_SEED", "20261126"))
METHODS = [{"method": "xgboost", "cv_folds": 6}, {"method": "random_forest", "cv_folds": 2}, {"method": "logistic_regression", "cv_folds": 10}, {}]
COLUMNS = [f"c{i}" for i in range(8)]


def frame(rows=3000):
    rnd = random.Random(rows)
    return {"columns": [*COLUMNS, "y"], "data": [[*(round(rnd.random(), 3) for _ in COLUMNS), i % 2] for i in range(rows)]}


FRAME = frame()
SOME = {"columns": COLUMNS, "data": FRAME["data"] and [r[:8] for r in FRAME["data"][:5]]}


def processes(g):
    """All that run in the gate's folder: itself, keepers, the engine and what that has forked."""
    out = set()
    for p in Path("/proc").iterdir():
        if p.name.isdigit():
            with contextlib.suppress(OSError):
                if os.readlink(p / "cwd") == str(g.dir) and (p / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                    out.add(int(p.name))
    return out


def rows(g, what="id, status, attempts, error, artifact_id"):
    with contextlib.closing(sqlite3.connect(f"file:{g.dir / 'data/tollgate.db'}?mode=ro", uri=True, timeout=10)) as db:
        return db.execute(f"SELECT {what} FROM jobs").fetchall()


def kill(g, which):
    """SIGKILL for one process of the gate's. False: there is none such now."""
    if which == "gate":
        g._clients.clear()
        g.kill()
        until(lambda: not processes(g), 10 * SLOW, "the end of what a killed gate had started")
        g.start()
        return True
    pids = engine_pids(g)  # the server is forked first, then its zygote, then trainings
    at = {"server": 0, "zygote": 1, "training": 2}[which]
    if len(pids) <= at:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pids[at], signal.SIGKILL)
    return True


def ask(g, cids, rnd):
    """One training; what a client does that is told to try again, or told nothing."""
    with contextlib.suppress(httpx.TransportError):
        r = train(g.client(TRAIN_KEY), rnd.choice(cids), FRAME)
        assert r.status_code in (202, 503), r.text
        return r.status_code == 202
    return False


def storm(g, n, seed):
    """n trainings, or more where they are too fast to be hit, and about as many kills while they are asked for and run."""
    rnd = random.Random(seed)
    c = g.client(TRAIN_KEY)
    cids = [config(c, **m) for m in METHODS]
    asked = kills = 0
    end = time.monotonic() + (60 + 8 * n) * SLOW
    while True:
        live = [r for r in rows(g) if r[1] not in ENDS]
        if (asked < n or (kills < n // 2 and asked < 3 * n)) and len(live) < 5:
            asked += ask(g, cids, rnd)
        elif not live:
            return kills
        elif kills < 3 * n // 2 and live:
            time.sleep(rnd.uniform(0, 0.4))
            kills += kill(g, rnd.choice(["gate", "server", "zygote", "training", "training"]))
        else:
            time.sleep(0.1)
        assert time.monotonic() < end, f"seed {seed}: after {kills} kills these do not end: {live}"


def check(g):
    """Every row and every file tells the truth."""
    # What a killed writer left is no half of anything, and goes with the first start a minute later.
    g.stop()
    assert not processes(g)
    models = g.dir / "artifacts/models"
    for p in [*models.iterdir(), *(g.dir / "data/spool").iterdir()]:
        os.utime(p, (time.time() - 120,) * 2)
    g.start()
    c = g.client(TRAIN_KEY)
    until(lambda: not spool(g), 10 * SLOW, "the spool being empty")
    with contextlib.closing(sqlite3.connect(g.dir / "data/tollgate.db", timeout=10)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    jobs = rows(g)
    good = {a for _, status, _, _, a in jobs if status == "completed"}
    for job, status, attempts, error, artifact in jobs:
        assert status in ("completed", "failed") and 1 <= attempts <= 3, (job, status, attempts)
        shown = c.get(f"/api/v1/artifacts/{artifact}")
        if status == "failed":
            assert error and error.endswith(".") and error.count(". ") == 0 and "/" not in error and "\n" not in error, error
            assert shown.status_code == 404
            continue
        assert error is None and shown.status_code == 200
        metadata, model = json.loads((models / f"{artifact}.json").read_text()), (models / f"{artifact}.tgm").read_bytes()
        assert metadata["sha256"] == hashlib.sha256(model).hexdigest() and metadata["bytes"] == len(model) == shown.json()["data"]["model_size_bytes"]
        r = predict(c, artifact, SOME)
        assert r.status_code == 202, r.text
        done = ended(c, r.json()["job_id"])
        assert done["status"] == "completed", done
        got = c.get(f"/api/v1/artifacts/{r.json()['prediction_artifact_id']}").json()["data"]["predictions"]
        assert len(got["data"]) == 5 and all(math.isfinite(r[-1]) for r in got["data"])
        assert c.delete(f"/api/v1/artifacts/{r.json()['prediction_artifact_id']}").status_code == 204
    assert sorted(p.name for p in models.iterdir() if p.name != ".lock") == sorted(a + e for a in good for e in (".json", ".tgm"))
    assert {a["id"] for a in c.get("/api/v1/artifacts").json()} == good
    until(lambda: not spool(g), 10 * SLOW, "the spool being empty")
    assert not [p.name for p in (g.dir / "data/spool").iterdir() if p.name not in (".lock", ".place")]
    pids = processes(g)
    g.stop()
    assert not processes(g) & pids
    return len(good)


def killed(gate, n, seed):
    g = ml_gate(gate, toml={"ml": {"train_jobs": 2, "threads": 1}})
    kills = storm(g, n, seed)
    good = check(g)
    print(f"{n} trainings, {kills} kills: {good} completed")
    assert kills >= n // 2 and good, "nothing was killed, or nothing survived: it proves nothing"


def test_ten_trainings(gate):
    killed(gate, 10, SEED)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_two_hundred_trainings(gate, part):
    killed(gate, 20, SEED + 1 + part)
