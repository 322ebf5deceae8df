"""
The queue of jobs seen from outside: order and bounds, progress, canceling, metrics; and what it survives: a database that is locked, a full disk, an engine that has no room, a spool that was emptied or moved. (Issue
"Train and predict behind the same door": jobs; seed ledger S3-61 to S3-65.)
"""
import contextlib
import ctypes
import os
import re
import select
import signal
import socket
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from lib.audit import wait_event
from lib.gate import ADMIN, START_S
from lib.ml import SLOW_CONFIG, TRAIN_KEY, config, ended, engine_pids, ml_gate, predict, slow_frame, spool, train, trained
from lib.raw import SLOW, until
from lib.wire import request

SLOW_FRAME = slow_frame()


def part(rows):
    return {**SLOW_FRAME, "data": SLOW_FRAME["data"][:rows]}


def job(c, id):
    r = c.get(f"/api/v1/jobs/{id}")
    assert r.status_code == 200, r.text
    return r.json()


def status(c, id):
    return job(c, id)["status"]


def ask(c, cid, frame=None):
    r = train(c, cid, frame)
    assert r.status_code == 202, r.text
    return r.json()


def running(c, id):
    until(lambda: status(c, id) == "running", 10 * SLOW, "the job running")


def models(g):
    return sorted(p.name for p in (g.dir / "artifacts/models").iterdir() if not p.name.startswith("."))


def pair(*asked):
    return sorted(j["model_artifact_id"] + e for j in asked for e in (".json", ".tgm"))


@contextlib.contextmanager
def database(g, sql="BEGIN"):
    """Its file, opened by another process of the machine: this one."""
    with contextlib.closing(sqlite3.connect(g.dir / "data/tollgate.db", timeout=20, isolation_level=None)) as db:
        db.execute(sql)
        yield db
        db.execute("COMMIT")


def locked(g):
    return database(g, "BEGIN IMMEDIATE")


def one(s):
    """One sentence, of no path."""
    assert s and s.endswith(".") and ". " not in s and "/" not in s and "\n" not in s, s
    return s


# ------------------------------------------------------------------------------------------------ order and bounds

def test_more_than_can_run_at_once(gate):
    """Two at the same time and never a third; the others wait, are begun in the order they came, and complete."""
    g = ml_gate(gate, toml={"ml": {"train_jobs": 2, "threads": 1}})
    c = g.client(TRAIN_KEY)
    cid = config(c, method="xgboost", cv_folds=3)
    jobs = [ask(c, cid, part(600))["job_id"] for _ in range(5)]
    seen = set()

    def all_ended():
        rows = {j["id"]: j["status"] for j in c.get("/api/v1/jobs").json()}
        seen.add(sum(s == "running" for s in rows.values()))
        assert set(rows) == set(jobs)
        return all(s == "completed" for s in rows.values())
    until(all_ended, 60 * SLOW, "their end", 0.01)
    assert max(seen) == 2, seen
    rows = {j["id"]: j for j in c.get("/api/v1/jobs").json()}
    begun = [rows[j]["started_at"] for j in jobs]
    assert begun == sorted(begun) and all(rows[j]["progress"] == 100 for j in jobs)


def test_begun_again_as_many_as_can_be(gate):
    """What waits when the gate starts is run side by side, though nobody asks for anything."""
    g = ml_gate(gate, toml={"ml": {"train_jobs": 3, "threads": 1}})
    c = g.client(TRAIN_KEY)
    cid = config(c, **SLOW_CONFIG)
    jobs = [ask(c, cid, SLOW_FRAME)["job_id"] for _ in range(4)]
    g.stop()
    g.start()
    c = g.client(TRAIN_KEY)
    until(lambda: sorted(status(c, j) for j in jobs) == ["pending", *["running"] * 3], 10 * SLOW, "three running")
    until(lambda: len(engine_pids(g)) == 5, 5 * SLOW, "their processes")
    for j in reversed(jobs):
        assert c.delete(f"/api/v1/jobs/{j}").status_code == 204


