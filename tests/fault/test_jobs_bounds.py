"""
What bounds the queue of jobs, seen from outside: the bytes of its spool, one key's share, how long ended jobs are kept, spools that never come back, and the lease of what is on its way to a bucket. (Issue "Train and
predict behind the same door": jobs; seed ledger S3-61, S3-62.)
"""
import contextlib
import shutil
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor

from lib import credit
from lib.audit import wait_event
from lib.ml import NOTHING, PREDICT_KEY, SLOW_CONFIG, TRAIN_KEY, config, ended, ml_gate, predict, slow_frame, spool, train, trained
from lib.raw import SLOW, until
from lib.s3 import Store

SLOW_FRAME = slow_frame()  # 10 columns of 20,000 numbers: 1.6 MB in the spool
OLD_US, DAY_US = 1_700_000_000_000_000, 86_400_000_000
JOB = ("INSERT INTO jobs (id, kind, status, progress, message, spec, principal, key_prefix, place, attempts, created_at, finished_at, updated_at) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
       "WHERE i < :n) SELECT '01K7CXYH' || :mark || substr('00000000000000000' || i, -17), 'train', :status, 0, '', '{}', '', '', 'elsewhere', 0, 1, :finished, 1 FROM n")


@contextlib.contextmanager
def database(g):
    with contextlib.closing(sqlite3.connect(g.dir / "data/tollgate.db", timeout=20, isolation_level=None)) as db:
        yield db


def ask(c, cid, frame=None):
    r = train(c, cid, frame)
    assert r.status_code == 202, r.text
    return r.json()


def status(c, id):
    return c.get(f"/api/v1/jobs/{id}").json()["status"]


def running(c, id):
    until(lambda: status(c, id) == "running", 20 * SLOW, "the job running")


def cancel(c, id):
    assert c.delete(f"/api/v1/jobs/{id}").status_code == 204


def spool_bytes(g):
    total = 0
    for p in (g.dir / "data/spool").iterdir():
        with contextlib.suppress(FileNotFoundError):
            total += p.stat().st_size
    return total


def no_room(r):
    assert r.status_code == 503 and int(r.headers["retry-after"]) >= 1 and r.json()["code"] == "UNAVAILABLE", r.text
    assert r.json()["detail"] == "There is no room for the data of more jobs; try again when some have ended.", r.text
    return True


# ------------------------------------------------------------------------------------------------ the spool's bytes

def test_the_spool_has_a_bound(gate):
    """What would pass it is 503, and nothing of it is left; what is small goes on, also after a kill; with room it is taken."""
    bound = 4_000_000
    g = ml_gate(gate, toml={"ml": {"spool_bytes": bound}})
    c = g.client(TRAIN_KEY)
    small, slow = config(c), config(c, **SLOW_CONFIG)
    model = trained(c, small)
    first, second = ask(c, slow, SLOW_FRAME)["job_id"], ask(c, slow, SLOW_FRAME)["job_id"]
    running(c, first)
    before = spool(g)
    no_room(train(c, slow, SLOW_FRAME))
    no_room(c.post("/api/v1/ml/$predict", json={"model_artifact_id": model, "historic": NOTHING, "future": SLOW_FRAME}, timeout=60 * SLOW))
    assert spool(g) == before and 2 * 1_600_000 < spool_bytes(g) <= bound
    done = predict(c, model)
    assert done.status_code == 202 and ended(c, done.json()["job_id"])["status"] == "completed" and c.get("/api/v1/configs").status_code == 200
    waits = ask(c, small)["job_id"]
    g._clients.clear()
    g.kill()
    g.start()
    c = g.client(TRAIN_KEY)
    running(c, first)
    no_room(train(c, slow, SLOW_FRAME))
    cancel(c, second)
    third = until(lambda: (lambda r: r.json()["job_id"] if r.status_code == 202 else not no_room(r))(train(c, slow, SLOW_FRAME)), 5 * SLOW, "room again", 0.2)
    for j in (third, first):
        cancel(c, j)
    assert ended(c, waits)["status"] == "completed"


