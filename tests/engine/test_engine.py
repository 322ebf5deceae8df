"""
tollgate-engine by itself (docs/engine.md): document 003's data from intake to prediction, every fault of a body and of a request, trainings that are cancelled, killed or too large, model files that are
not what they were, many predictions at once, and that nothing of it is ever left behind.
"""
import concurrent.futures
import hashlib
import json
import os
import select
import signal
import socket
import stat
import subprocess
import sys

import pytest

from lib.engine import FUTURE, PREDICTED, TRAIN, Engine, children, gone, long_data, ulid, until
from lib.gate import BINARY, ROOT, clean_env
from lib.raw import SLOW, rss_kb


def peak_kb(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmHWM"))


@pytest.fixture
def engine(tmp_path):
    made = []

    def make(*args, **kw):
        folder = tmp_path / str(len(made))
        (folder / "datasets").mkdir(parents=True)
        made.append(Engine(folder, *args, **kw))
        return made[-1]
    yield make
    for e in made:
        e.stop()


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engine")
    (folder / "datasets").mkdir()
    e = Engine(folder)
    yield e
    e.stop()


@pytest.fixture(scope="module")
def forest():
    return json.dumps({"data": long_data()}).encode()


# ------------------------------------------------------------------------------------------------ the way through

def test_003_from_intake_to_prediction(one):
    """S3-54: the future's columns and sample_0, one row each. S3-55: least squares of the document's own numbers. S3-72: what was written as 110.0 stays it, predictions are floats. S3-67: historic may
    have no rows."""
    a, b = ulid(1), ulid(2)
    r = one.intake("train", a, {"config_id": "c", "data": TRAIN})
    assert r.status_code == 200, r.text
    assert r.json()["members"] == {"config_id": "c"}
    assert r.json()["frame"]["rows"] == 8 and [c["name"] for c in r.json()["frame"]["columns"]] == TRAIN["columns"]
    assert [c["integers"] for c in r.json()["frame"]["columns"]] == [False, False, True]
    lines = one.train(a, target="disease_cases")
    assert [x["progress"] for x in lines[:-1]] == sorted(x["progress"] for x in lines[:-1]) and len(lines) > 1
    result = lines[-1]["result"]
    assert result["file"] == f"{a}.tgm" and result["rows"] == 8 and result["about"]["target"] == "disease_cases"
    assert result["bytes"] == (one.spool / result["file"]).stat().st_size
    os.rename(one.spool / result["file"], one.models / "golden.tgm")
    assert one.intake("predict", b, {"historic": {"columns": FUTURE["columns"], "data": []}, "future": FUTURE}).status_code == 200
    got = one.predict(b, "golden.tgm", result["sha256"])["result"]
    assert got["rows"] == 4 and got["positive"] is None and got["loaded"] is True
    text = (one.spool / got["file"]).read_text()
    assert len(text) == got["bytes"] and "[110.0,26.0,13.0" in text
    frame = json.loads(text)
    assert frame["columns"] == ["rainfall", "mean_temperature", "sample_0"]
    assert [row[:2] for row in frame["data"]] == FUTURE["data"]
    assert [row[2] for row in frame["data"]] == pytest.approx(PREDICTED, abs=1e-9)
    assert one.predict(b, "golden.tgm", result["sha256"])["result"]["loaded"] is False
    for job in (a, b):
        assert one.client.post("/forget", json={"job": job}).json()["removed"] == len(FUTURE["columns"]) - (job == a), "the frame, and the result of b"
        assert one.left(job) == []


@pytest.mark.parametrize("method", ["logistic_regression", "xgboost", "random_forest"])
def test_each_method_of_classification(one, method):
    job, ask, name = ulid(10), ulid(11), f"{method}.tgm"
    data = {"columns": ["a", "b", "y"], "data": [[i % 7, i % 3, int(i % 7 > 3)] for i in range(200)]}
    result = one.model(job, name, method, "y", data=data, test_size=0.2, cv_folds=3)
    assert result["report"]["metrics"]["roc_auc"] > 0.9
    one.intake("predict", ask, {"historic": {"columns": ["a", "b"], "data": []}, "future": {"columns": ["a", "b"], "data": [[6, 1], [0, 1]]}})
    got = one.predict(ask, name, result["sha256"], threshold=0.5)["result"]
    assert got["positive"] == 1
    high, low = (row[2] for row in json.loads((one.spool / got["file"]).read_text())["data"])
    assert high > 0.5 > low


def settled(e, job, file, frame, **more):
    """Predicts with a file of the folder of models: the last line."""
    assert e.intake("predict", job, {"historic": {"columns": [], "data": []}, "future": frame}).status_code == 200
    return e.predict(job, file, hashlib.sha256((e.models / file).read_bytes()).hexdigest(), **more)


def sample(e, got):
    return [row[-1] for row in json.loads((e.spool / got["result"]["file"]).read_text())["data"]]


@pytest.mark.parametrize("method", ["xgboost", "random_forest"])
def test_trees_of_numbers(one, method):
    """The task is the target's, or what is asked for; a prediction is a number, and there is no threshold to be above."""
    rows = [[i % 7, i % 3, 100 + 10 * (i % 7) + i % 3] for i in range(200)]
    result = one.model(ulid(12), f"numbers-{method}.tgm", method, "y", data={"columns": ["a", "b", "y"], "data": rows}, test_size=0.2, cv_folds=3)
    about, report = result["about"], result["report"]
    assert (about["task"], about["classes"], about["threshold"]) == ("regression", None, None) and report["task"] == "regression"
    assert set(report["metrics"]) == {"rmse", "mae", "r2"} and report["metrics"]["r2"] > 0.9 and len(report["cv"]["rmse"]) == 3 and "optimal_threshold" not in report
    future = {"columns": ["a", "b"], "data": [[6, 1], [0, 1]]}
    got = settled(one, ulid(13), f"numbers-{method}.tgm", future)
    assert got["result"]["positive"] is None and sample(one, got) == pytest.approx([161, 101], abs=8)
    assert one.intake("credit-predict", ulid(13), {"data": future}).status_code == 200
    got = one.predict(ulid(13), f"numbers-{method}.tgm", result["sha256"], **{"as": "applications"})["result"]
    assert [list(x) for x in json.loads((one.spool / got["file"]).read_text())] == [["application", "prediction"]] * 2
    # asked for
    two = {"columns": ["a", "y"], "data": [[i % 7, int(i % 7 > 3)] for i in range(100)]}
    for task, says in ((None, "classification"), ("classification", "classification"), ("regression", "regression")):
        assert one.model(ulid(14), "task.tgm", method, "y", data=two, task=task)["about"]["task"] == says
    assert one.intake("train", ulid(14), {"data": {"columns": ["a", "y"], "data": [r[1:] for r in rows]}}).status_code == 200
    assert one.train(ulid(14), method, "y", task="classification")[-1]["error"] == "The target y has more than two values; a classification is between two."


def test_numbers_that_cannot_be_measured(one):
    """A residual past a double is no lack of memory."""
    rows = [[i, (-1) ** (i // 3) * (1.7e308 if i in (4, 9) else i)] for i in range(20)]
    job = ulid(16)
    assert one.intake("train", job, {"data": {"columns": ["a", "y"], "data": [[y, x] for x, y in rows]}}).status_code == 200
    errors = {one.train(job, target="y", seed=seed, test_size=0.5)[-1].get("error") for seed in range(12)}
    assert "The numbers are too large to measure the model with." in errors and "There is not enough memory." not in errors, errors


def test_models_of_earlier_versions(one):
    """What the first version wrote is read and predicts what it said there; what a later one wrote is refused by its head."""
    folder = ROOT / "tests/engine/models"
    said = json.loads((folder / "version_1.json").read_text())
    for method, want in said["predictions"].items():
        data = (folder / f"version_1_{method}.tgm").read_bytes()
        assert data[:8] == b"TGMODEL1"
        (one.models / "old.tgm").write_bytes(data)
        got = settled(one, ulid(15), "old.tgm", {"columns": said["columns"], "data": said["data"]})
        assert sample(one, got) == pytest.approx(want, rel=1e-9) and (got["result"]["positive"] is None) == (method == "linear_regression"), method
        (one.models / "later.tgm").write_bytes(b"TGMODEL3" + data[8:])
        assert settled(one, ulid(15), "later.tgm", {"columns": said["columns"], "data": said["data"]})["refused"] == "The model was made by a later version of Tollgate."


def test_applications(one):
    """Document 004's answer: what was sent, the decision by the threshold, the probability unless it is not wanted."""
    application = {"person_age": 30, "person_income": 50000, "person_emp_length": 4, "loan_amnt": 1000, "loan_int_rate": 10.5, "loan_percent_income": 0.1, "cb_person_cred_hist_length": 3,
                   "person_home_ownership": "RENT", "loan_intent": "MEDICAL", "loan_grade": "A", "cb_person_default_on_file": "N"}
    columns = [*application, "loan_status"]
    rows = [[*{**application, "loan_int_rate": 5 + i % 15}.values(), int(i % 15 > 8)] for i in range(150)]
    job, ask = ulid(20), ulid(21)
    result = one.model(job, "credit.tgm", "logistic_regression", "loan_status", data={"columns": columns, "data": rows})
    bad = {**application, "loan_int_rate": 19}
    r = one.intake("credit-predict", ask, {"model_id": "x", "applications": [application | {"loan_int_rate": 5}, bad]})
    assert r.status_code == 200 and r.json()["members"] == {"model_id": "x"}, r.text
    got = one.predict(ask, "credit.tgm", result["sha256"], **{"as": "applications"})["result"]
    assert got["rows"] == 2 and got["positive"] == 1
    good_row, bad_row = json.loads((one.spool / got["file"]).read_text())
    assert bad_row["application"] == bad and bad_row["predicted_default"] is True and good_row["predicted_default"] is False
    assert bad_row["confidence"] == pytest.approx(max(bad_row["default_probability"], 1 - bad_row["default_probability"]))
    got = one.predict(ask, "credit.tgm", result["sha256"], **{"as": "applications", "threshold": 0.0, "include_probabilities": False})["result"]
    rows = json.loads((one.spool / got["file"]).read_text())
    assert got["positive"] == 2 and [x["default_probability"] for x in rows] == [None, None]


def test_applications_of_a_model_of_numbers(one):
    """They have a prediction instead of a decision."""
    ask = ulid(23)
    result = one.model(ulid(22), "golden2.tgm")
    one.intake("credit-predict", ask, {"data": FUTURE})
    got = one.predict(ask, "golden2.tgm", result["sha256"], **{"as": "applications"})["result"]
    assert got["positive"] is None and got["rows"] == len(FUTURE["data"])
    rows = json.loads((one.spool / got["file"]).read_text())
    assert [list(r) for r in rows] == [["application", "prediction"]] * got["rows"] and rows[0]["application"] == dict(zip(FUTURE["columns"], FUTURE["data"][0]))
    assert [r["prediction"] for r in rows] == pytest.approx([13.046377, 8.628929, 16.566732, 6.420205], abs=1e-6)


def test_columns_that_were_coded_before_training(one):
    """A feature C_V that is not there says whether the text in C is V: the same numbers as with the coded columns, for texts the training never had and for nulls too; the longest C counts."""
    values, rows = ["A", "B", "C_C", None, "Z"], []
    for i in range(200):
        v = values[i % 4]
        rows.append([i % 13, *(int(v == w) for w in ("A", "B", "C_C")), int((i % 13) + 4 * (v == "B") + 2 * (v == "C_C") > 9)])
    data = {"columns": ["n", "loan_grade_A", "loan_grade_B", "loan_grade_C_C", "y"], "data": rows}
    job, ask = ulid(24), ulid(25)
    for method in ("logistic_regression", "xgboost"):
        result = one.model(job, f"coded-{method}.tgm", method, "y", data=data)
        texts = {"columns": ["loan", "loan_grade", "n"], "data": [["x", v, n] for v in values for n in (3, 9)]}
        coded = {"columns": ["loan", *data["columns"][:4]], "data": [["x", n, *(int(v == w) for w in ("A", "B", "C_C"))] for v in values for n in (3, 9)]}
        out = []
        for frame in (texts, coded):
            assert one.intake("credit-predict", ask, {"data": frame}).status_code == 200
            got = one.predict(ask, f"coded-{method}.tgm", result["sha256"], **{"as": "applications"})["result"]
            out.append([r["default_probability"] for r in json.loads((one.spool / got["file"]).read_text())])
        assert out[0] == out[1] and len(set(out[0])) > 3, method
    lacking = {"columns": ["loan_grade_A", "loan_grad", "n"], "data": [[1, "B", 1]]}
    assert one.intake("credit-predict", ask, {"data": lacking}).status_code == 200
    assert one.predict(ask, "coded-xgboost.tgm", result["sha256"], **{"as": "applications"})["error"] == "The column loan_grade_B is missing."


def test_data_sets(one):
    (one.datasets / "d.csv").write_text("a,y\n" + "".join(f"{i},{2 * i}\n" for i in range(20)))
    os.symlink("/etc/passwd", one.datasets / "link.csv")
    job = ulid(30)
    r = one.client.post(f"/dataset/{job}", json={"name": "d.csv"})
    assert r.status_code == 200 and r.json()["frame"]["rows"] == 20 and r.json()["members"] == {}
    assert one.train(job)[-1]["result"]["rows"] == 20
    for name in ("none.csv", "link.csv"):
        assert (one.client.post(f"/dataset/{job}", json={"name": name}).status_code, one.client.post(f"/dataset/{job}", json={"name": name}).json()["field"]) == (404, "dataset")
    for name in ("../s", "/etc/passwd", ".hidden", "", 1, None):
        assert one.client.post(f"/dataset/{job}", json={"name": name}).status_code == 400, name


# ------------------------------------------------------------------------------------------------ faults

@pytest.mark.parametrize("body,field", [
    ({"data": {"columns": ["a", "b"], "data": [[1, 2], [1]]}}, "data.data[1]"),
    ({"data": {"columns": ["a"], "data": [[[1]]]}}, "data.data[0][0]"),
    ({"data": {"columns": [], "data": []}}, "data.columns"),
    ({"config_id": "c"}, "data"),
])
def test_faults_of_a_body(one, body, field):
    job = ulid(40)
    r = one.intake("train", job, body)
    assert r.status_code == 400 and r.json()["field"] == field and r.json()["why"], r.text
    assert one.left(job) == []


def test_a_fault_is_told_before_the_body_ends(one):
    """The rest is not waited for: the answer comes while the sender is still at it."""
    got = one.raw(f"POST /intake/train/{ulid(41)} HTTP/1.1\r\nHost: e\r\nContent-Length: 100000\r\n\r\n".encode() + b'{"data":{"columns":["a"],"data":[[1],[{')
    assert got.startswith(b"HTTP/1.1 400 ") and b"Connection: close" in got and b"data.data[1]" in got


def test_forms(one):
    """The boundary stands in the target, in hexadecimal; what is none is the gate's fault."""
    b = "'()+_,-./:=? x"
    body = f'--{b}\r\nContent-Disposition: form-data; name=y\r\n\r\n1\r\n--{b}\r\nContent-Disposition: form-data; name=file; filename=""\r\n\r\na,b\n1,2\n\r\n--{b}--\r\n'.encode()
    r = one.intake("form", ulid(44), body, boundary=b.encode().hex())
    assert r.status_code == 200 and r.json()["members"] == {"y": "1"} and r.json()["frame"]["rows"] == 1 and r.json()["bytes"] == len(body), r.text
    assert r.json()["hash"] == one.intake("csv", ulid(45), b"a,b\n1,2\n").json()["hash"]
    assert one.intake("form", ulid(46), (body[i:i + 1] for i in range(len(body))), boundary=b.encode().hex()).json()["hash"] == r.json()["hash"]
    r = one.intake("form", ulid(47), body, boundary=b.encode().hex(), max_bytes=len(body) - 1)
    assert r.status_code == 413
    r = one.intake("form", ulid(47), body, boundary="78")
    assert r.status_code == 400 and r.json()["why"].startswith("has no part"), r.text
    for bad in ("", "7", "7g", "7A", "20", "0a", "22", "78" * 71, "7820"):
        r = one.intake("form", ulid(47), body, boundary=bad)
        assert r.status_code == 400 and r.json()["error"].startswith("boundary: "), (bad, r.text)
    assert one.left(ulid(47)) == []


def test_whose_key(one):
    """Seed ledger S3-80: X-Tollgate-Key-Prefix, nine characters at the most, goes with what is done; one that the gate would not send is no request."""
    job, head = ulid(48), {"X-Tollgate-Key-Prefix": "sk_ml_tra"}
    assert one.client.post(f"/intake/train/{job}", json={"data": TRAIN}, headers=head).status_code == 200
    assert one.client.post("/train", json=one.plan(job), headers=head | {"X-Tollgate-Key-Prefixes": "other"}).status_code == 200
    said = one.stderr()
    assert f"tollgate-engine: {job}: data of 8 rows, key sk_ml_tra\n" in said and f"tollgate-engine: {job}: training by linear_regression, key sk_ml_tra\n" in said and "other" not in said
    one.client.post("/train", json=one.plan(job))  # on the same connection, without one
    assert one.stderr().endswith(f"{job}: training by linear_regression\n")
    for k, v in (("x-tollgate-key-prefix", "a b???c-d"), ("X-Tollgate-Key-Prefix", "***")):
        assert one.client.post("/train", json=one.plan(job), headers={k: v}).status_code == 200
        assert one.stderr().endswith(f", key {v}\n")
    for v in (b"sk_ml_trai", b"a\tb", b"\xc3\xbc", b"12345\r\nX-Tollgate-Key-Prefix: 67890"):
        assert one.raw(b"GET /health HTTP/1.1\r\nHost: e\r\nX-Tollgate-Key-Prefix: " + v + b"\r\nConnection: close\r\n\r\n").startswith(b"HTTP/1.1 400 "), v


def test_too_large(one):
    body = json.dumps({"data": TRAIN}).encode()
    assert one.intake("train", ulid(42), body, max_bytes=len(body)).status_code == 200
    r = one.intake("train", ulid(43), body, max_bytes=len(body) - 1)
    assert r.status_code == 413 and str(len(body) - 1) in r.json()["why"]
    r = one.intake("train", ulid(43), (body[i:i + 50] for i in range(0, len(body), 50)), max_bytes=len(body) - 1)  # in chunks: its length is known at its end
    assert r.status_code == 413 and one.left(ulid(43)) == []
    assert one.intake("train", ulid(43), (body[i:i + 1] for i in range(len(body))), max_bytes=len(body)).status_code == 200


PREDICTS, WIDE = b'{"historic":{"columns":["a"],"data":[]},"future":{"columns":["a"],"data":[', [f"c{i}" for i in range(4096)]
SHAPES = {
    "digits": ("predict", PREDICTS, b"[1]," * 65536),
    "words": ("predict", PREDICTS, lambda k: b"".join(b'["%x"],' % (40000 * k + i) for i in range(40000))),
    "nulls": ("predict", PREDICTS, b"[null]," * 40000),
    "one word": ("predict", PREDICTS, b'["x"],' * 40000),
    "wide": ("predict", json.dumps({"historic": {"columns": ["a"], "data": []}}).encode()[:-1] + b',"future":{"columns":' + json.dumps(WIDE).encode() + b',"data":[', (b"[" + b"1," * 4095 + b"1],") * 16),
    "wide csv": ("csv", ",".join(WIDE).encode() + b"\n", (b"1," * 4095 + b"1\n") * 32),
    "texts of csv": ("csv", b"a,b\n", lambda k: b"".join(b"%d,x%020d\n" % (i, 40000 * k + i) for i in range(40000))),
}


class Body:
    """A body of a shape on its way, of which as much is sent as is asked for."""
    def __init__(self, e, shape, job, owner=""):
        kind, head, self.piece = SHAPES[shape]
        self.n = self.sent = 0
        self.s = socket.socket(socket.AF_UNIX)
        self.s.settimeout(20)
        self.s.connect(str(e.socket))
        self.s.sendall(f"POST /intake/{kind}/{job}?max_bytes=1000000000&owner={owner} HTTP/1.1\r\nHost: e\r\nContent-Length: 1000000000\r\n\r\n".encode() + head)

    def send(self, most):
        """False: it has been answered."""
        while self.sent < most:
            p = self.piece if isinstance(self.piece, bytes) else self.piece(self.n)
            self.n += 1
            try:
                self.s.sendall(p)
            except OSError:
                return False
            self.sent += len(p)
            if select.select([self.s], [], [], 0)[0]:
                return False
        return not select.select([self.s], [], [], 0.3 * SLOW)[0]

    def answer(self):
        out = b""
        while b"\r\n\r\n" not in out or not out.endswith(b"}\n"):
            piece = self.s.recv(65536)
            assert piece, out
            out += piece
        self.s.close()
        return int(out.split()[1]), json.loads(out.split(b"\r\n\r\n")[1])


@pytest.mark.parametrize("shape", SHAPES)
def test_memory_is_what_counts(engine, shape):
    """Whatever the shape of a body, what the engine holds of it is within the bound and not far under it; and nothing is left."""
    e = engine("--intake-mib", "96")
    assert e.intake("train", ulid(1), {"data": TRAIN}).status_code == 200
    before = rss_kb(e.proc.pid)
    b = Body(e, shape, ulid(2))
    assert not b.send(200 << 20), "it was taken for ever"
    status, said = b.answer()
    assert status == 413 and said["field"] == "" and "(48 MiB)" in said["why"], said
    grown = peak_kb(e.proc.pid) - before
    if SLOW == 1:  # sanitizers keep what was freed
        assert 16 << 10 <= grown <= 56 << 10, f"{grown >> 10} MiB of {b.sent >> 20} MiB"
    assert e.left(ulid(2)) == []
    for i in range(4):  # nor is the memory of those before it counted any more
        b = Body(e, shape, ulid(3 + i))
        assert b.send(2 << 20), b.answer()
        b.s.close()


def test_one_key_leaves_room_for_others(engine):
    """What all hold together is bounded, and what one owner holds is half of it: 429, and when bodies are gone there is room again."""
    e = engine("--intake-mib", "40")
    each = 2 << 20  # [1], is 12 to 20 bytes with its line: 6 to 10 MiB
    mine = [Body(e, "digits", ulid(i), "key_a") for i in range(3)]
    assert mine[0].send(each) and not (mine[1].send(each) and mine[2].send(each))
    full = next(b for b in mine[1:] if select.select([b.s], [], [], 0)[0])
    status, said = full.answer()
    assert (status, said["field"]) == (429, "owner") and "one key" in said["why"], said
    other = Body(e, "digits", ulid(5), "key_b")
    assert other.send(each), other.answer()
    third = [Body(e, "digits", ulid(6 + i), f"key_{i}") for i in range(5)]
    refused = [b.answer() for b in third if not b.send(each)]
    assert refused and all((status, said["field"]) == (429, "") and "so much data" in said["why"] for status, said in refused), refused
    assert e.client.get("/health").status_code == 200
    for b in (*mine, other, *third):
        b.s.close()
    until(lambda: (b := Body(e, "digits", ulid(12), "key_a")).send(each) or b.s.close(), why="room")
    assert e.intake("train", ulid(13), {"data": TRAIN}, owner="key_b").status_code == 200


@pytest.mark.parametrize("path,body", [
    ("/train", {"job": "../x"}), ("/train", {"job": "01ktest0000000000000000000"}), ("/train", {"method": "magic"}), ("/train", {"target": 3}), ("/train", {"features": []}),
    ("/train", {"features": [1]}), ("/train", {"task": "clustering"}), ("/train", {"task": 1}), ("/train", {"task": ""}), ("/train", {"seed": -1}), ("/train", {"seed": 2**32}), ("/train", {"seed": 1.5}), ("/train", {"test_size": 0.05}), ("/train", {"test_size": "x"}),
    ("/train", {"cv_folds": 1}), ("/train", {"cv_folds": 11}), ("/train", {"undersample": 1}),
    ("/predict", {"model": "a/b.tgm"}), ("/predict", {"model": ".."}), ("/predict", {"model": 3}), ("/predict", {"sha256": "00"}), ("/predict", {"sha256": "G" * 64}), ("/predict", {"as": "x"}),
    ("/predict", {"threshold": 1.5}), ("/predict", {"threshold": "x"}), ("/predict", {"include_probabilities": 1}), ("/predict", {"job": None}), ("/forget", {"job": "01"}), ("/forget", {"job": "*"}),
])
def test_bad_requests(one, path, body):
    """They are the gate's own: 400, in words that name the member."""
    good = {"/train": one.plan(ulid(50)), "/predict": {"job": ulid(50), "model": "m.tgm", "sha256": "0" * 64, "as": "frame"}, "/forget": {}}[path]
    r = one.client.post(path, json={**good, **body})
    assert r.status_code == 400 and r.json()["error"].startswith(next(iter(body))), r.text


def test_bad_http(one):
    for data in (b"HELLO\r\n\r\n", b"GET /" + b"x" * 600 + b" HTTP/1.1\r\n\r\n", b"GET /health HTTP/1.1\r\n" + b"A: " + b"x" * 20000 + b"\r\n\r\n",
                 b"POST /train HTTP/1.1\r\nHost: e\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"):
        assert one.raw(data).startswith(b"HTTP/1.1 400 "), data[:40]
    assert one.raw(b"POST /train HTTP/1.1\r\nHost: e\r\nContent-Length: 3\r\nConnection: close\r\n\r\n[1]").startswith(b"HTTP/1.1 400 ")
    assert one.client.post("/train", content=b" " * (5 << 20)).status_code == 413
    for method, path in (("GET", "/nothing"), ("GET", "/train"), ("POST", "/health"), ("POST", "/intake/train"), ("POST", f"/intake/none/{ulid(1)}"), ("POST", "/intake/train/../x")):
        assert one.client.request(method, path).status_code == 404, path
    assert one.client.get("/health").json() == {"status": "ok"}


def test_errors_are_sentences(one):
    job = ulid(60)
    assert one.train(ulid(61))[-1]["error"], "there is no such frame"
    one.intake("train", job, {"data": TRAIN})
    assert "nobody" in one.train(job, target="nobody")[-1]["error"]
    assert "error" in one.predict(ulid(61), "golden3.tgm", one.model(ulid(62), "golden3.tgm")["sha256"])
    one.intake("predict", job, {"historic": {"columns": [], "data": []}, "future": {"columns": ["rainfall"], "data": [[1]]}})
    sha = one.model(ulid(62), "golden3.tgm")["sha256"]
    assert "mean_temperature" in one.predict(job, "golden3.tgm", sha)["error"]
    one.intake("predict", job, {"historic": {"columns": [], "data": []}, "future": {"columns": ["rainfall", "mean_temperature", "sample_0"], "data": [[1, 2, 3]]}})
    assert "sample_0" in one.predict(job, "golden3.tgm", sha)["error"]
    assert not [n for n in one.left(job) if ".tgm" in n or ".out" in n]


def test_a_model_that_is_not_what_it_was(one):
    job = ulid(70)
    data = {"columns": TRAIN["columns"], "data": [[*row[:2], row[2] + 7] for row in TRAIN["data"]]}  # a model that no other test has had loaded
    result = one.model(job, "whole.tgm", data=data)
    whole = (one.models / "whole.tgm").read_bytes()
    one.intake("predict", job, {"historic": {"columns": [], "data": []}, "future": FUTURE})
    for name, data in (("short.tgm", whole[:-1]), ("half.tgm", whole[:len(whole) // 2]), ("empty.tgm", b""), ("other.tgm", whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])):
        (one.models / name).write_bytes(data)
        assert "digest" in one.predict(job, name, result["sha256"])["refused"], name
    assert "not there" in one.predict(job, "none.tgm", result["sha256"])["refused"]
    os.symlink(one.models / "whole.tgm", one.models / "link.tgm")
    assert "refused" in one.predict(job, "link.tgm", result["sha256"])
    # With a digest of its own a damaged file gets further, and is refused by the loader.
    assert "refused" in one.predict(job, "half.tgm", hashlib.sha256(whole[:len(whole) // 2]).hexdigest())
    assert one.predict(job, "whole.tgm", result["sha256"])["result"]["rows"] == 4


def test_ten_predictions_at_once(one):
    result = one.model(ulid(80), "many.tgm", "random_forest", "y", data={"columns": ["a", "y"], "data": [[i, int(i > 50)] for i in range(100)]})
    jobs = [ulid(81 + i) for i in range(10)]
    for job in jobs:
        one.intake("predict", job, {"historic": {"columns": [], "data": []}, "future": {"columns": ["a"], "data": [[i] for i in range(100)]}})

    def ask(job):
        with one.new_client() as client:
            return one.predict(job, "many.tgm", result["sha256"], client)["result"]
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        got = list(pool.map(ask, jobs))
    assert sum(g["loaded"] for g in got) == 1, "it was loaded once, and the others waited for that"
    assert len({(one.spool / g["file"]).read_text() for g in got}) == 1


# ------------------------------------------------------------------------------------------------ trainings that do not end well

def begin(e, job, body, method="random_forest"):
    """A training under way: its stream, once the first line has come."""
    assert e.intake("train", job, body).status_code == 200
    stream = e.client.stream("POST", "/train", json=e.plan(job, method, "y", cv_folds=10))
    r = stream.__enter__()
    lines = r.iter_lines()
    assert "progress" in json.loads(next(lines))
    return stream, lines


def test_who_leaves_cancels(engine, forest):
    e = engine()
    job = ulid(1)
    stream, _ = begin(e, job, forest)
    [child] = e.trainings()
    stream.__exit__(None, None, None)
    e.client.close()
    until(lambda: gone(child), why="the end of the training's process")
    e.client = e.new_client()
    until(lambda: e.left(job) == [f"{job}.frame"], why="nothing but the frame being left")
    assert e.client.get("/health").status_code == 200 and e.trainings() == []


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGSEGV])
def test_a_training_that_is_killed(engine, forest, sig):
    e = engine()
    job = ulid(1)
    stream, lines = begin(e, job, forest)
    [child] = e.trainings()
    os.kill(child, sig)
    *_, last = lines
    stream.__exit__(None, None, None)
    assert json.loads(last) == {"error": f"The training process ended unexpectedly (signal {int(sig)})."} or (sig == signal.SIGSEGV and "unexpectedly" in last)  # ASan turns the signal into an exit
    assert e.left(job) == [f"{job}.frame"]
    assert e.model(ulid(2), "after.tgm")["rows"] == 8
    if sig == signal.SIGSEGV:  # what ASan says of it is no fault of ours
        e.stderr_file.truncate(0)


def test_several_trainings_at_once(engine, forest):
    """Each is a process of its own; ending one leaves the others alone."""
    e = engine("--threads", "1")
    one, lines = begin(e, ulid(1), forest)
    e.client = e.new_client()
    two, _ = begin(e, ulid(2), forest)
    assert len(e.trainings()) == 2
    two.__exit__(None, None, None)
    until(lambda: len(e.trainings()) == 1, why="the end of one")
    assert next(lines), "the other goes on"
    assert e.model(ulid(3), "small.tgm")["rows"] == 8
    one.__exit__(None, None, None)


@pytest.mark.release_only  # a sanitizer's memory is its own
def test_a_training_has_a_bound_of_memory(engine, forest):
    e = engine("--memory-mib", "4", "--threads", "1")
    e.intake("train", ulid(1), forest)
    last = e.train(ulid(1), "random_forest", "y")[-1]
    assert "error" in last and e.left(ulid(1)) == [f"{ulid(1)}.frame"]
    assert e.client.get("/health").status_code == 200


# ------------------------------------------------------------------------------------------------ its life

def test_its_folders_and_its_socket(engine):
    e = engine()
    assert stat.S_IMODE(e.spool.stat().st_mode) == 0o700 and e.models.is_dir()
    assert stat.S_IMODE(e.socket.stat().st_mode) == 0o600
    e.datasets.rmdir()
    second = Engine(e.dir)  # no data sets; the socket file of one that was killed is no hindrance
    r = second.client.post(f"/dataset/{ulid(1)}", json={"name": "d.csv"})
    assert r.status_code == 404 and "no folder" in r.json()["why"]
    second.stop()


def test_term_ends_trainings_too(engine, forest):
    e = engine()
    held = begin(e, ulid(1), forest)
    all_of_it = [e.proc.pid, e.zygote, *e.trainings()]
    assert len(all_of_it) == 3
    e.stop()
    del held
    until(lambda: all(gone(p) for p in all_of_it), why="the end of all processes")


def test_the_end_waits_for_threads_that_end(engine):
    """A connection's thread that had only its end to reach was met there by exit(): once in ten, a sanitizer saw what libcrypto keeps for a thread and nobody gave back."""
    def once(e, n):
        assert e.intake("train", ulid(n), {"data": TRAIN}).status_code == 200
        kept, e.client = e.client, None  # the engine ends the connection, not we
        e.stop()
        kept.close()
    for _ in range(3):
        some = [engine() for _ in range(8)]
        with concurrent.futures.ThreadPoolExecutor(len(some)) as pool:
            list(pool.map(once, some, range(len(some))))


def test_it_ends_with_its_parent(tmp_path):
    e = Engine.__new__(Engine)
    e.dir = tmp_path
    e.spool, e.models, e.datasets, e.socket = (tmp_path / n for n in ("spool", "models", "datasets", "s"))
    parent = subprocess.Popen([sys.executable, "-c", "import subprocess, sys; subprocess.Popen(sys.argv[1:]).wait()", *e.command()], env=clean_env(), stderr=subprocess.DEVNULL)
    until(e.socket.exists, why="the engine's start")
    [pid] = until(lambda: children(parent.pid), why="the engine's process")
    [zygote] = until(lambda: children(pid), why="its zygote")
    parent.kill()
    parent.wait()
    until(lambda: gone(pid) and gone(zygote), why="the end of the engine")


def test_without_its_zygote_it_ends(engine):
    """Then the supervisor starts it again: without one there are no trainings."""
    e = engine()
    os.kill(e.zygote, signal.SIGKILL)
    assert e.proc.wait(20) == 1 and "process that makes the trainings" in e.stderr()
    e.stop(expect=1)


def test_more_connections_than_it_takes(engine):
    e = engine()
    held = []
    for _ in range(256):
        s = socket.socket(socket.AF_UNIX)
        s.connect(str(e.socket))
        held.append(s)
    assert e.raw(b"").startswith(b"HTTP/1.1 429 ")
    held[0].sendall(b"GET /health HTTP/1.1\r\nHost: e\r\n\r\n")
    held[0].settimeout(20)
    assert b"Connection: close" in held[0].recv(4096), "while it is crowded nobody keeps a connection"
    for s in held:
        s.close()
    until(lambda: e.raw(b"GET /health HTTP/1.1\r\nHost: e\r\nConnection: close\r\n\r\n").startswith(b"HTTP/1.1 200 "), why="room")


@pytest.mark.parametrize("args,code,text", [
    (["--help"], 0, "--spool FOLDER"), (["--version"], 0, "tollgate-engine "), ([], 2, "are needed"), (["--threads"], 2, "wants a value"), (["--threads", "x"], 2, "--threads"), (["--what", "x"], 2, "--what"),
])
def test_its_command_line(tmp_path, args, code, text):
    p = subprocess.run([str(BINARY), "engine", "tabular", *args], capture_output=True, text=True, env=clean_env(), timeout=60)
    assert p.returncode == code and text in p.stdout + p.stderr


def test_an_engine_that_is_missing(tmp_path):
    """`tollgate` alone, as on a machine where only it was copied to."""
    alone = tmp_path / "tollgate"
    alone.write_bytes(BINARY.read_bytes())
    alone.chmod(0o755)
    p = subprocess.run([str(alone), "engine", "tabular", "--help"], capture_output=True, text=True, env={**clean_env(), "PATH": str(tmp_path)}, timeout=60)
    assert p.returncode == 1 and "tollgate-engine cannot be run" in p.stderr and str(tmp_path) in p.stderr
    for args in (["engine"], ["engine", "neural"]):
        p = subprocess.run([str(BINARY), *args], capture_output=True, text=True, env=clean_env(), timeout=60)
        assert p.returncode == 2 and "tabular" in p.stderr