def test_progress(gate):
    """From 0 to 100, never back, with words for where it is."""
    g = ml_gate(gate, toml={"ml": {"threads": 1}})
    c = g.client(TRAIN_KEY)
    id = ask(c, config(c, **SLOW_CONFIG), part(1500))["job_id"]
    seen = [(0, "")]

    def at_end():
        j = job(c, id)
        seen.append((j["progress"], j["message"]))
        return j["status"] == "completed"
    until(at_end, 90 * SLOW, "its end", 0.05)
    steps = [p for p, _ in seen]
    assert steps == sorted(steps) and steps[0] == 0 and steps[-1] == 100 and len(set(steps)) >= 4, set(steps)
    words = {m for p, m in seen if 0 < p < 100}
    assert words and all(words) and not any("/" in w for w in words), words


def test_canceled(gate):
    """A running one's process is gone within a second; of neither that nor one that waits is a file left (S3-65)."""
    g = ml_gate(gate)
    c = g.client(TRAIN_KEY)
    cid = config(c, **SLOW_CONFIG)
    first, second = ask(c, cid, SLOW_FRAME), ask(c, cid)
    running(c, first["job_id"])
    [child] = until(lambda: engine_pids(g)[2:], 5 * SLOW, "the training's process")
    assert status(c, second["job_id"]) == "pending" and len(spool(g)) >= 2
    assert c.delete(f"/api/v1/jobs/{second['job_id']}").status_code == 204
    until(lambda: not any(f.startswith(second["job_id"]) for f in spool(g)), 2 * SLOW, "its data being gone")
    assert status(c, first["job_id"]) == "running"
    assert c.delete(f"/api/v1/jobs/{first['job_id']}").status_code == 204
    until(lambda: not os.path.exists(f"/proc/{child}"), 1 * SLOW, "the process being gone")
    until(lambda: not spool(g), 2 * SLOW, "the spool being empty")
    assert models(g) == [] and c.get("/api/v1/jobs").json() == [] and c.get("/api/v1/artifacts").json() == []


def test_a_job_has_a_clock(gate):
    """One that takes longer than [ml] job_seconds fails, and its process is gone; the next one runs."""
    g = ml_gate(gate, toml={"ml": {"job_seconds": 3}})
    c = g.client(TRAIN_KEY)
    slow, quick = ask(c, config(c, **SLOW_CONFIG), SLOW_FRAME), ask(c, config(c))
    job = ended(c, slow["job_id"])
    assert job["status"] == "failed" and job["error"] == "It took longer than a job may take here (3 s).", job
    assert ended(c, quick["job_id"])["status"] == "completed"
    until(lambda: len(engine_pids(g)) == 2 and not spool(g), 5 * SLOW, "its process and data being gone")


def test_canceled_by_who_does_not_wait(gate):
    """A client that leaves before the answer has canceled all the same, its data included."""
    g = ml_gate(gate)
    c = g.client(TRAIN_KEY)
    cid = config(c, **SLOW_CONFIG)
    first, second = ask(c, cid, SLOW_FRAME), ask(c, cid)
    running(c, first["job_id"])
    for j in (second, first):
        with locked(g), g.connect() as s:  # so that the answer takes a moment
            s.sendall(f"DELETE /api/v1/jobs/{j['job_id']} HTTP/1.1\r\nHost: a\r\nX-API-Key: {TRAIN_KEY}\r\n\r\n".encode())
            time.sleep(0.2)
        until(lambda: len(c.get("/api/v1/jobs").json()) == (j is second), 5 * SLOW, "its row being gone")
    until(lambda: c.get("/api/v1/jobs").json() == [], 5 * SLOW, "both being canceled")
    until(lambda: not spool(g) and len(engine_pids(g)) == 2, 2 * SLOW, "their data and processes being gone")


