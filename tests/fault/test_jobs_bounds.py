"""
What bounds the queue of jobs, seen from outside: the bytes of its spool. (Issue "Train and predict behind the same door": jobs; seed ledger S3-61, S3-62.)
"""
import contextlib
import time
from concurrent.futures import ThreadPoolExecutor

from lib import credit
from lib.ml import NOTHING, SLOW_CONFIG, TRAIN_KEY, config, ended, ml_gate, predict, slow_frame, spool, train, trained
from lib.raw import SLOW, until

SLOW_FRAME = slow_frame()  # 10 columns of 20,000 numbers: 1.6 MB in the spool


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
    time.sleep(1.2)  # what the engine saw there may be a second old
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