def test_many_at_once_stay_within_it(gate):
    """The bound is one for all: bodies that end together do not pass it together."""
    bound = 5_000_000
    g = ml_gate(gate, toml={"ml": {"spool_bytes": bound}})
    c = g.client(TRAIN_KEY)
    slow = config(c, **SLOW_CONFIG)
    running(c, ask(c, slow, SLOW_FRAME)["job_id"])
    part = {**SLOW_FRAME, "data": SLOW_FRAME["data"][:7000]}  # 0.56 MB
    most = 0
    with ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(train, c, slow, part) for _ in range(12)]
        while not all(a.done() for a in asked):
            most = max(most, spool_bytes(g))
            time.sleep(0.002)
    answers = [a.result() for a in asked]
    taken = [r.json()["job_id"] for r in answers if r.status_code == 202]
    assert all(no_room(r) for r in answers if r.status_code != 202)
    assert 3 <= len(taken) <= 6 and max(most, spool_bytes(g)) <= bound, (len(taken), most)
    for j in c.get("/api/v1/jobs").json():
        cancel(c, j["id"])
    until(lambda: not spool(g), 10 * SLOW, "the spool being empty")


def test_a_full_spool_takes_no_body(gate):
    """It says so before the body is there, of every route that has one, and of a data set; what lies there counts whoever put it there; where nothing bounds it all is taken."""
    g = credit.credit_gate(gate, toml={"ml": {"spool_bytes": 1_000_000}})
    c = g.client(credit.KEY)
    model = credit.trained(c)["model_id"]
    (g.dir / "data/spool/filler").write_bytes(b"x" * 1_000_000)
    until(lambda: credit.train(c).status_code == 503, 20 * SLOW, "the engine looking again", 0.2)
    for path in ("/train", "/predict"):
        with g.connect() as s:
            s.settimeout(5 * SLOW)
            s.sendall(f"POST {path} HTTP/1.1\r\nHost: a\r\nX-API-Key: {credit.KEY}\r\nContent-Type: application/json\r\nContent-Length: 500000\r\n\r\n{{".encode())
            head = s.recv(4096)
            assert head.startswith(b"HTTP/1.1 503 ") and b"There is no room" in head, head
    (g.dir / "datasets").mkdir(exist_ok=True)
    no_room(credit.train(c))
    no_room(credit.predict(c, model))
    g.write_config(toml={**g.toml, "ml": {"spool_bytes": 0}})
    g.stop()
    g.start()
    c = g.client(credit.KEY)
    (g.dir / "data/spool/filler").write_bytes(b"x" * 3_000_000)
    credit.trained(c)
    assert credit.predict(c, model).status_code == 200


def test_a_spool_that_is_missing_is_not_full(gate):
    """Removed under the engine: for every route that takes data, and for a data set, the gate says that it cannot be written, and its own log why."""
    g = credit.credit_gate(gate, start=False)
    (g.dir / "datasets").mkdir()
    (g.dir / "datasets/small.csv").write_text(credit.csv(credit.loans(100)))
    g.start()
    c = g.client(credit.KEY)
    model = credit.trained(c)["model_id"]
    shutil.rmtree(g.dir / "data/spool")
    for r in (credit.train(c), credit.predict(c, model), credit.train(c, dataset="small.csv")):
        assert r.status_code == 503 and "The data cannot be written now" in r.text and r.headers["Retry-After"] == "30", r.text
        said = [e for e in g.log() if e["event"] == "spool.not_written"][-1]
        assert said["level"] == "warn" and "No such file or directory" in said["why"]
    assert len([e for e in g.log() if e["event"] == "spool.not_written"]) == 3
    assert "the spool: " in (g.dir / "logs/workers.log").read_text()


def test_a_data_set_is_bounded_too(gate):
    g = credit.credit_gate(gate, toml={"ml": {"spool_bytes": 50_000}}, start=False)
    (g.dir / "datasets").mkdir()
    (g.dir / "datasets/large.csv").write_text(credit.csv(credit.loans(3000)))
    (g.dir / "datasets/small.csv").write_text(credit.csv(credit.loans(100)))
    g.start()
    c = g.client(credit.KEY)
    no_room(credit.train(c, dataset="large.csv"))
    assert spool(g) == []
    assert credit.train(c, dataset="small.csv").status_code == 200