def test_the_queue_is_bounded(gate):
    """The 10,001st is 503 with Retry-After, and leaves nothing; with room it is taken (S3-62)."""
    g = ml_gate(gate)
    c = g.client(TRAIN_KEY)
    cid = config(c)
    trained(c, cid)
    with locked(g) as db:
        db.execute("INSERT INTO jobs (id, kind, status, progress, message, spec, principal, key_prefix, place, attempts, created_at, updated_at) "
                   "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000) "
                   "SELECT '01K7CXYHJ7' || substr('0000000000000000' || i, -16), 'train', 'pending', 0, '', '{}', '', '', 'elsewhere', 0, 1, 1 FROM n")
    r = train(c, cid)
    assert r.status_code == 503 and int(r.headers["retry-after"]) >= 1 and "Too many jobs" in r.json()["detail"], r.text
    until(lambda: not spool(g), 5 * SLOW, "the spool being empty")
    with locked(g) as db:
        db.execute("DELETE FROM jobs WHERE id = '01K7CXYHJ70000000000000001'")
    assert ended(c, ask(c, cid)["job_id"])["status"] == "completed"


def metric(text, name, kind):
    m = re.search(rf'^{name}{{kind="{kind}"}} (\S+)$', text, re.M)
    assert m, text
    return float(m[1])


def test_metrics(gate):
    """How many wait, and how long the oldest of them has."""
    g = ml_gate(gate)
    c, admin = g.client(TRAIN_KEY), g.client(ADMIN)

    def shown(kind="train"):
        text = admin.get("/metrics").text
        return metric(text, "tollgate_jobs_waiting", kind), metric(text, "tollgate_jobs_waiting_oldest_seconds", kind)
    cid = config(c, **SLOW_CONFIG)
    assert shown() == (0, 0)
    first, *others = [ask(c, cid, SLOW_FRAME if i == 0 else None) for i in range(3)]
    until(lambda: shown()[0] == 2, 5 * SLOW, "two waiting", 0.1)
    age = shown()[1]
    until(lambda: shown()[1] >= age + 1, 5 * SLOW, "the oldest growing older", 0.1)
    assert shown("predict") == (0, 0) and shown()[1] < 60 * SLOW
    for j in (*others, first):
        assert c.delete(f"/api/v1/jobs/{j['job_id']}").status_code == 204
    until(lambda: shown() == (0, 0), 5 * SLOW, "none waiting", 0.1)


# ------------------------------------------------------------------------------------------------ a database that is locked, a gate that is killed meanwhile

def saved(g, j):
    """The model is in the store, and its job cannot be recorded."""
    until(lambda: models(g) == pair(j), 10 * SLOW, "the model being stored")


def test_recorded_when_the_lock_goes(gate):
    g = ml_gate(gate)
    c = g.client(TRAIN_KEY)
    cid = config(c, method="xgboost", cv_folds=2)
    trained(c, config(c))  # the engine runs
    j = ask(c, cid, part(2000))
    running(c, j["job_id"])
    had = set(models(g))
    with locked(g):
        until(lambda: set(pair(j)) < set(models(g)), 30 * SLOW, "the model being stored")
        time.sleep(0.5)
        shown = c.get(f"/api/v1/jobs/{j['job_id']}")  # a database that refused a write is not asked for a moment
        assert shown.status_code == 503 or shown.json()["status"] == "running", shown.text
    until(lambda: c.get("/api/v1/configs").status_code == 200, 5 * SLOW, "the database being asked again")
    assert ended(c, j["job_id"])["status"] == "completed" and set(models(g)) == had | set(pair(j))
    assert c.get(f"/api/v1/artifacts/{j['model_artifact_id']}").status_code == 200
    until(lambda: not spool(g), 5 * SLOW, "the spool being empty")


