"""
POST /train with a form (multipart/form-data, RFC 7578): what curl -F, requests and httpx send, and what nobody's library sends but somebody's program does. (Document 004, seed ledger S4-41, S4-73, S4-76: the same table by
another way makes the same model, and a fault is named where it is.)
"""
import re
import subprocess
import threading
import time

import httpx
import pytest
import requests
from lib.audit import events
from lib.credit import KEY, credit_gate, csv, loans
from lib.ml import spool
from lib.raw import SLOW, exchange, rss_kb, until
from lib.wire import request

TABLE = csv(loans())
B = "xYz"
WANT = {"model_type": "xgboost", "target": "loan_status", "test_size": 0.25, "random_state": 42, "cv_folds": 2, "undersample": False, "selected_features": None}
FIELDS = {"model_type": "xgboost", "target": "loan_status", "test_size": "0.25", "cv_folds": "2"}


@pytest.fixture(scope="module")
def g(module_gate):
    return credit_gate(module_gate, toml={"ml": {"max_body_bytes": 4 << 20}}, files={"loans.csv": TABLE, "crlf.csv": TABLE.replace("\n", "\r\n"), "none.csv": ""})


@pytest.fixture(scope="module")
def c(g):
    return g.client(KEY)


@pytest.fixture(scope="module")
def plain(g, c):
    """The same table and options as CSV with a query string: the reply, and the digest of the data."""
    r = c.post("/train", params=FIELDS, content=TABLE.encode(), headers={"content-type": "text/csv"}, timeout=60 * SLOW)
    assert r.status_code == 200 and r.json()["training_config"] == WANT, r.text
    return r.json(), digest(g, r.headers["x-request-id"])


def digest(g, rid):
    return next(e["dataset_hash"] for e in events(g, "training_started") if e["request_id"] == rid)


def same(g, plain, status, headers, body):
    assert status == 200, body
    assert body["metrics"] == plain[0]["metrics"] and body["training_config"] == WANT and digest(g, headers["x-request-id"]) == plain[1]


def fault(r, field, why="", status=400):
    b = r.json()
    assert r.status_code == status and b["error"] == "VALIDATION_ERROR", r.text
    assert b["message"].startswith(f"Validation error on {field}: ") and why in b["message"], r.text


def part(name, text, *more, filename=None):
    lines = [f'Content-Disposition: form-data; name="{name}"' + (f'; filename="{filename}"' if filename is not None else ""), *more]
    return "\r\n".join(lines) + "\r\n\r\n" + text


def table(text=TABLE, *more, name="file"):
    return part(name, text, *more, filename="loans.csv")


def form(*parts, b=B):
    return ("".join(f"--{b}\r\n{p}\r\n" for p in parts) + f"--{b}--\r\n").encode()


def post(c, body, b=B, path="/train", **params):
    return c.post(path, content=body, params=params, headers={"content-type": f"multipart/form-data; boundary={b}"}, timeout=60 * SLOW)


# ---- what people use ----

def curl(g, *args, path="/train"):
    out = subprocess.run(["curl", "-sS", "-i", "--noproxy", "*", "-H", f"Authorization: Bearer {KEY}", *args, g.url + path], cwd=g.dir, capture_output=True, text=True, timeout=120 * SLOW, check=True).stdout
    while re.match(r"HTTP/1.1 1\d\d", out):
        out = out.partition("\n\n")[2] if "\r\n\r\n" not in out else out.partition("\r\n\r\n")[2]
    head, _, body = out.replace("\r\n", "\n").partition("\n\n")
    lines = head.split("\n")
    headers = {k.lower(): v.strip() for k, _, v in (x.partition(":") for x in lines[1:])}
    return httpx.Response(int(lines[0].split()[1]), headers={k: v for k, v in headers.items() if k != "content-length"}, text=body)


