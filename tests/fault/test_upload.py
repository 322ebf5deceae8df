"""
Bodies on their way through the gate to the engine, when something goes wrong on either side: slow and vanishing clients, an engine that is killed or stands still. What must hold: the client is told the truth at
once, the gate stays small, and nothing of the body is left. (Seed ledger S3-60; issue "Train and predict behind the same door": back-pressure, chunked bodies.)
"""
import json
import signal
import ssl
import threading
import time
from pathlib import Path

import pytest
from lib.gate import READ
from lib.ml import FRAME, FUTURE, KEYS, NOTHING, TRAIN_KEY, config, ended, frame_text, ml_gate, predict, signal_engine, spool, train, trained
from lib.raw import SLOW, exchange, rss_kb, until
from lib.tls import Door, client, tls_gate
from lib.wire import answers, request

TRAIN = "/api/v1/ml/$train"
LAST = request("GET", "/health", [("Connection", "close")], None)


@pytest.fixture(scope="module")
def g(module_gate):
    return ml_gate(module_gate, toml={"server": {"body_idle_ms": 1500}, "ml": {"max_body_bytes": 1 << 20}})


@pytest.fixture(scope="module")
def c(g):
    return g.client(TRAIN_KEY)


@pytest.fixture(scope="module")
def cid(c):
    cid = config(c)
    assert ended(c, train(c, cid).json()["job_id"])["status"] == "completed"  # the engine runs
    return cid


def body_of(cid, frame=FRAME):
    return json.dumps({"config_id": cid, "data": frame}).encode()


def head(length=None, *more):
    lines = [("X-API-Key", TRAIN_KEY), ("Content-Type", "application/json"), *more]
    lines.append(("Transfer-Encoding", "chunked") if length is None else ("Content-Length", str(length)))
    return request("POST", TRAIN, lines, None)


def chunks(data, size):
    return b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in (data[i:i + size] for i in range(0, len(data), size))) + b"0\r\n\r\n"


def read_answer(s, timeout=10):
    s.settimeout(timeout * SLOW)
    out = b""
    while True:
        try:
            got = s.recv(1 << 16)
        except ConnectionResetError:
            return out
        if not got:
            return out
        out += got
        done = [a for a in answers(out) if a.status >= 200]
        if done and b"\r\n\r\n" in out and done[0].body:
            return out


def final(out):
    return next(a for a in answers(out) if a.status >= 200)


@pytest.mark.parametrize("size", [1, 7, 65536])
def test_chunked_bodies(g, c, cid, size):
    data = body_of(cid)
    r = exchange(g, head() + chunks(data, size) + LAST, timeout=5 * SLOW)
    assert r.statuses == [202, 200], r.raw
    assert ended(c, json.loads(r.answers[0].body)["job_id"])["status"] == "completed"


def test_a_slow_client_is_waited_for(g, c, cid):
    """Piece by piece, with a request behind it on the same connection: both are answered, in order."""
    data = body_of(cid)
    pieces = [head(len(data)), *(data[i:i + 60] for i in range(0, len(data) - 60, 60)), data[len(data) - len(data) % 60 if len(data) % 60 else -60:] + LAST]
    assert b"".join(pieces) == head(len(data)) + data + LAST
    r = exchange(g, pieces, timeout=5 * SLOW, pause=0.05)
    assert r.statuses == [202, 200] and b"healthy" in r.raw


def test_behind_a_body_that_came_with_its_head(g, cid):
    data = body_of(cid)
    assert exchange(g, (head(len(data)) + data) * 2 + LAST, timeout=5 * SLOW).statuses == [202, 202, 200]
    assert exchange(g, head() + chunks(data, 50) + LAST, timeout=5 * SLOW).statuses == [202, 200]


def test_a_stalled_client(g, cid):
    r = exchange(g, head(5000) + body_of(cid)[:100], timeout=5 * SLOW)
    assert r.statuses == [408] and r.closed
    until(lambda: not spool(g), 5 * SLOW, "the spool being empty")