def killed_before_it_was_recorded(gate, sql):
    """A gate that has stored the model and ends before its job is recorded; then sql happens to the row."""
    g = ml_gate(gate, toml={"ml": {"threads": 1}})
    c = g.client(TRAIN_KEY)
    cid = config(c, method="xgboost", cv_folds=2)
    j = ask(c, cid, part(2000))
    running(c, j["job_id"])
    with locked(g) as db:
        saved(g, j)
        g._clients.clear()
        g.kill()
        db.execute(sql, (j["job_id"],))
    g.start()
    return g, g.client(TRAIN_KEY), j


def test_killed_between_the_model_and_its_record(gate):
    """It is done again, and there is one model."""
    g, c, j = killed_before_it_was_recorded(gate, "UPDATE jobs SET message = message WHERE id = ?")
    assert ended(c, j["job_id"])["status"] == "completed"
    assert models(g) == pair(j) and c.get(f"/api/v1/artifacts/{j['model_artifact_id']}").status_code == 200
    until(lambda: not spool(g), 5 * SLOW, "the spool being empty")


def test_killed_there_for_the_third_time(gate):
    """Failed, and that is on record (S4-63); the model that nobody will ever record is gone."""
    g, c, j = killed_before_it_was_recorded(gate, "UPDATE jobs SET attempts = 3 WHERE id = ?")
    end = ended(c, j["job_id"])
    assert end["status"] == "failed" and one(end["error"])
    assert wait_event(g, "training_failed")["error"] == end["error"]
    until(lambda: models(g) == [] and not spool(g), 5 * SLOW, "the model being gone")


def test_killed_there_and_canceled_elsewhere(gate):
    """Another gate on the same database has deleted the row meanwhile."""
    g, c, j = killed_before_it_was_recorded(gate, "DELETE FROM jobs WHERE id = ?")
    assert c.get(f"/api/v1/jobs/{j['job_id']}").status_code == 404
    until(lambda: models(g) == [] and not spool(g), 5 * SLOW, "the model being gone")


def test_killed_just_after_the_record(gate):
    """The model of a job that was recorded stays, whatever is left in the spool."""
    g = ml_gate(gate)
    c = g.client(TRAIN_KEY)
    j = ask(c, config(c))
    assert ended(c, j["job_id"])["status"] == "completed"
    g.stop()
    for name in (f"{j['job_id']}.frame", f"{j['job_id']}.{j['model_artifact_id']}"):
        p = g.dir / "data/spool" / name
        p.write_bytes(b"")
        os.utime(p, (1, 1))
    g.start()
    c = g.client(TRAIN_KEY)
    until(lambda: not spool(g), 5 * SLOW, "the spool being empty")
    assert models(g) == pair(j) and c.get(f"/api/v1/artifacts/{j['model_artifact_id']}").status_code == 200


# ------------------------------------------------------------------------------------------------ tries

def attempts(g, id):
    with database(g) as db:
        return db.execute("SELECT attempts FROM jobs WHERE id = ?", (id,)).fetchone()[0]


def test_an_orderly_end_of_the_gate_is_no_try(gate):
    """Restarted more often than a job is tried: it is still its first try."""
    g = ml_gate(gate)
    c = g.client(TRAIN_KEY)
    j = ask(c, config(c, **SLOW_CONFIG), SLOW_FRAME)
    for _ in range(4):
        running(c, j["job_id"])
        assert attempts(g, j["job_id"]) == 1
        g.stop()
        assert attempts(g, j["job_id"]) == 0
        g.start()
        c = g.client(TRAIN_KEY)
    running(c, j["job_id"])
    assert c.delete(f"/api/v1/jobs/{j['job_id']}").status_code == 204