# ------------------------------------------------------------------------------------------------ one key's share

def too_many(r, most):
    assert r.status_code == 429 and int(r.headers["retry-after"]) >= 1 and r.json()["code"] == "RATE_LIMITED", r.text
    assert r.json()["detail"] == f"This key has {most} jobs that wait or run, as many as it may; try again when one has ended.", r.text
    return True


def test_one_key_does_not_fill_the_queue(gate):
    """Past [ml] key_jobs it is 429 for that key, of trainings and predictions together; nothing of it is left, and others have their own share. Ended ones count no more (S3-62)."""
    g = ml_gate(gate, toml={"ml": {"key_jobs": 2, "predict_jobs": 1}})
    c, o = g.client(TRAIN_KEY), g.client(PREDICT_KEY)
    small, slow = config(c), config(c, **SLOW_CONFIG)
    model = trained(c, small)
    first, second = ask(c, slow, SLOW_FRAME)["job_id"], ask(c, small)["job_id"]
    running(c, first)
    before = spool(g)
    too_many(train(c, small), 2)
    too_many(predict(c, model), 2)
    assert spool(g) == before and len(c.get("/api/v1/jobs").json()) == 3
    theirs = predict(o, model)
    assert theirs.status_code == 202 and ended(o, theirs.json()["job_id"])["status"] == "completed"
    cancel(c, second)
    third = ask(c, small)["job_id"]
    too_many(train(c, small), 2)
    cancel(c, first)
    assert ended(c, third)["status"] == "completed"
    assert ended(c, ask(c, small)["job_id"])["status"] == "completed"


def test_calls_at_once_do_not_pass_the_share(gate):
    g = ml_gate(gate, toml={"ml": {"key_jobs": 3}})
    c = g.client(TRAIN_KEY)
    slow = config(c, **SLOW_CONFIG)
    ask(c, slow, SLOW_FRAME)
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: train(c, slow), range(24)))
    assert [r.status_code for r in answers].count(202) == 2 and all(too_many(r, 3) for r in answers if r.status_code != 202), answers
    for j in c.get("/api/v1/jobs").json():
        cancel(c, j["id"])


def test_the_share_of_document_004(gate):
    """POST /train answers in its own words, and the option is one that a reload changes."""
    g = credit.credit_gate(gate, toml={"ml": {"key_jobs": 1}})
    c, o = g.client(credit.KEY), g.client(credit.OTHER_KEY)
    later = {"Prefer": "respond-async"}
    big = {"columns": [*(f"c{i}" for i in range(9)), "loan_status"], "data": SLOW_FRAME["data"]}
    slow = {"model_type": "xgboost", "data": big, "cv_folds": 10, "headers": later}
    r = credit.train(c, **slow)
    assert r.status_code == 202, r.text
    too_many(credit.train(c, headers=later), 1)
    mine = credit.train(o, headers=later)
    assert mine.status_code == 202, mine.text
    g.write_config(toml={**g.toml, "ml": {"key_jobs": 0}})
    g.reload()
    assert credit.train(c, headers=later).status_code == 202


# ------------------------------------------------------------------------------------------------ ended jobs

def count(g, where="1 = 1"):
    with database(g) as db:
        return db.execute(f"SELECT COUNT(*) FROM jobs WHERE {where}").fetchone()[0]