def test_expect_continue(g, c, cid):
    """100 comes when the engine is there to take the body; what is refused before that never asks for it."""
    data = body_of(cid)
    with g.connect() as s:
        s.sendall(head(len(data), ("Expect", "100-continue")))
        s.settimeout(5 * SLOW)
        assert s.recv(1000).startswith(b"HTTP/1.1 100 ")
        s.sendall(data)
        assert final(read_answer(s)).status == 202
    r = exchange(g, head((1 << 20) + 1, ("Expect", "100-continue")), timeout=3 * SLOW)
    assert r.statuses == [413] and not r.interim and r.closed
    r = exchange(g, request("POST", TRAIN, [("Content-Type", "application/json"), ("Content-Length", "10"), ("Expect", "100-continue")], None), timeout=3 * SLOW)
    assert r.statuses == [401] and not r.interim


def test_over_the_bound(g):
    """413: at once where the length is announced, in the middle where it is not."""
    big = b'{"config_id":"x","data":' + frame_text(60000, 3) + b"}"
    assert len(big) > 1 << 20
    r = exchange(g, head(len(big)), timeout=3 * SLOW)
    assert r.statuses == [413] and str(1 << 20) in r.raw.decode()
    r = exchange(g, head() + chunks(big, 50000), timeout=5 * SLOW)
    assert r.statuses == [413] and r.closed and str(1 << 20) in r.raw.decode()
    until(lambda: not spool(g), 5 * SLOW, "the spool being empty")


@pytest.mark.parametrize("bad", [b"zz\r\n", b"5\r\nabcdefg\r\n", b"5\nabcde\r\n"])
def test_bad_chunks(g, bad):
    r = exchange(g, head() + b"1\r\n{\r\n" + bad, timeout=3 * SLOW)
    assert r.statuses == [400] and r.closed
    until(lambda: not spool(g), 5 * SLOW, "the spool being empty")


def test_a_client_that_leaves(g, cid):
    """Its engine's connection ends with it: nothing of the body stays, and it is on record."""
    with g.connect() as s:
        s.sendall(head(1 << 19) + body_of(cid, json.loads(frame_text(2000)))[:60000])
        time.sleep(0.2)
    r = g.wait_log(lambda r: r.get("reason") == "client_gone" and r["endpoint"] == TRAIN)
    assert r["status"] == 499
    until(lambda: not spool(g), 5 * SLOW, "the spool being empty")
    assert not [line for line in open("/proc/net/unix") if str(g.dir / "data/run") in line and line.split()[5] == "03"], "a connection to the engine is still open"


def test_a_fault_in_a_large_body_is_told_at_once(gate):
    """400 for a row near the beginning, while most of the body has not been sent; what the client still sends is taken until it has read that."""
    g = ml_gate(gate)
    c = g.client(TRAIN_KEY)
    cid = config(c)
    body = b'{"config_id":"' + cid.encode() + b'","data":{"columns":["a","b","c"],"data":[[1,2,3],[1,2],' + frame_text(1000000, 3)[40:]
    assert len(body) > 25e6
    sent, done = [0], threading.Event()
    with g.connect(timeout=20 * SLOW) as s:
        s.sendall(head(len(body)))

        def send():
            try:
                for i in range(0, len(body), 1 << 16):
                    s.sendall(body[i:i + (1 << 16)])
                    sent[0] = i
            except OSError:
                pass
            done.set()
        t = threading.Thread(target=send)
        t.start()
        a = final(read_answer(s, 15))
        assert a.status == 400 and "data.data[1]" in json.loads(a.body)["detail"]
    t.join(20 * SLOW)
    assert sent[0] < len(body) - (1 << 20), "the whole body was taken"
    until(lambda: not spool(g), 5 * SLOW, "the spool being empty")


def big_body(cid, rows=950000):
    return b'{"config_id":"' + cid.encode() + b'","data":' + frame_text(rows, 4) + b"}"