def test_three_ends_of_the_engine_are_enough(gate):
    """Where the training has it for itself."""
    g = ml_gate(gate)
    c = g.client(TRAIN_KEY)
    j = ask(c, config(c, **SLOW_CONFIG), SLOW_FRAME)
    for n in range(1, 4):
        g.wait_log(lambda r: r["event"] == "job.started" and r["job"] == j["job_id"] and r["attempt"] == n, START_S)
        server = until(lambda: len(p := engine_pids(g)) == 3 and p[0], START_S, "the training's process")
        os.kill(server, signal.SIGKILL)
    end = ended(c, j["job_id"])
    assert end["status"] == "failed" and "3 times" in one(end["error"]) and attempts(g, j["job_id"]) == 3
    until(lambda: not spool(g), 5 * SLOW, "the spool being empty")
    assert models(g) == [] and c.get(f"/api/v1/artifacts/{j['model_artifact_id']}").status_code == 404


@pytest.mark.parametrize("work", ["upload", "prediction"])
def test_what_others_do_in_the_engine_costs_a_training_no_try(gate, work):
    """A prediction or a body that ended the engine ended the training beside it, and after three of them that had failed for good."""
    g = ml_gate(gate)
    c = g.client(TRAIN_KEY, timeout=60 * SLOW)
    model = trained(c, config(c))
    j = ask(c, config(c, **SLOW_CONFIG), SLOW_FRAME)

    def frames(g):
        return sum(name.endswith(".frame") for name in spool(g))

    def predictions():
        return sum(r["event"] == "job.started" and r["kind"] == "predict" for r in g.log(0))
    for _ in range(3):
        running(c, j["job_id"])
        assert attempts(g, j["job_id"]) == 1
        server = until(lambda: len(p := engine_pids(g)) == 3 and p[0], START_S, "the training's process")
        if work == "upload":
            os.kill(server, signal.SIGSTOP)
            s = g.connect()
            s.sendall(request("POST", "/api/v1/ml/$train", [("X-API-Key", TRAIN_KEY), ("Content-Type", "application/json"), ("Content-Length", "100000")]) + b'{"config_id":"')
            time.sleep(0.3)
        else:
            had, begun = frames(g), predictions()
            t = threading.Thread(target=predict, args=(g.client(TRAIN_KEY), model))
            with database(g, "BEGIN IMMEDIATE"):  # between what the engine takes in and what it works out
                t.start()
                until(lambda: frames(g) > had, 5 * SLOW, "its data")
                time.sleep(0.2)  # and the answer
                os.kill(server, signal.SIGSTOP)
            t.join()
            until(lambda: predictions() > begun, 10 * SLOW, "the prediction being begun")
            time.sleep(0.3)
        os.kill(server, signal.SIGKILL)
        if work == "upload":
            s.settimeout(10 * SLOW)
            assert s.recv(100).split()[1] in (b"502", b"503")
            s.close()
        until(lambda: attempts(g, j["job_id"]) == 0, 5 * SLOW, "the job being put back")
    running(c, j["job_id"])
    assert attempts(g, j["job_id"]) == 1 and c.delete(f"/api/v1/jobs/{j['job_id']}").status_code == 204


class Crowd:
    """Takes every connection that the engine has, and each that becomes free."""

    def __init__(self, path):
        self.path, self.of, self.end = str(path), [], threading.Event()
        self.thread = threading.Thread(target=self.run)

    def take(self):
        s = socket.socket(socket.AF_UNIX)
        s.setblocking(False)
        if s.connect_ex(self.path):
            s.close()
            return None
        with contextlib.suppress(OSError):
            s.send(b"POST /predict HTTP/1.1\r\n")
        return s

    def run(self):
        while not self.end.wait(0.002):
            sent_away = select.select(self.of, [], [], 0)[0]
            for s in sent_away:
                s.close()
                self.of.remove(s)
            if len(self.of) < 300 and (s := self.take()):
                self.of.append(s)

    def __enter__(self):
        self.thread.start()
        until(lambda: len(self.of) >= 255, 10 * SLOW, "the engine being full")

    def __exit__(self, *_):
        self.end.set()
        self.thread.join()
        for s in self.of:
            s.close()


