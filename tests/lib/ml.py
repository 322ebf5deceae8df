"""
What the tests of training and prediction share: document 003's keys and data, and waiting for jobs.

    KEYS, TRAIN_KEY, PREDICT_KEY, FRAME, FUTURE, GOLDEN   -> as the document has them; GOLDEN: what least squares give on its data (seed ledger S3-55)
    ml_gate(gate, **kw)            -> a gate with those keys
    config(c, **data)              -> the id of a new config
    train(c, cid, frame), predict(c, model, future) -> the httpx response
    ended(c, job)                  -> the job's row once it has ended
    frame_text(rows, columns)      -> a JSON frame of that size as bytes, quickly
    engine_pids(g), signal_engine(g, sig) -> processes of the gate's engine
    spool(g)                       -> names of the files in the spool
    slow_frame(), SLOW_CONFIG      -> a training that takes long
"""
import contextlib
import os
import random
import time
from pathlib import Path

from .raw import SLOW

TRAIN_KEY, PREDICT_KEY = "sk_ml_train_abc123", "sk_ml_predict_xyz789"
KEYS = {"CHAPKIT_API_KEYS": f"{TRAIN_KEY},{PREDICT_KEY}"}
FRAME = {"columns": ["rainfall", "mean_temperature", "disease_cases"],
         "data": [[100.5, 25.3, 12], [85.2, 27.1, 8], [120.8, 24.5, 15], [95.3, 26.2, 10], [110.0, 26.0, 13], [75.5, 28.0, 6], [130.2, 23.8, 18], [88.9, 27.5, 9]]}
FUTURE = {"columns": ["rainfall", "mean_temperature"], "data": [[110.0, 26.0], [90.0, 28.0], [125.0, 24.0], [80.0, 29.0]]}
NOTHING = {"columns": ["rainfall", "mean_temperature"], "data": []}
GOLDEN = [13.046377018145838, 8.628929113083778, 16.566732497622098, 6.420205160552747]
ENDS = ("completed", "failed", "canceled")


def ml_gate(gate, toml=None, **kw):
    kw.setdefault("env", KEYS)
    return gate(toml={"limits": {"poll": "off"}, **(toml or {})}, **kw)


def spool(g):
    """Files of jobs in the spool."""
    folder = g.dir / "data/spool"
    return sorted(p.name for p in folder.iterdir() if not p.name.startswith(".")) if folder.exists() else []


def slow_frame(rows=20000):
    """With SLOW_CONFIG a training of many seconds, whose body is small."""
    rnd = random.Random(1)
    return {"columns": [*(f"c{i}" for i in range(9)), "y"], "data": [[*(round(rnd.random(), 3) for _ in range(9)), i % 2] for i in range(rows)]}


SLOW_CONFIG = {"method": "xgboost", "cv_folds": 10}


def config(c, **data):
    r = c.post("/api/v1/configs", json={"name": "a", "data": data})
    assert r.status_code == 201, r.text
    return r.json()["id"]


def train(c, cid, frame=None, **more):
    return c.post("/api/v1/ml/$train", json={"config_id": cid, "data": frame or FRAME, **more}, timeout=60 * SLOW)


def predict(c, model, future=None, **more):
    return c.post("/api/v1/ml/$predict", json={"model_artifact_id": model, "historic": NOTHING, "future": future or FUTURE, **more}, timeout=60 * SLOW)


def ended(c, job, timeout=30):
    end = time.monotonic() + timeout * SLOW
    while True:
        r = c.get(f"/api/v1/jobs/{job}")
        assert r.status_code == 200, r.text
        if r.json()["status"] in ENDS:
            return r.json()
        assert time.monotonic() < end, r.text
        time.sleep(0.02)


def trained(c, cid, frame=None):
    """The id of a model that is there."""
    r = train(c, cid, frame)
    assert r.status_code == 202, r.text
    job = ended(c, r.json()["job_id"])
    assert job["status"] == "completed", job
    return r.json()["model_artifact_id"]


def frame_text(rows, columns=3, seed=1):
    rnd = random.Random(seed)
    names = ",".join(f'"c{i}"' for i in range(columns))
    pool = [",".join(f"{rnd.uniform(-100, 100):.6f}" for _ in range(columns)) for _ in range(1000)]
    body = "],[".join(pool[i % 1000] for i in range(rows))
    return f'{{"columns":[{names}],"data":[[{body}]]}}'.encode()


def engine_pids(g):
    """The engine and what it has forked, by their command: those below this gate."""
    parents, engines = {}, set()
    for p in Path("/proc").iterdir():
        if not p.name.isdigit():
            continue
        try:
            stat = (p / "stat").read_text(errors="replace")
            parents[int(p.name)] = int(stat[stat.rindex(")") + 2:].split()[1])
            if b"tollgate-engine" in (p / "cmdline").read_bytes().split(b"\0")[0]:
                engines.add(int(p.name))
        except (FileNotFoundError, ProcessLookupError):
            continue

    def below(pid):
        while pid in parents and pid != g.pid:
            pid = parents[pid]
        return pid == g.pid
    return sorted(p for p in engines if below(p))


def signal_engine(g, sig):
    """To all of them; one may end because another did."""
    for p in engine_pids(g):
        with contextlib.suppress(ProcessLookupError):
            os.kill(p, sig)