def test_ended_jobs_are_kept_for_some_days(gate):
    """Those that ended before [ml] job_days are removed, some at a time; what they made stays, and so does what has not ended, however old it is."""
    g = ml_gate(gate, toml={"ml": {"job_days": 20}})
    c = g.client(TRAIN_KEY)
    cid = config(c)
    model = trained(c, cid)
    kept = ask(c, cid)["job_id"]
    assert ended(c, kept)["status"] == "completed"
    g.stop()
    now = time.time_ns() // 1000
    with database(g) as db:
        db.execute("UPDATE jobs SET finished_at = ? WHERE artifact_id = ?", (now - 20 * DAY_US - 60_000_000, model))
        db.execute("UPDATE jobs SET finished_at = ? WHERE id = ?", (now - 20 * DAY_US + 600_000_000, kept))
        db.execute(JOB, {"n": 1200, "mark": "1", "status": "failed", "finished": OLD_US})
        db.execute(JOB, {"n": 7, "mark": "2", "status": "pending", "finished": None})
    g.start()
    c = g.client(TRAIN_KEY)
    until(lambda: count(g, "finished_at IS NOT NULL") == 1, 20 * SLOW, "the old ones being gone", 0.05)
    assert status(c, kept) == "completed" and count(g) == 8
    assert c.get(f"/api/v1/artifacts/{model}").status_code == 200
    done = predict(c, model)
    assert ended(c, done.json()["job_id"])["status"] == "completed"


def test_many_ended_jobs_hold_nobody_up(gate):
    """They go in pieces: while they do, whoever writes waits for one of these and no longer."""
    g = ml_gate(gate)
    c = g.client(TRAIN_KEY)
    cid = config(c)
    trained(c, cid)
    g.stop()
    with database(g) as db:
        db.execute("PRAGMA synchronous = OFF")
        db.execute(JOB, {"n": 200_000, "mark": "1", "status": "completed", "finished": OLD_US})
    g.start()
    c = g.client(TRAIN_KEY)
    until(lambda: count(g) < 200_000, 20 * SLOW, "the first being gone", 0.02)
    slowest = 0
    for _ in range(100):
        begun = time.monotonic()
        config(c)
        slowest = max(slowest, time.monotonic() - begun)
        time.sleep(0.03)
    assert 190_000 < count(g) < 200_000 and slowest < 0.5 * SLOW, slowest
    assert ended(c, ask(c, cid)["job_id"])["status"] == "completed"


def test_they_are_kept_for_ever(gate):
    g = ml_gate(gate, toml={"ml": {"job_days": 0}})
    c = g.client(TRAIN_KEY)
    trained(c, config(c))
    g.stop()
    with database(g) as db:
        db.execute(JOB, {"n": 10, "mark": "1", "status": "failed", "finished": 1})
    g.start()
    time.sleep(2)
    assert count(g) == 11


# ------------------------------------------------------------------------------------------------ spools that do not come back

def of_the_same(gate, g):
    return ml_gate(gate, toml={"store": {"url": f"sqlite:{g.dir / 'data/tollgate.db'}"}})


def unused(g, us=None):
    """What is known of the gate's spool; us: as if it had been unused for as long."""
    place = (g.dir / "data/spool/.place").read_text()
    with database(g) as db:
        if us is not None:
            db.execute("INSERT INTO spools (place, turn, unused_us) VALUES (?, 0, ?) ON CONFLICT (place) DO UPDATE SET unused_us = excluded.unused_us", (place, us))
        row = db.execute("SELECT unused_us FROM spools WHERE place = ?", (place,)).fetchone()
    return row and row[0]


def test_a_spool_that_never_comes_back(gate):
    """Its jobs wait while nobody has missed it for seven days; then any gate that has the database fails them, with a sentence and on the record."""
    g = ml_gate(gate)
    c = g.client(TRAIN_KEY)
    first, second = ask(c, config(c, **SLOW_CONFIG), SLOW_FRAME), ask(c, config(c))
    running(c, first["job_id"])
    g._clients.clear()
    g.kill()
    other = of_the_same(gate, g)
    until(lambda: unused(g) == 0, 10 * SLOW, "the other gate knowing of the spool")
    unused(g, 7 * DAY_US - 1)
    other.stop()
    other.start()
    o = other.client(TRAIN_KEY)
    mine = config(o)
    assert ended(o, ask(o, mine)["job_id"])["status"] == "completed"
    assert status(o, second["job_id"]) == "pending" and status(o, first["job_id"]) in ("running", "pending")
    unused(g, 7 * DAY_US)
    other.stop()
    other.start()
    o = other.client(TRAIN_KEY)
    for j in (first, second):
        row = ended(o, j["job_id"])
        assert row["status"] == "failed" and row["error"] == "The spool that has its data was not used for 7 days.", row
        assert row["finished_at"] and o.get(f"/api/v1/artifacts/{j['model_artifact_id']}").status_code == 404
    assert wait_event(other, "training_failed", lambda e: e["error"] == row["error"])
    assert ended(o, ask(o, mine)["job_id"])["status"] == "completed"
    g.start()  # too late, and no harm
    until(lambda: not spool(g) and unused(g) == 0, 10 * SLOW, "its spool being empty, and in use again")
    c = g.client(TRAIN_KEY)
    assert ended(c, ask(c, mine)["job_id"])["status"] == "completed" and status(c, first["job_id"]) == "failed"