def test_an_engine_without_room_is_waited_for(gate):
    """All its connections are taken, as by many slow bodies: jobs wait, and that is no try of theirs."""
    g = ml_gate(gate)
    c = g.client(TRAIN_KEY)
    slow, cid = config(c, **SLOW_CONFIG), config(c)
    sent_away = 0
    for _ in range(5):  # the job may be faster than the crowd
        first, second = ask(c, slow, SLOW_FRAME), ask(c, cid)
        running(c, first["job_id"])
        [path] = (g.dir / "data/run").rglob("*.sock")
        with Crowd(path):
            assert c.delete(f"/api/v1/jobs/{first['job_id']}").status_code == 204
            time.sleep(4)
            sent_away = sum(r["event"] == "job.engine" and r["job"] == second["job_id"] and "429" in r["why"] for r in g.log())
            assert not sent_away or status(c, second["job_id"]) in ("pending", "running")
        assert ended(c, second["job_id"])["status"] == "completed" and attempts(g, second["job_id"]) == 1
        if sent_away >= 3:
            return
    assert sent_away >= 3, "it was never without room"


# ------------------------------------------------------------------------------------------------ the spool

def test_an_emptied_spool_is_no_wait_for_ever(gate):
    """What waited and ran when the gate ended, and whose data is gone since, fails."""
    g = ml_gate(gate)
    c = g.client(TRAIN_KEY)
    jobs = [ask(c, config(c, **SLOW_CONFIG), SLOW_FRAME)["job_id"], ask(c, config(c))["job_id"]]
    running(c, jobs[0])
    g._clients.clear()
    g.kill()
    for p in (g.dir / "data/spool").iterdir():
        p.unlink()
    g.start()
    c = g.client(TRAIN_KEY)
    for j in jobs:
        end = ended(c, j, 15)
        assert end["status"] == "failed" and one(end["error"])


def test_a_spool_under_another_name(gate):
    """A container is started anew: its host's name and the folder's path are others, the data is the same. Its jobs go on."""
    g = ml_gate(gate)
    c = g.client(TRAIN_KEY)
    slow, cid = config(c, **SLOW_CONFIG), config(c)
    first, second = ask(c, slow, SLOW_FRAME), ask(c, cid)
    running(c, first["job_id"])
    g.stop()
    (g.dir / "data/spool").rename(g.dir / "data/elsewhere")
    g.write_config(toml={**g.toml, "ml": {"spool": "data/elsewhere"}})
    g.start()
    c = g.client(TRAIN_KEY)
    running(c, first["job_id"])
    assert c.delete(f"/api/v1/jobs/{first['job_id']}").status_code == 204
    assert ended(c, second["job_id"])["status"] == "completed"


def test_a_spool_that_two_gates_have(gate):
    """As in a change of hands: who holds it runs what the other one takes in, also where nobody tells him; and the other one goes on when he has ended."""
    g = ml_gate(gate)
    c = g.client(TRAIN_KEY)
    trained(c, config(c))
    other = ml_gate(gate, toml={"store": {"url": f"sqlite:{g.dir / 'data/tollgate.db'}"}, "ml": {"spool": str(g.dir / "data/spool")}})
    o = other.client(TRAIN_KEY)
    slow = ask(o, config(o, **SLOW_CONFIG), SLOW_FRAME)
    until(lambda: status(o, slow["job_id"]) == "running", 20 * SLOW, "the job running")
    until(lambda: len(engine_pids(g)) == 3 and len(engine_pids(other)) == 2, 5 * SLOW, "its process, at the gate that holds the spool")
    g.stop()
    until(lambda: status(o, slow["job_id"]) == "running" and len(engine_pids(other)) == 3, 20 * SLOW, "the job running at the other gate")
    assert o.delete(f"/api/v1/jobs/{slow['job_id']}").status_code == 204


# ------------------------------------------------------------------------------------------------ a full disk