def test_curl(g, plain):
    """curl -F, fields before and behind the file, in the query string too, the file typed or as a text, CRLF or LF, in chunks, after 100-continue."""
    options = [f"-F{k}={v}" for k, v in FIELDS.items()]
    ways = [["-F", "file=@loans.csv", *options], [*options, "-F", "file=@loans.csv;type=text/csv"], [options[0], "-F", "file=<loans.csv", *options[1:]], ["-F", "file=@crlf.csv;type=application/vnd.ms-excel", *options],
            [*options, "-F", "file=@loans.csv;filename=\"a;b\\\"c.csv\"", "-H", "Transfer-Encoding: chunked"], [*options, "-F", "file=@loans.csv", "-H", "Expect: 100-continue"]]
    for way in ways:
        r = curl(g, *way)
        same(g, plain, r.status_code, r.headers, r.json())
    r = curl(g, "-F", "file=@loans.csv", *options[1:], path="/train/?model_type=xgboost")
    same(g, plain, r.status_code, r.headers, r.json())
    fault(curl(g, "-F", "file=@none.csv"), "file", "has no header row")
    fault(curl(g, "-F", "data=@loans.csv"), "data", "is a file of another name; the part with the table must be called file")
    fault(curl(g, *options), "file", "is required")
    fault(curl(g, "-F", "file=@loans.csv;encoder=base64"), "file", "Content-Transfer-Encoding")
    assert not spool(g)


def test_requests(g, plain):
    auth = {"Authorization": f"Bearer {KEY}"}
    with requests.Session() as s:
        s.trust_env = False
        with open(g.dir / "loans.csv", "rb") as f:
            r = s.post(g.url + "/train", files={"file": f}, data=FIELDS, headers=auth, timeout=60 * SLOW)
        same(g, plain, r.status_code, r.headers, r.json())
        r = s.post(g.url + "/train", files={"file": ("x.csv", TABLE, "text/csv"), **{k: (None, v) for k, v in FIELDS.items()}}, headers=auth, timeout=60 * SLOW)
        same(g, plain, r.status_code, r.headers, r.json())
        r = s.post(g.url + "/train", files=[("file", ("a.csv", TABLE)), ("file", ("b.csv", TABLE))], headers=auth, timeout=60 * SLOW)
        fault(r, "file", "is given twice")
        r = s.post(g.url + "/train", files={"file": ("x.csv", TABLE)}, data={"target": ["loan_status", "loan_status"]}, headers=auth, timeout=60 * SLOW)
        fault(r, "target", "is given twice")


def test_httpx(g, c, plain):
    r = c.post("/train", files={"file": ("loans.csv", TABLE.encode())}, data=FIELDS, timeout=60 * SLOW)
    same(g, plain, r.status_code, r.headers, r.json())
    r = c.post("/train", files={"file": ("loans.xlsx", b"PK\x03\x04")}, data=FIELDS)
    fault(r, "file", "must be CSV: its Content-Type text/csv")


def test_the_job_is_like_any_other(c):
    """Prefer holds here too."""
    r = c.post("/train", files={"file": ("loans.csv", TABLE.encode())}, headers={"Prefer": "respond-async"})
    assert r.status_code == 202 and r.json()["kind"] == "credit_train" and r.headers["preference-applied"] == "respond-async"
    until(lambda: c.get(r.headers["location"]).json()["status"] == "completed", 30 * SLOW, "the training")


# ---- options ----

def test_options_are_those_of_a_query_string(g, c):
    """The same names, types and faults; and a name is given once, in the form or beside it."""
    small = table("a,b,y\n" + "".join(f"{i % 7},{i % 5},{int(i % 7 > 3)}\n" for i in range(60)))
    for features in ("a", '["a"]'):
        r = post(c, form(part("selected_features", features), small, part("cv_folds", "2"), part("undersample", "true")))
        assert r.status_code == 200 and set(r.json()["feature_importance"]) == {"a"} and r.json()["training_config"]["undersample"] is True, r.text
    for name, value, why in (("cv_folds", "11", "whole number from 2 to 10"), ("colour", "red", "is not known here; known are model_type, task, target"), ("undersample", "maybe", "true or false"), ("target", "zzz", "no column"),
                             ("target", "", "from 1 to 256 bytes"), ("test_size", "0.9", "from 0.1 to 0.5"), ("selected_features", "[1", "array of 1 to 4096"), ("dataset", "loans.csv", "cannot be given together with a file"),
                             ("model_type", "xgboos", "must be one of"), ("data", "{}", "is not known here"), ("cv_folds", "2\r\n\r\n\0", "without NUL"), ("selected_features", "x" * 16384, "longer than 16383 bytes")):
        for body in (form(part(name, value), small), form(small, part(name, value))):
            fault(post(c, body), name, why)
        if "\0" not in value and len(value) < 100:  # and so they are in the query string
            fault(c.post("/train", params={name: value}, content=small.partition("\r\n\r\n")[2].encode(), headers={"content-type": "text/csv"}), name, why.replace("a file", "a body of CSV"))
    fault(post(c, form(small, part("cv_folds", "3")), cv_folds=3), "cv_folds", "is given in the query string and in the form")
    fault(post(c, form(small), colour="red"), "colour", "is not known here")
    fault(post(c, form(part("target", "\udcff").encode("utf-8", "surrogateescape").decode("latin-1"), small).replace(b"\xc3\xbf", b"\xff")), "target", "UTF-8")
    assert not spool(g)