def test_the_gate_stays_small(gate):
    """40 MB go through it: at most 4 MiB more than before, also while the engine stands still in the middle, and then the client is not read."""
    g = ml_gate(gate)
    c = g.client(TRAIN_KEY, timeout=60 * SLOW)
    cid = config(c)
    assert ended(c, train(c, cid).json()["job_id"])["status"] == "completed"
    body = big_body(cid)
    assert len(body) > 40e6
    before, top, stop = rss_kb(g.pid), [0], threading.Event()

    def watch():
        while not stop.wait(0.005):
            top[0] = max(top[0], rss_kb(g.pid))
    w = threading.Thread(target=watch)
    w.start()
    sent = [0]
    try:
        with g.connect(timeout=60 * SLOW) as s:
            s.sendall(head(len(body)))
            half = len(body) // 2
            s.sendall(body[:half])
            signal_engine(g, signal.SIGSTOP)

            def rest():
                for i in range(half, len(body), 1 << 16):
                    s.sendall(body[i:i + (1 << 16)])
                    sent[0] = i
            t = threading.Thread(target=rest)
            t.start()
            time.sleep(0.7)
            at = sent[0]
            time.sleep(0.3)
            assert sent[0] == at < len(body) - (4 << 20), "nobody takes it, and it is read all the same"
            signal_engine(g, signal.SIGCONT)
            a = final(read_answer(s, 30))
            t.join(30 * SLOW)
        assert a.status == 202
    finally:
        stop.set()
        w.join()
        signal_engine(g, signal.SIGCONT)
    grown = top[0] - before
    if SLOW == 1:  # sanitizers keep what was freed
        assert grown <= 4096, f"grew by {grown} KiB"
    assert c.delete(f"/api/v1/jobs/{json.loads(a.body)['job_id']}").status_code == 204


def unread(s):
    """Bytes of a client's connection that have arrived at the gate and were not read."""
    ours, theirs = s.getsockname()[1], s.getpeername()[1]
    for row in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, remote, queues = row.split()[1], row.split()[2], row.split()[4]
        if int(local.split(":")[1], 16) == theirs and int(remote.split(":")[1], 16) == ours:
            return int(queues.split(":")[1], 16)
    return 0


def test_a_client_that_leaves_while_it_is_held_back(gate):
    """Nothing is read from it then, and its leaving is seen all the same: as soon as its last byte has arrived, for that is what TCP tells."""
    g = ml_gate(gate)
    c = g.client(TRAIN_KEY)
    cid = config(c)
    assert ended(c, train(c, cid).json()["job_id"])["status"] == "completed"
    try:
        signal_engine(g, signal.SIGSTOP)
        with g.connect() as s:
            body = big_body(cid, 30000)
            s.sendall(head(len(body)))
            for at in range(0, len(body) - 8192, 8192):
                s.sendall(body[at:at + 8192])
                time.sleep(0.005)
                if unread(s) and all(time.sleep(0.05) or unread(s) for _ in range(5)):
                    break
            else:
                pytest.fail("it was never held back")
        assert g.wait_log(lambda r: r.get("reason") == "client_gone" and r["endpoint"] == TRAIN, 5 * SLOW)["status"] == 499
    finally:
        signal_engine(g, signal.SIGCONT)
    until(lambda: not spool(g), 10 * SLOW, "the spool being empty")


def test_an_engine_that_stands_still(gate):
    """504 when it takes nothing for body_idle_ms, and when it has everything and does not answer."""
    g = ml_gate(gate, toml={"server": {"body_idle_ms": 700}})
    c = g.client(TRAIN_KEY)
    cid = config(c)
    assert ended(c, train(c, cid).json()["job_id"])["status"] == "completed"
    try:
        signal_engine(g, signal.SIGSTOP)
        r = train(c, cid)
        assert r.status_code == 504 and r.json()["code"] == "GATEWAY_TIMEOUT"
        body = big_body(cid, 100000)
        r = exchange(g, head(len(body)) + body, timeout=6 * SLOW)
        assert r.statuses == [504] and r.closed
    finally:
        signal_engine(g, signal.SIGCONT)