LIBC = ctypes.CDLL(None, use_errno=True)
NEWNS, PRIVATE = 0x20000, 0x44000  # CLONE_NEWNS; MS_REC | MS_PRIVATE


class Volumes:
    """A gate whose spool and folder of models are file systems of their own, small ones in memory, which nobody but it sees."""
    FOLDERS = {"spool": "data/spool", "models": "artifacts/models"}

    def __init__(self, g):
        self.g = g
        g.start, start = self.start, g.start
        self._start, self.fault = start, None
        g.start()

    def _mounted(self, wait):
        try:
            for args in ((b"none", b"/", None, PRIVATE, None), *((b"none", str(self.g.dir / f).encode(), b"tmpfs", 0, b"size=4m,mode=0700") for f in self.FOLDERS.values())):
                if LIBC.mount(*args) != 0:
                    raise OSError(ctypes.get_errno(), "mount")
            self._start(wait)
        except Exception as e:
            self.fault = e

    def start(self, wait=True):
        for f in self.FOLDERS.values():
            (self.g.dir / f).mkdir(parents=True, exist_ok=True)

        def run():  # a thread of its own, whose mounts end with the gate that it starts
            if LIBC.unshare(NEWNS) != 0:
                self.fault = OSError(ctypes.get_errno(), "unshare")
            else:
                self._mounted(wait)
        t = threading.Thread(target=run)
        t.start()
        t.join()
        if isinstance(self.fault, OSError):
            pytest.skip(f"no file system can be mounted here: {self.fault}")
        if self.fault:
            raise self.fault

    def folder(self, which):
        return Path(f"/proc/{self.g.pid}/root{self.g.dir}") / self.FOLDERS[which]

    def names(self, which):
        return sorted(p.name for p in self.folder(which).iterdir() if not p.name.startswith("."))

    @contextlib.contextmanager
    def full(self, which):
        filler = self.folder(which) / ".filler"
        with open(filler, "wb", buffering=0) as f, contextlib.suppress(OSError):
            while True:
                f.write(b"x" * 4096)
        try:
            yield
        finally:
            filler.unlink()


@pytest.fixture(scope="module")
def small(module_gate):
    v = Volumes(ml_gate(module_gate, start=False, toml={"ml": {"threads": 1}}))
    c = v.g.client(TRAIN_KEY)
    frame = {"columns": ["a", "y"], "data": [[i * 37 % 1009, i % 101] for i in range(2000)]}
    cid = config(c)
    return v, c, cid, frame, trained(c, cid, frame)


FUTURE_ROWS = {"columns": ["a"], "data": [[i] for i in range(2000)]}


@contextlib.contextmanager
def untouched(v, c, cid, frame):
    """Nothing ends by it, nothing is left of it, and afterwards it works again."""
    engines, before = engine_pids(v.g), v.names("models")
    yield
    until(lambda: not v.names("spool"), 5 * SLOW, "the spool being empty")
    assert v.g.alive() and engine_pids(v.g) == engines and v.names("models") == before
    assert [p.name for p in v.folder("models").iterdir() if p.name.startswith(".")] in ([".lock"], [])
    j = ask(c, cid, frame)
    assert ended(c, j["job_id"])["status"] == "completed"
    assert set(v.names("models")) == set(before) | set(pair(j))


def failed(c, id):
    end = ended(c, id)
    assert end["status"] == "failed", end
    return one(end["error"])


def test_no_room_for_a_body(small):
    """503, try again later: no fault of the client's, and no answer that was not understood."""
    v, c, cid, frame, model = small
    with untouched(v, c, cid, frame), v.full("spool"):
        for r in (train(c, cid, frame), predict(c, model, FUTURE_ROWS)):
            assert r.status_code == 503 and int(r.headers["retry-after"]) >= 1 and r.json()["code"] == "UNAVAILABLE" and "/" not in r.json()["detail"], r.text
    assert [x["reason"] for x in v.g.log(0.2) if x.get("status") == 503][-2:] == ["spool_full"] * 2
    assert 'tollgate_refusals_total{reason="spool_full"} 2' in v.g.client(ADMIN).get("/metrics").text