def test_a_name_that_is_empty(c):
    """It is unknown like any other, in whatever it stands."""
    fault(c.post("/train?=5", content=b"a,b\n1,2\n", headers={"content-type": "text/csv"}), '""', "is not known here")
    fault(c.post("/train", json={"": 1, "data": {"columns": ["a", "b"], "data": [[1, 2]]}}), '""', "is not known here")
    fault(post(c, form(part("", "5"), table())), "part 1", "has an empty name")


# ---- bytes ----

def test_what_only_looks_like_a_boundary(g, c, plain):
    """In the table, in front of the first part, behind the last; blanks behind a boundary; nothing but dashes as one."""
    fields = [part(k, v) for k, v in FIELDS.items()]
    alike = '"--xYz\r\n--xYzz\r\n--xY\r\n--xYz z\r\n--xYz--z"'
    text = "a,y,t\r\n" + "".join(f"{i},{i % 2},{alike if i % 3 else 'x'}\r\n" for i in range(60))
    r = post(c, form(part("cv_folds", "2"), part("target", "y"), table(text)))
    assert r.status_code == 200 and r.json()["training_rows"] + r.json()["measured_rows"] == 60 and "t_" + alike.strip('"') not in r.text, r.text
    whole = form(*fields, table())
    for body in (b"to whom it may concern\r\n--xYzz\r\n" + whole, whole + b"--xYz\r\nand so on", whole.replace(b"--xYz\r\n", b"--xYz \t \r\n"), whole[:-2], whole[:-2] + b" "):
        r = post(c, body)
        same(g, plain, r.status_code, r.headers, r.json())
    for b in ("-", "--", "'()+_,-./:=?", "0" * 70, '"a b"'):
        r = post(c, form(*fields, table(), b=b.strip('"')), b=f'"{b}"' if b[0] != '"' else b)
        same(g, plain, r.status_code, r.headers, r.json())


def test_broken_forms(g, c):
    whole = form(part("cv_folds", "2"), table())
    end = "breaks off"
    for body, field, why in ((whole[:-6], "body", end), (whole[:200], "body", end), (whole.replace(b"--xYz--", b"--xYz"), "body", end), (whole.replace(b"\r\n", b"\n"), "body", "ends with LF alone"),
                             (whole.replace(b'"\r\n\r\n', b'"\n\n'), "part 1", "does not end with CRLF"), (b"a,b\n1,2\n", "body", "has no part"), (form(b="other"), "body", "has no part"), (form(), "file", "is required"),
                             (form(table("")), "file", "has no header row"), (form(table("a,b\n1\n")), "row 2", "2 columns were named"), (form(table("a\n\"x")), "row 2, column a", "not closed"),
                             (form("X: y\r\n\r\nz"), "part 1", "has no Content-Disposition"), (form("Content-Disposition: form-data; name=a\r\nX: " + "x" * 5000 + "\r\n\r\n"), "part 1", "more than 4096 bytes"),
                             (form(*(part(f"f{i}", "") for i in range(65))), "body", "has more than 64 parts"), (form(table(TABLE, "Content-Type: text/html")), "file", "must be CSV"),
                             (form(part("target", "a", "Content-Type: image/png"), table()), "target", "must be a text"), (form(table(TABLE, "Content-Transfer-Encoding: base64")), "file", "Content-Transfer-Encoding")):
        fault(post(c, body), field, why)
    until(lambda: not spool(g), 5 * SLOW, "the spool being empty")