def test_a_spool_that_comes_back_late(gate):
    """Its own gate runs what waits there, however long it was away; and what a living gate has is left to it by one that starts."""
    g = ml_gate(gate)
    c = g.client(TRAIN_KEY)
    slow, cid = config(c, **SLOW_CONFIG), config(c)
    first, second = ask(c, slow, SLOW_FRAME)["job_id"], ask(c, cid)["job_id"]
    running(c, first)
    g._clients.clear()
    g.kill()
    unused(g, 100 * DAY_US)
    g.start()
    c = g.client(TRAIN_KEY)
    running(c, first)
    until(lambda: unused(g) == 0, 10 * SLOW, "its spool being in use again")
    other = of_the_same(gate, g)
    o = other.client(TRAIN_KEY)
    assert ended(o, ask(o, cid)["job_id"])["status"] == "completed"
    assert status(o, first) == "running" and status(o, second) == "pending"
    cancel(c, first)
    assert ended(c, second)["status"] == "completed"


def test_a_gate_without_an_engine_does_it_too(gate):
    g = ml_gate(gate)
    c = g.client(TRAIN_KEY)
    first = ask(c, config(c, **SLOW_CONFIG), SLOW_FRAME)["job_id"]
    running(c, first)
    g._clients.clear()
    g.kill()
    unused(g, 7 * DAY_US)
    with database(g) as db:
        db.execute(JOB, {"n": 1000, "mark": "3", "status": "pending", "finished": None})
        db.execute("UPDATE jobs SET place = ? WHERE place = 'elsewhere'", ((g.dir / "data/spool/.place").read_text(),))
    other = ml_gate(gate, toml={"store": {"url": f"sqlite:{g.dir / 'data/tollgate.db'}"}, "ml": {"engine": False}})
    until(lambda: count(g, "status = 'failed'") == 1001, 20 * SLOW, "their end", 0.05)
    assert other.alive()


# ------------------------------------------------------------------------------------------------ the lease of what is on its way to a bucket

def test_the_lease_goes_on_during_an_upload(gate):
    """A model that takes long to upload is its gate's all the while: another gate that starts on the database meanwhile leaves the job alone, and it completes at its first try."""
    store = Store("models")
    try:
        g = ml_gate(gate, toml={"artifacts": {"url": "s3://models"}}, env={"CHAPKIT_API_KEYS": TRAIN_KEY, **store.env})
        c = g.client(TRAIN_KEY)
        store.fail("hold", 1, lambda r: r[0] == "PUT" and r[1].endswith(".tgm"))
        j = ask(c, config(c))
        until(lambda: any(r[0] == "PUT" for r in store.seen), 20 * SLOW, "the upload")

        def lease():
            with database(g) as db:
                return db.execute("SELECT lease_ends, status FROM jobs WHERE id = ?", (j["job_id"],)).fetchone()
        first = lease()
        assert first[1] == "running"
        until(lambda: (lease()[0] or 0) > first[0] + 3_000_000, 12, "the lease being renewed", 0.1)
        assert lease()[1] == "running"
        store.go.set()
        assert ended(c, j["job_id"])["status"] == "completed" and f"models/{j['model_artifact_id']}.tgm" in store.objects
        assert count(g, "attempts = 1") == 1
    finally:
        store.go.set()
        store.close()