def test_no_room_for_what_the_engine_makes(small):
    """The model's file: a failed job, and no half file."""
    v, c, cid, frame, model = small
    zygote = engine_pids(v.g)[1]
    with untouched(v, c, cid, frame):
        os.kill(zygote, signal.SIGSTOP)  # no training is begun until its data is there and the rest is full
        try:
            j = ask(c, cid, frame)
            running(c, j["job_id"])
            with v.full("spool"):
                os.kill(zygote, signal.SIGCONT)
                assert "model" in failed(c, j["job_id"])
        finally:
            os.kill(zygote, signal.SIGCONT)
        assert c.get(f"/api/v1/artifacts/{j['model_artifact_id']}").status_code == 404


def test_no_room_for_predictions(small):
    """There is room for the table, and none for the result beside it."""
    v, c, cid, frame, model = small
    filler = v.folder("spool") / ".filler"
    with untouched(v, c, cid, frame):
        try:
            for room in range(16, 400, 8):  # KiB; a table that has room is followed by a result that has not
                filler.write_bytes(b"x" * ((4 << 20) - room * 1024))
                r = predict(c, model, FUTURE_ROWS)
                if r.status_code == 202:
                    break
                assert r.status_code == 503, r.text
            assert "result" in failed(c, r.json()["job_id"])
            assert c.get(f"/api/v1/artifacts/{r.json()['prediction_artifact_id']}").status_code == 404
        finally:
            filler.unlink()


def held(c, id):
    until(lambda: "cannot be stored now" in c.get(f"/api/v1/jobs/{id}").json()["message"], 20 * SLOW, "the job waiting for room")


def test_no_room_in_the_model_store(small):
    """A training that was good waits with what it has learned, and is not made again when there is room. One that waits can be canceled."""
    v, c, cid, frame, model = small
    with untouched(v, c, cid, frame):
        with v.full("models"):
            canceled = ask(c, cid, frame)
            held(c, canceled["job_id"])
            assert status(c, canceled["job_id"]) == "running" and c.delete(f"/api/v1/jobs/{canceled['job_id']}").status_code == 204
            j = ask(c, cid, frame)
            held(c, j["job_id"])
            assert {f"{j['job_id']}.frame", f"{j['job_id']}.tgm"} <= set(v.names("spool"))
        assert ended(c, j["job_id"])["status"] == "completed"
        assert sum(x["event"] == "job.started" and x["job"] == j["job_id"] for x in v.g.log(0.2)) == 1
        assert c.delete(f"/api/v1/artifacts/{j['model_artifact_id']}").status_code == 204


def test_no_room_in_the_model_store_for_good(gate):
    """S4-61: it waits as long as a job may take. Then it is no fault of the data (400): 503, and the trail says why. Next time there is room and it goes well."""
    v = Volumes(ml_gate(gate, start=False, toml={"ml": {"threads": 1, "job_seconds": 3}, "limits": {"poll": "off", "train": "off"}}))
    c = v.g.client(TRAIN_KEY)
    body = {"data": {"columns": ["a", "y"], "data": [[1, 0], [2, 1]] * 20}}
    assert c.post("/train", json=body, timeout=60 * SLOW).status_code == 200
    with v.full("models"):
        r = c.post("/train", json=body, timeout=60 * SLOW)
    assert r.status_code == 503 and r.json()["error"] == "UNAVAILABLE" and r.headers["retry-after"], r.text
    assert one(r.json()["message"]).startswith("The model could not be stored: ") and "No space left" in r.text
    event = wait_event(v.g, "training_failed")
    assert "No space left" in event["error"] and "/" not in event["error"]
    assert not v.names("spool")
    assert c.post("/train", json=body, timeout=60 * SLOW).status_code == 200