def test_boundaries_that_are_none(g, c):
    for b, why in (("", "names a boundary that is none"), ("0" * 71, "1 to 70"), ('"a "', "not at its end"), ("a{b", "none"), ('"a', "cannot be read"), ("a; boundary=a", "two boundaries")):
        fault(post(c, form(table(), b="a"), b=b), "Content-Type", why)
    fault(c.post("/train", content=b"x", headers={"content-type": "multipart/form-data"}), "Content-Type", "names no boundary")
    for t in ("multipart/mixed; boundary=a", "application/x-www-form-urlencoded", "text/plain"):
        r = c.post("/train", content=b"x", headers={"content-type": t})
        assert r.status_code == 415 and "application/json, text/csv or multipart/form-data" in r.json()["message"]
    for path in ("/predict", "/api/v1/ml/$train"):  # files are for /train alone
        assert g.client(KEY if path == "/predict" else None).post(path, content=form(table()), headers={"content-type": f"multipart/form-data; boundary={B}"}).status_code in (415, 401)


def test_wherever_it_is_cut(g):
    """In two pieces at each place of the end, in chunks of one byte, all at once with its head: the answer is the same."""
    body = form(part("target", "nobody"), table("a,b\r\n1,2\r\n"))
    lines = [("X-API-Key", KEY), ("Content-Type", f"multipart/form-data; boundary={B}"), ("Connection", "close")]
    head = request("POST", "/train", [*lines, ("Content-Length", str(len(body)))], None)
    for at in [0, 1, 2, 5, 30, *range(len(body) - 40, len(body))]:
        r = exchange(g, [head + body[:at], body[at:]], timeout=10 * SLOW, pause=0.01)
        assert r.statuses == [400] and b"no column of the data" in r.raw, (at, r.raw)
    chunked = request("POST", "/train", [*lines, ("Transfer-Encoding", "chunked")], None)
    r = exchange(g, chunked + b"".join(b"1\r\n%c\r\n" % x for x in body) + b"0\r\n\r\n", timeout=10 * SLOW)
    assert r.statuses == [400] and b"no column of the data" in r.raw, r.raw
    r = exchange(g, head + body[:-30], timeout=1)  # who leaves in the middle
    assert r.statuses == [] or r.statuses == [408]
    until(lambda: not spool(g), 40 * SLOW, "the spool being empty")


def test_bounds_of_the_body(g, c):
    big = form(table("a,y\n" + "1,0\n" * (1 << 20)))
    assert len(big) > 4 << 20
    r = post(c, big)
    assert r.status_code == 413 and r.json()["error"] == "VALIDATION_ERROR"
    r = post(c, (big[i:i + 65536] for i in range(0, len(big), 65536)))
    assert r.status_code == 413


def test_a_fault_is_told_before_the_end(g):
    """The client still sends when the answer comes."""
    body = form(table("a,b\n1\n" + "1,2\n" * 200000))
    head = request("POST", "/train", [("X-API-Key", KEY), ("Content-Type", f"multipart/form-data; boundary={B}"), ("Content-Length", str(len(body)))], None)
    r = exchange(g, [head, body[:1000]], timeout=5 * SLOW)
    assert r.statuses == [400] and b"row 2" in r.raw and r.seconds < 4 * SLOW


@pytest.mark.release_only  # memory
def test_the_gate_stays_small(gate):
    """S3-60's back-pressure: 30 MB of a form go through it, and it grows by 4 MiB at most."""
    g = credit_gate(gate)
    c = g.client(KEY)
    assert post(c, form(table())).status_code == 200  # what comes while the engine is on its way; now it runs
    body = form(part("model_type", "nobody"), table("a,y\n" + "12.5,0\n" * 4300000))
    before, top, stop = rss_kb(g.pid), [0], threading.Event()

    def watch():
        while not stop.wait(0.005):
            top[0] = max(top[0], rss_kb(g.pid))
    w = threading.Thread(target=watch)
    w.start()
    start = time.monotonic()
    try:
        r = post(c, body)
    finally:
        stop.set()
        w.join()
    fault(r, "model_type", "must be one of")
    assert top[0] - before < 4096 * SLOW and time.monotonic() - start < 60 * SLOW