def test_an_engine_that_is_killed(gate):
    """In the middle of a body: 503 with Retry-After, and the next training runs in a new engine."""
    g = ml_gate(gate)
    c = g.client(TRAIN_KEY, timeout=60)
    cid = config(c)
    assert ended(c, train(c, cid).json()["job_id"])["status"] == "completed"
    with g.connect() as s:
        s.sendall(head(1 << 20) + body_of(cid)[:-1])
        time.sleep(0.2)
        signal_engine(g, signal.SIGKILL)
        a = final(read_answer(s))
        assert a.status == 503 and b"The engine ended; try again." in a.body and int(a.header("Retry-After")) >= 1
    r = until(lambda: (r := train(c, cid)).status_code == 202 and r, 20 * SLOW, "the engine being back", 0.3)
    assert ended(c, r.json()["job_id"])["status"] == "completed"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def test_through_tls(gate, version):
    """10 MB in records, held back in the middle: what lies inside the library is not forgotten, and a client that leaves is seen."""
    g = tls_gate(gate, env=KEYS)
    door = Door(g, ctx=client(version=version))
    c = g.client(TRAIN_KEY, url=f"http://127.0.0.1:{g.port}", timeout=60 * SLOW)
    cid = config(c)
    assert ended(c, train(c, cid).json()["job_id"])["status"] == "completed"
    body = big_body(cid, 250000)
    with door.connect(timeout=60 * SLOW) as s:
        s.sendall(head(len(body)))
        s.sendall(body[:1000])
        time.sleep(0.1)
        signal_engine(g, signal.SIGSTOP)
        t = threading.Thread(target=s.sendall, args=(body[1000:],))
        t.start()
        time.sleep(0.4)
        assert t.is_alive()
        signal_engine(g, signal.SIGCONT)
        t.join(30 * SLOW)
        a = final(read_answer(s, 30))
    assert a.status == 202
    assert c.delete(f"/api/v1/jobs/{json.loads(a.body)['job_id']}").status_code == 204
    with door.connect() as s:
        s.sendall(head(len(body)) + body[:200000])
        time.sleep(0.2)
    assert g.wait_log(lambda r: r.get("reason") == "client_gone" and r["endpoint"] == TRAIN, 5 * SLOW)["status"] == 499
    until(lambda: not spool(g), 10 * SLOW, "the spool being empty")


def predict_head(key, length):
    return request("POST", "/api/v1/ml/$predict", [("X-API-Key", key), ("Content-Type", "application/json"), ("Content-Length", str(length))], None)


def test_one_key_leaves_places_for_others(gate):
    """Bodies that never end take a key's own places at the engine and nobody else's: others go on at once, its own are told to come again."""
    g = ml_gate(gate, toml={"limits": {"poll": "off", "train": "off", "predict": "off"}})
    c = g.client(TRAIN_KEY, timeout=30 * SLOW)
    cid = config(c)
    model = trained(c, cid)
    held = []
    try:
        for _ in range(300):
            s = g.connect()
            s.sendall(predict_head(READ, 100000) + b'{"model_artifact_id":')
            held.append(s)
        for _ in range(5):
            r = predict(c, model)
            assert r.status_code == 202, r.text
            assert c.post("/predict", json={"model_id": model, "data": FUTURE}).status_code == 200
        r = predict(g.client(READ, timeout=30 * SLOW), model)
        assert r.status_code == 429 and r.json()["code"] == "RATE_LIMITED" and "being taken in" in r.json()["detail"] and int(r.headers["retry-after"]) >= 1, r.text
        assert g.record(r)["reason"] == "too_many_uploads"
    finally:
        for s in held:
            s.close()
    assert until(lambda: predict(g.client(READ, timeout=30 * SLOW), model).status_code == 202, 20 * SLOW, "its places being free")


def test_many_small_bodies_at_once(gate):
    """More than a key has places for: they wait for each other, and all are taken."""
    g = ml_gate(gate, toml={"limits": {"poll": "off", "train": "off", "predict": "off"}})
    c = g.client(TRAIN_KEY)
    model = trained(c, config(c))
    body = json.dumps({"model_artifact_id": model, "historic": NOTHING, "future": FUTURE}).encode()
    held = [g.connect(timeout=30 * SLOW) for _ in range(200)]
    for s in held:
        s.sendall(predict_head(READ, len(body)) + body)
    statuses = []
    for s in held:
        statuses.append(int(s.recv(4096).split()[1]))
        s.close()
    assert set(statuses) == {202}


def test_bodies_of_clients_that_left(gate):
    """Whenever a client leaves, before its answer or in the middle of it: a job, or nothing of its data."""
    g = ml_gate(gate, toml={"limits": {"poll": "off", "train": "off", "api": "off"}})
    c = g.client(TRAIN_KEY)
    cid = config(c)
    trained(c, cid)
    body = body_of(cid)
    for i in range(200):
        with g.connect() as s:
            s.sendall(head(len(body)) + body)
            time.sleep(i % 20 * 0.0003)

    def without_a_job():
        files = {name[:26] for name in spool(g)}
        return files - {j["id"] for j in c.get("/api/v1/jobs").json()}
    until(lambda: not without_a_job(), 10 * SLOW, "data of no job being gone")
    until(lambda: all(j["status"] in ("completed", "failed") for j in c.get("/api/v1/jobs").json()), 60 * SLOW, "the jobs' end")
    until(lambda: not spool(g), 5 * SLOW, "the spool being empty")  # a job's files go after its row is written
