"""
Configurations, artifacts and jobs of document 003 as its clients meet them, without anybody who runs a job: rows of the queue are put into the database from here, as a runner would.
(Seed ledger S3-30, S3-31, S3-37 to S3-50, S3-61 to S3-65, S3-72, S3-83, C-09, C-10, C-15, C-17, C-21, C-42 to C-44.)
"""
import json
import re
import socket
import sqlite3
import threading
import time

import pytest
from lib.audit import events
from lib.gate import ADMIN, READ, ROOT, run_cli
from lib.raw import SLOW, until

KEY = "sk_ml_train_abc123"
OTHERS = [f"sk_ml_other_{n}bc123" for n in "defg"]
CONFIGS, ARTIFACTS, JOBS = "/api/v1/configs", "/api/v1/artifacts", "/api/v1/jobs"
SEED_ID = "01K7CXYHJ7BR4E87VVTG8FNBMA"
ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
SEED = {"id": SEED_ID, "name": "secure_disease_model", "data": {}}
MISSING = "01K7CXYHJ7BR4E87VVTG8FN404"


@pytest.fixture(scope="module")
def g(module_gate):
    g = module_gate(env={"CHAPKIT_API_KEYS": ",".join([KEY, *OTHERS])}, toml={"limits": {"poll": "off"}})
    assert g.client(ADMIN).post("/api/v1/auth/api-keys", json={"name": "k", "permissions": []}).status_code == 201  # the database is made by the first who writes
    return g


@pytest.fixture
def c(g):
    with g.client(KEY) as client:
        yield client


@pytest.fixture
def empty(g, c):
    with sqlite3.connect(g.dir / "data/tollgate.db") as db:
        for table in ("configs", "artifacts", "jobs"):
            db.execute(f"DELETE FROM {table}")
    return c


def ulid(n):
    return f"01K7CXYHJ7BR4E87VVTG{n:06d}"


def add_job(g, job, status="pending", kind="train", at=1760284800000000, **more):
    row = {"id": job, "kind": kind, "status": status, "progress": 0, "message": "", "result": None, "error": None, "spec": "{}", "artifact_id": None, "principal": "p", "key_prefix": "",
           "attempts": 0, "created_at": at, "started_at": None, "finished_at": None, "updated_at": at, **more}
    with sqlite3.connect(g.dir / "data/tollgate.db", timeout=10) as db:
        db.execute(f"INSERT INTO jobs ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", list(row.values()))


def change_job(g, job, **values):
    with sqlite3.connect(g.dir / "data/tollgate.db", timeout=10) as db:
        db.execute(f"UPDATE jobs SET {', '.join(k + ' = ?' for k in values)} WHERE id = ?", [*values.values(), job])


def problem(r, status, kind, title, detail):
    p = r.json()
    assert r.status_code == status and r.headers["content-type"] == "application/problem+json", r.text
    assert (p["type"], p["title"], p["status"], p["instance"]) == (f"urn:chapkit:error:{kind}", title, status, r.request.url.raw_path.decode().split("?")[0]) and re.search(detail, p["detail"]), r.text


# --- the machine -----------------------------------------------------------------------------------------------------------------
def test_system_and_info(g, c):
    """S3-30, S3-31, C-17, C-21: five members for any key, none without one; times are UTC with a Z."""
    assert g.external().get("/api/v1/system").status_code == 401
    for key in (KEY, READ, ADMIN):
        s = g.external(key).get("/api/v1/system").json()
        assert {"current_time", "timezone", "python_version", "platform", "hostname"} <= set(s) and all(isinstance(v, str) and v for v in s.values())
    assert TIME.fullmatch(s["current_time"]) and abs(time.time() - time.mktime(time.strptime(s["current_time"], "%Y-%m-%dT%H:%M:%SZ")) + time.timezone) < 60
    assert s["hostname"] == socket.gethostname() and re.fullmatch(r"\d+\.\d+\.\d+", s["python_version"]) and s["platform"].startswith("Linux-")
    info = c.get("/api/v1/info").json()
    assert info["name"] and info["version"] in run_cli("version", cwd="/").stdout


# --- configs ---------------------------------------------------------------------------------------------------------------------
def test_the_documents_config(g, empty):
    """S3-37 to S3-44, C-43, C-44: the document's command twice, the answer's five members, list, get, put, delete, gone."""
    r = empty.post(CONFIGS, json=SEED)
    made = r.json()
    assert r.status_code == 201 and r.headers["location"] == f"{CONFIGS}/{SEED_ID}"
    assert list(made) == ["id", "name", "data", "created_at", "updated_at"] and {k: made[k] for k in SEED} == SEED
    assert TIME.fullmatch(made["created_at"]) and made["created_at"] == made["updated_at"]
    again = empty.post(CONFIGS, json=SEED)
    assert again.status_code == 200 and again.json()["created_at"] == made["created_at"]
    assert empty.get(CONFIGS).json() == [again.json()] and empty.get(f"{CONFIGS}/{SEED_ID}").json() == again.json()
    with sqlite3.connect(g.dir / "data/tollgate.db") as db:
        db.execute("UPDATE configs SET created_at = created_at - 9000000, updated_at = updated_at - 9000000")
    before = empty.get(f"{CONFIGS}/{SEED_ID}").json()
    put = empty.put(f"{CONFIGS}/{SEED_ID}", json={**before, "name": "other", "data": {"method": "xgboost"}})  # what GET gave can be PUT
    assert put.status_code == 200 and put.json()["created_at"] == before["created_at"] and put.json()["updated_at"] > before["updated_at"]
    assert (put.json()["name"], put.json()["data"]) == ("other", {"method": "xgboost"})
    gone = empty.delete(f"{CONFIGS}/{SEED_ID}")
    assert gone.status_code == 204 and not gone.content and "content-length" not in gone.headers
    for method in ("GET", "DELETE"):
        problem(empty.request(method, f"{CONFIGS}/{SEED_ID}"), 404, "not-found", "Resource Not Found", f"^Entity with id {SEED_ID} not found$")
    problem(empty.put(f"{CONFIGS}/{SEED_ID}", json={"name": "n"}), 404, "not-found", "Resource Not Found", "^Entity with id")


def test_ids(empty):
    """S3-38: an id in lower case is taken and answered in upper case; without one there is one, each greater than those before; in the path either case does."""
    r = empty.post(CONFIGS, json={"id": SEED_ID.lower(), "name": "n"})
    assert r.status_code == 201 and r.json()["id"] == SEED_ID and r.json()["data"] == {}
    assert empty.get(f"{CONFIGS}/{SEED_ID.lower()}").json()["id"] == SEED_ID
    ids = [empty.post(CONFIGS, json={"name": ""}).json()["id"] for _ in range(20)]  # a name may be empty, and the same
    assert all(ULID.fullmatch(i) for i in ids) and sorted(set(ids)) == ids
    assert [x["id"] for x in empty.get(CONFIGS).json()] == [SEED_ID] + ids  # in the order of their making


@pytest.mark.parametrize("path", ["x1", SEED_ID[:-1], SEED_ID + "A", "8" + SEED_ID[1:], SEED_ID[:-1] + "U", "my_config", "%00", "é", "a" * 300])
def test_ids_that_are_none(g, c, path):
    """S3-42: 400 invalid-ulid; of jobs as the origin has it: such a job is not there (404), its stream is 400."""
    if path == "%00":  # which no path may have
        assert c.get(f"{CONFIGS}/%00").status_code == 404
        return
    for base, end in ((CONFIGS, ""), (ARTIFACTS, ""), (JOBS, "/$stream")):
        for method in ("GET", "DELETE") if not end else ("GET",):
            r = c.request(method, f"{base}/{path}{end}")
            problem(r, 400, "invalid-ulid", "Invalid ULID Format", "^Invalid ULID format: ")
            assert r.json()["code"] == "VALIDATION_ERROR"
    for method in ("GET", "DELETE"):
        problem(c.request(method, f"{JOBS}/{path}"), 404, "not-found", "Resource Not Found", "^Job not found$")


def test_what_data_says_is_kept_to_the_letter(empty):
    """S3-72: numbers keep their form, members their order, texts their escapes."""
    text = '{"b": 100.50, "a": 12, "big": 1e2, "t": "\\u00e4\\/ü", "nested": {"z": [1.0, 0.1]}}'
    r = empty.post(CONFIGS, content='{"name": "n", "data": %s }' % text, headers={"Content-Type": "application/json"})
    assert r.status_code == 201 and f'"data":{text},' in r.text and f'"data":{text},' in empty.get(f"{CONFIGS}/{r.json()['id']}").text
    a = empty.post(ARTIFACTS, content='{"data": %s}' % text)  # no Content-Type, as the origin takes it
    assert a.status_code == 201 and f'"data":{text},' in a.text


BAD_CONFIGS = [
    ({}, "name"), ({"name": None}, "name"), ({"name": 5}, "name"), ({"name": "x" * 201}, "name"), ({"name": "a\nb"}, "name"), ({"name": "a\0b"}, "name"),
    ({"name": "n", "id": "x"}, "id"), ({"name": "n", "id": 5}, "id"), ({"name": "n", "id": SEED_ID + "A"}, "id"), ({"name": "n", "data": None}, "data"), ({"name": "n", "data": []}, "data"),
    ({"name": "n", "data": "x"}, "data"), ({"name": "n", "dta": {}}, "dta"), ({"name": "n", "data": {"method": "magic"}}, "data.method"), ({"name": "n", "data": {"method": None}}, "data.method"),
    ({"name": "n", "data": {"target": ""}}, "data.target"), ({"name": "n", "data": {"target": 5}}, "data.target"), ({"name": "n", "data": {"features": []}}, "data.features"),
    ({"name": "n", "data": {"features": [1]}}, "data.features"), ({"name": "n", "data": {"features": ["a", "b", "a"]}}, "data.features[2]"), ({"name": "n", "data": {"features": "a"}}, "data.features"), ({"name": "n", "data": {"seed": -1}}, "data.seed"),
    ({"name": "n", "data": {"seed": 1.5}}, "data.seed"), ({"name": "n", "data": {"seed": 2 ** 32}}, "data.seed"), ({"name": "n", "data": {"test_size": 0.05}}, "data.test_size"),
    ({"name": "n", "data": {"test_size": 0.6}}, "data.test_size"), ({"name": "n", "data": {"cv_folds": 1}}, "data.cv_folds"), ({"name": "n", "data": {"cv_folds": 11}}, "data.cv_folds"),
    ({"name": "n", "data": {"undersample": 1}}, "data.undersample"),
    ({"name": "n", "data": {"method": "xgboost", "task": "clustering"}}, "data.task"),
    ({"name": "n", "data": {"task": "classification"}}, "data.task"),  # the method is linear_regression
    ({"name": "n", "data": {"method": "logistic_regression", "task": "regression"}}, "data.task"),
]


@pytest.mark.parametrize("body,field", BAD_CONFIGS)
def test_bad_configs(c, body, field):
    """C-15: 400 that names the field; nothing is made or changed."""
    before = c.get(CONFIGS).json()
    r = c.post(CONFIGS, json=body)
    problem(r, 400, "validation-failed", "Validation Error", f"^Validation error on {re.escape(field)}: ")
    assert r.json()["error"]["param"] == field and r.json()["code"] == "VALIDATION_ERROR"
    assert c.put(f"{CONFIGS}/{MISSING}", json=body).status_code == 400
    assert c.get(CONFIGS).json() == before


@pytest.mark.parametrize("data", [{"test_size": 0}, {"test_size": 0.1}, {"test_size": 0.5}, {"cv_folds": 0}, {"cv_folds": 10}, {"seed": 0}, {"seed": 2 ** 32 - 1}, {"target": None, "features": None},
                                  {"features": ["a", "b"], "target": "y"}, {"method": "random_forest", "undersample": True}, {"method": "xgboost", "task": "regression"},
                                  {"method": "random_forest", "task": "classification"}, {"method": "logistic_regression", "task": None}, {"anything": {"else": [1, 2]}}])
def test_good_data(c, data):
    """What the engine takes, to its bounds; other members are the caller's own."""
    r = c.post(CONFIGS, json={"name": "n", "data": data})
    assert r.status_code == 201 and r.json()["data"] == data


@pytest.mark.parametrize("body", ["", "[]", "5", "{", '{"name":"n"}x', '{"name":"n","name":"m"}', '{"name":"n","data":{"a":1,"a":2}}', '{"name":"n","data":{"a":NaN}}', '{"name":"\\ud800"}',
                                  '{"name":"n","data":%s}' % ('{"a":' * 70 + "1" + "}" * 70), '{"name":"n","data":{"a":1e999}}'])
def test_bodies_that_are_no_json_object(c, body):
    r = c.post(CONFIGS, content=body, headers={"Content-Type": "application/json"})
    problem(r, 400, "validation-failed", "Validation Error", ".")


@pytest.mark.parametrize("data,field,why", [
    ('{"a":1,"n":{"big":123456789012345678901234567890}}', "data.n.big", "number out of range"), ('{"a":[1e999]}', "data.a", "number out of range"), ('{"a":{"b":1,"b":1}}', "data.a", "a member twice"),
    ('{"a":1,"a":1}', "data", "a member twice"), ('{"b":1,"a":"\\u0000"}', "data.a", "NUL")])
def test_data_that_cannot_be_read_is_named(c, data, field, why):
    """C-15."""
    r = c.post(CONFIGS, content=f'{{"name":"n","data":{data}}}', headers={"Content-Type": "application/json"})
    problem(r, 400, "validation-failed", "Validation Error", f"^Validation error on {re.escape(field)}: .*{why}")
    assert r.json()["error"]["param"] == field


def test_content_types(c):
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        problem(c.post(CONFIGS, content=json.dumps(SEED), headers={"Content-Type": kind}), 415, "unsupported-media-type", "Unsupported Media Type", "application/json")
    assert c.post(CONFIGS, content=json.dumps(SEED), headers={"Content-Type": "application/json; charset=utf-8"}).status_code in (200, 201)


def test_how_large_bodies_may_be(empty):
    """A config's body up to 1 MiB, an artifact's up to 32 MiB, others' as before; one byte more is 413, whether its length was told or not."""
    def body(n):
        return '{"name":"n","data":{"x":"%s"}}' % ("y" * (n - 30))
    for n, status in ((65537, 201), (1 << 20, 201), ((1 << 20) + 1, 413)):
        text = body(n)
        text += " " * (n - len(text))
        r = empty.post(CONFIGS, content=text, headers={"Content-Type": "application/json"})
        assert r.status_code == status, (n, r.text[:200])
        chunked = empty.post(CONFIGS, content=iter([text.encode()]), headers={"Content-Type": "application/json"})
        assert chunked.status_code == status
    big = '{"data":"' + "z" * ((32 << 20) - 11) + '"}'
    made = empty.post(ARTIFACTS, content=big)
    assert made.status_code == 201
    assert empty.post(ARTIFACTS, content=big + " ").status_code == 413
    got = empty.get(f"{ARTIFACTS}/{made.json()['id']}")
    assert got.status_code == 200 and len(got.json()["data"]) == (32 << 20) - 11
    assert empty.post("/api/v1/auth/api-keys", content=b'{"name":"' + b"x" * 70000 + b'"}', headers={"Content-Type": "application/json", "X-API-Key": ADMIN}).status_code == 413
    # Two of them do not fit into one answer: the caller is told to ask for pages, which do.
    assert empty.post(ARTIFACTS, content=big).status_code == 201
    problem(empty.get(ARTIFACTS), 400, "validation-failed", "Validation Error", "page and size")
    page = empty.get(ARTIFACTS, params={"page": 2, "size": 1})
    assert page.status_code == 200 and page.json()["total"] == 2 and len(page.json()["items"]) == 1


def unread(g, key, artifact):
    """A client that asks for an artifact and takes its status line alone."""
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.settimeout(20 * SLOW)
    s.connect(("127.0.0.1", g.port))
    s.sendall(f"GET {ARTIFACTS}/{artifact} HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\n\r\n".encode())
    assert s.recv(15) == b"HTTP/1.1 200 OK"
    return s


def test_a_client_that_takes_little_by_little(gate):
    """A large answer counts against server.max_buffered_bytes until its client has taken it, and against its key's half of that; then there is room again."""
    g = gate(env={"CHAPKIT_API_KEYS": ",".join([KEY, *OTHERS])}, toml={"server": {"max_buffered_bytes": 40 << 20}, "limits": {"poll": "off"}})
    c, other = g.client(KEY), g.client(OTHERS[2])
    made = c.post(ARTIFACTS, content='{"data":"' + "z" * (9 << 20) + '"}').json()["id"]
    slow = [unread(g, KEY, made) for _ in range(2)]
    r = c.get(f"{ARTIFACTS}/{made}")
    assert r.status_code == 429 and r.headers["retry-after"] == "1" and "share of memory" in r.json()["detail"] and g.record(r)["reason"] == "share_full"
    assert other.get(f"{ARTIFACTS}/{made}").status_code == 200, "it is nobody else's trouble"
    slow += [unread(g, OTHERS[0], made) for _ in range(2)]
    r = other.get(f"{ARTIFACTS}/{made}")
    assert r.status_code == 503 and r.headers["retry-after"] == "1"
    assert c.get(f"{ARTIFACTS}/{made}/$config").status_code == 404  # small answers go on
    s = slow.pop(0)
    got = 0
    while got < 9 << 20:
        got += len(s.recv(1 << 20))
    until(lambda: c.get(f"{ARTIFACTS}/{made}").status_code == 200, 5 * SLOW, "room for the answer")
    s.sendall(f"GET {CONFIGS} HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\nConnection: close\r\n\r\n".encode())  # the connection lives on
    rest = b""
    while not rest.endswith(b"[]"):
        more = s.recv(65536)
        assert more, rest[-200:]
        rest += more
    for s in slow:
        s.close()
    until(lambda: g.log_text().count("client_gone") >= 3, 5 * SLOW, "the clients that left")


def test_a_large_answer_has_a_least_rate(gate):
    """Memory is held for it: who takes some bytes now and then is cut off, who is only slow is not."""
    stall = 2.0 * SLOW
    g = gate(env={"CHAPKIT_API_KEYS": KEY}, toml={"server": {"write_stall_ms": int(stall * 1000)}, "limits": {"poll": "off"}})
    made = g.client(KEY).post(ARTIFACTS, content='{"data":"' + "z" * (31 << 20) + '"}').json()["id"]
    drips, slow = unread(g, KEY, made), unread(g, KEY, made)
    begun, got = time.monotonic(), 0
    while time.monotonic() - begun < 5 * stall:
        got += len(slow.recv(65536))
        drips.recv(256)  # what the kernel has of it still comes, whatever the gate has done
        time.sleep(0.02)
    cut = [r for r in g.log() if r.get("reason") == "write_timeout"]
    assert len(cut) == 1 and cut[0]["ms"] < 4000 * stall, cut
    while got < 31 << 20:
        more = len(slow.recv(1 << 20))
        assert more
        got += more
    slow.close()
    drips.close()


def test_the_schema(c):
    """S3-45, C-42: one schema under both spellings, and what it says is what is checked."""
    s = c.get(f"{CONFIGS}/$schema")
    assert s.status_code == 200 and s.json() == c.get(f"{CONFIGS}/%24schema").json() and s.json()["type"] == "object"
    p = s.json()["properties"]
    assert set(p) == {"method", "task", "target", "features", "seed", "test_size", "cv_folds", "undersample"} and all(v["description"] for v in p.values())
    for m in p["method"]["enum"]:
        assert c.post(CONFIGS, json={"name": "n", "data": {"method": m}}).status_code == 201
    assert p["task"]["enum"] == ["classification", "regression", None]
    for t in p["task"]["enum"]:
        assert c.post(CONFIGS, json={"name": "n", "data": {"method": "xgboost", "task": t}}).status_code == 201
    assert c.post(CONFIGS, json={"name": "n", "data": {k: v["default"] for k, v in p.items()}}).status_code == 201
    for path in (f"{ARTIFACTS}/$schema", f"{JOBS}/%24schema"):
        assert c.get(path).json()["type"] == "object"
    assert c.put(f"{CONFIGS}/$schema", json={"name": "n"}).status_code == 400  # no config is called so


@pytest.mark.parametrize("base", [CONFIGS, ARTIFACTS, JOBS])
def test_pages(g, empty, base):
    """S3-41, S3-47, S3-64: a plain array unless page and size are both given; past the end nothing; bad ones are 400."""
    ids = [ulid(i) for i in range(7)]
    for n, i in enumerate(ids):
        if base == JOBS:
            add_job(g, i, at=1760284800000000 + n)
        else:
            assert empty.post(base, json={"id": i, **({"name": "n"} if base == CONFIGS else {"data": 1})}).status_code == 201
    for query in ({}, {"page": 1}, {"size": 3}):
        assert [x["id"] for x in empty.get(base, params=query).json()] == ids
    for page, want in ((1, ids[:3]), (3, ids[6:]), (4, []), (1000000000, [])):
        r = empty.get(base, params={"page": page, "size": 3}).json()
        assert [x["id"] for x in r.pop("items")] == want and r == {"total": 7, "page": page, "size": 3, "pages": 3}
    for size in (100, 101, 1000000000):
        assert len(empty.get(base, params={"page": 1, "size": size}).json()["items"]) == 7
    # of a parameter that is repeated the last one counts
    assert empty.get(f"{base}?page=7&size=x&size=3&page=3").json()["items"][0]["id"] == ids[6]
    assert empty.get(base, params={"page": 1000000000, "size": 1000000000}).json() == {"items": [], "total": 7, "page": 1000000000, "size": 1000000000, "pages": 1}
    for query, field in (({"page": 0, "size": 3}, "page"), ({"page": "abc", "size": 3}, "page"), ({"page": "", "size": 3}, "page"), ({"page": -1}, "page"), ({"page": 2 ** 64, "size": 3}, "page"),
                         ({"page": 1, "size": 0}, "size"), ({"page": 1, "size": 1000000001}, "size"), ({"page": 1, "size": "1.5"}, "size"), ({"size": -3}, "size")):
        problem(empty.get(base, params=query), 400, "validation-failed", "Validation Error", f"^Validation error on {field}: ")


# --- artifacts -------------------------------------------------------------------------------------------------------------------
def test_artifacts(empty):
    """S3-46 to S3-48, S3-50: the level comes from the parent; deleted is deleted, and what lay below stays as a root with its level."""
    root = empty.post(ARTIFACTS, json={"id": ulid(1), "data": {"model_type": "x"}})
    assert root.status_code == 201 and root.headers["location"] == f"{ARTIFACTS}/{ulid(1)}"
    r = root.json()
    assert list(r) == ["id", "parent_id", "level", "data", "created_at", "updated_at"] and (r["parent_id"], r["level"]) == (None, 0) and TIME.fullmatch(r["created_at"])
    child = empty.post(ARTIFACTS, json={"data": [1, 2.5, None], "parent_id": ulid(1).lower()}).json()
    assert (child["parent_id"], child["level"], child["data"]) == (ulid(1), 1, [1, 2.5, None]) and ULID.fullmatch(child["id"])
    assert empty.get(ARTIFACTS).json() == [r, child] and empty.get(f"{ARTIFACTS}/{child['id']}").json() == child
    again = empty.post(ARTIFACTS, json={"id": ulid(1), "data": 7})
    assert again.status_code == 200 and again.json()["data"] == 7 and again.json()["created_at"] == r["created_at"]
    assert empty.delete(f"{ARTIFACTS}/{ulid(1)}").status_code == 204
    problem(empty.get(f"{ARTIFACTS}/{ulid(1)}"), 404, "not-found", "Resource Not Found", f"^Entity with id {ulid(1)} not found$")
    problem(empty.delete(f"{ARTIFACTS}/{ulid(1)}"), 404, "not-found", "Resource Not Found", "^Entity with id ")
    left = empty.get(f"{ARTIFACTS}/{child['id']}").json()
    assert (left["parent_id"], left["level"]) == (None, 1)


@pytest.mark.parametrize("body,field", [({}, "data"), ({"data": None}, "data"), ({"data": 1, "parent_id": "x"}, "parent_id"), ({"data": 1, "parent_id": 5}, "parent_id"), ({"data": 1, "id": ""}, "id"),
                                        ({"data": 1, "parnet_id": None}, "parnet_id")])
def test_bad_artifacts(c, body, field):
    problem(c.post(ARTIFACTS, json=body), 400, "validation-failed", "Validation Error", f"^Validation error on {field}: ")


@pytest.mark.parametrize("status", ["pending", "running"])
def test_an_id_that_a_job_was_promised(g, empty, status):
    """S3-48, S3-58: the id is given at submit; nobody else's artifact stands there before the job's own does."""
    add_job(g, ulid(1), status, artifact_id=ulid(5), owner="o", lease_ends=2 ** 60)
    body = {"id": ulid(5).lower(), "data": {"ml_type": "trained_model"}}
    problem(empty.post(ARTIFACTS, json=body), 409, "conflict", "Resource Conflict", f"^Artifact {ulid(5)} is being made by a job")
    assert empty.get(f"{ARTIFACTS}/{ulid(5)}").status_code == 404
    change_job(g, ulid(1), status="completed", finished_at=1)
    assert empty.post(ARTIFACTS, json=body).status_code == 201


def test_parents_that_cannot_be(empty):
    """409 where there is no such parent, or where an artifact would lie below itself; nothing is changed and writes go on."""
    for i, parent in ((1, None), (2, ulid(1)), (3, ulid(2))):
        empty.post(ARTIFACTS, json={"id": ulid(i), "data": i, "parent_id": parent})
    before = empty.get(ARTIFACTS).json()
    for i, parent in ((9, MISSING), (1, ulid(1)), (1, ulid(3)), (2, ulid(3))):
        problem(empty.post(ARTIFACTS, json={"id": ulid(i), "data": 0, "parent_id": parent}), 409, "conflict", "Resource Conflict", parent)
    assert empty.get(ARTIFACTS).json() == before
    assert empty.post(ARTIFACTS, json={"data": 1}).status_code == 201


def test_trees(empty):
    """S3-49, C-42: a node with its level's name and all below it; $expand is the node alone with its configuration; both spellings of the dollar."""
    empty.post(CONFIGS, json=SEED)
    empty.post(ARTIFACTS, json={"id": ulid(1), "data": {"config_id": SEED_ID}})
    for i, parent in ((2, 1), (3, 1), (4, 2)):
        empty.post(ARTIFACTS, json={"id": ulid(i), "data": i, "parent_id": ulid(parent)})
    t = empty.get(f"{ARTIFACTS}/{ulid(1)}/$tree").json()
    assert t == empty.get(f"{ARTIFACTS}/{ulid(1)}/%24tree").json()
    assert [x["id"] for x in t["children"]] == [ulid(2), ulid(3)] and [x["id"] for x in t["children"][0]["children"]] == [ulid(4)] and t["children"][1]["children"] == []
    assert (t["level_label"], t["children"][0]["level_label"], t["children"][0]["children"][0]["level_label"]) == ("trained_model", "prediction", "level_2") and t["hierarchy"]
    assert set(empty.get(f"{ARTIFACTS}/{ulid(1)}").json()) | {"level_label", "hierarchy", "children"} == set(t)
    assert empty.get(f"{ARTIFACTS}/{ulid(2)}/$tree").json() == t["children"][0]
    e = empty.get(f"{ARTIFACTS}/{ulid(4)}/$expand").json()
    config = empty.get(f"{CONFIGS}/{SEED_ID}").json()
    assert e["children"] is None and e["level_label"] == "level_2" and e["config"] == config and e["data"] == 4
    assert empty.get(f"{ARTIFACTS}/{ulid(4)}/$config").json() == config
    assert [x["id"] for x in empty.get(f"{CONFIGS}/{SEED_ID}/$artifacts").json()] == [ulid(1)]  # the models, not what was made with them
    assert empty.get(f"{CONFIGS}/{SEED_ID}/%24artifacts", params={"page": 1, "size": 5}).json()["total"] == 1
    empty.post(ARTIFACTS, json={"id": ulid(8), "data": {}})
    problem(empty.get(f"{ARTIFACTS}/{ulid(8)}/$config"), 404, "not-found", "Resource Not Found", "no configuration")
    assert empty.get(f"{ARTIFACTS}/{ulid(8)}/$expand").json()["config"] is None
    for tail in ("$tree", "$expand", "$config"):
        problem(empty.get(f"{ARTIFACTS}/{MISSING}/{tail}"), 404, "not-found", "Resource Not Found", f"^Artifact with id {MISSING} not found$")
        problem(empty.get(f"{ARTIFACTS}/x/{tail}"), 400, "invalid-ulid", "Invalid ULID Format", "x$")
    problem(empty.get(f"{CONFIGS}/{MISSING}/$artifacts"), 404, "not-found", "Resource Not Found", "^Entity with id")
    # The model stays when its configuration goes.
    assert empty.delete(f"{CONFIGS}/{SEED_ID}").status_code == 204
    assert empty.get(f"{ARTIFACTS}/{ulid(1)}").status_code == 200 and empty.get(f"{ARTIFACTS}/{ulid(1)}/$config").status_code == 404


def test_a_tree_is_bounded(g, empty):
    empty.post(ARTIFACTS, json={"id": ulid(1), "data": 1})
    with sqlite3.connect(g.dir / "data/tollgate.db") as db:
        db.executemany("INSERT INTO artifacts (id, parent_id, level, data, created_at, updated_at) VALUES (?, ?, 1, '1', ?, ?)", [(ulid(100 + i), ulid(1), i, i) for i in range(10001)])
        assert empty.get(f"{ARTIFACTS}/{ulid(1)}/$tree").status_code == 200  # not committed yet
    problem(empty.get(f"{ARTIFACTS}/{ulid(1)}/$tree"), 400, "bad-request", "Bad Request", "10000")
    empty.delete(f"{ARTIFACTS}/{ulid(100)}")
    assert len(empty.get(f"{ARTIFACTS}/{ulid(1)}/$tree").json()["children"]) == 10000
    with sqlite3.connect(g.dir / "data/tollgate.db") as db:
        db.execute("DELETE FROM artifacts WHERE parent_id IS NOT NULL")


def test_artifacts_can_be_kept_by_id(g, empty):
    """S3-83: an ETag, private, checked again each time; a 304 only for who may read it, and never for what has changed."""
    url = f"{ARTIFACTS}/{ulid(2)}"
    empty.post(ARTIFACTS, json={"id": ulid(1), "data": 1})
    empty.post(ARTIFACTS, json={"id": ulid(2), "data": {"a": 1}, "parent_id": ulid(1)})
    r = empty.get(url)
    tag = r.headers["etag"]
    assert re.fullmatch(r'"[0-9a-f]{32}"', tag) and r.headers["cache-control"] == "private, no-cache" and {"Authorization", "X-API-Key"} <= {v.strip() for v in r.headers["vary"].split(",")}
    for sent in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        n = empty.get(url, headers={"If-None-Match": sent})
        assert n.status_code == 304 and not n.content and n.headers["etag"] == tag and "content-length" not in n.headers, sent
    for sent in ('"x"', tag[1:-1], tag[:-1] + 'x"'):
        assert empty.get(url, headers={"If-None-Match": sent}).status_code == 200
    assert g.external("wrong").get(url, headers={"If-None-Match": tag}).status_code == 401
    assert empty.head(url, headers={"If-None-Match": "*"}).status_code == 304 and empty.head(url).headers["etag"] == tag
    empty.delete(f"{ARTIFACTS}/{ulid(1)}")  # it is a root now
    moved = empty.get(url, headers={"If-None-Match": tag})
    assert moved.status_code == 200 and moved.headers["etag"] != tag and moved.json()["parent_id"] is None


# --- jobs ------------------------------------------------------------------------------------------------------------------------
def test_a_jobs_body(g, empty):
    """S3-61, S3-62, C-09, C-10: the document's members and the origin's; times in whole seconds with a Z; unknown is 404."""
    add_job(g, ulid(1), artifact_id=ulid(9))
    j = empty.get(f"{JOBS}/{ulid(1)}").json()
    assert j == {"id": ulid(1), "kind": "train", "status": "pending", "result": None, "error": None, "error_traceback": None, "created_at": "2025-10-12T16:00:00Z",
                 "updated_at": "2025-10-12T16:00:00Z", "submitted_at": "2025-10-12T16:00:00Z", "started_at": None, "finished_at": None, "artifact_id": ulid(9), "progress": 0, "message": ""}
    change_job(g, ulid(1), status="completed", result="Training completed successfully", started_at=1760284801000000, finished_at=1760284805900000, updated_at=1760284805900000, progress=100)
    j = empty.get(f"{JOBS}/{ulid(1)}").json()
    assert (j["status"], j["result"], j["started_at"], j["finished_at"], j["updated_at"], j["progress"]) == (
        "completed", "Training completed successfully", "2025-10-12T16:00:01Z", "2025-10-12T16:00:05Z", "2025-10-12T16:00:05Z", 100)
    problem(empty.get(f"{JOBS}/{MISSING}"), 404, "not-found", "Resource Not Found", "^Job not found$")
    problem(empty.delete(f"{JOBS}/{MISSING}"), 404, "not-found", "Resource Not Found", "^Job not found$")


def test_lists_of_jobs(g, empty):
    """S3-64: oldest first, filtered by status, in pages too; a status that is none is 400."""
    for n, status in enumerate(("pending", "running", "completed", "failed", "pending", "canceled")):
        add_job(g, ulid(9 - n), status, at=1760284800000000 + n, lease_ends=2 ** 60)
    assert [j["id"] for j in empty.get(JOBS).json()] == [ulid(9 - n) for n in range(6)]
    assert [j["id"] for j in empty.get(JOBS, params={"status_filter": "pending"}).json()] == [ulid(9), ulid(5)]
    page = empty.get(JOBS, params={"status_filter": "pending", "page": 2, "size": 1}).json()
    assert [j["id"] for j in page["items"]] == [ulid(5)] and (page["total"], page["pages"]) == (2, 2)
    for bad in ("", "done", "x" * 40):
        problem(empty.get(JOBS, params={"status_filter": bad}), 400, "validation-failed", "Validation Error", "status_filter")


def test_delete_cancels(g, empty):
    """S3-65, C-43: 204 in any state, then 404; the row is gone, so that whoever runs it stops at his next beat; what it made stays."""
    empty.post(ARTIFACTS, json={"id": ulid(9), "data": 1})
    for status in ("pending", "running", "completed"):
        add_job(g, ulid(1), status, artifact_id=ulid(9), owner="o", lease_ends=2 ** 60)
        assert empty.delete(f"{JOBS}/{ulid(1)}").status_code == 204
        assert empty.get(f"{JOBS}/{ulid(1)}").status_code == 404
    assert empty.get(f"{ARTIFACTS}/{ulid(9)}").status_code == 200


def test_a_deletion_is_on_record(g, empty):
    """S4-63: who canceled a training is in the trail, under the request that it began with; the log has which record a DELETE was about."""
    spec = json.dumps({"method": "xgboost", "target": "y", "config_id": MISSING, "request_id": ulid(7)})
    for n, (kind, status) in enumerate((("train", "running"), ("credit_train", "pending"), ("predict", "pending"), ("train", "completed"))):
        add_job(g, ulid(n), status, kind, owner="o", lease_ends=2 ** 60, spec=spec)
    empty.post(ARTIFACTS, json={"id": ulid(9), "data": 1})
    asked = {n: empty.delete(f"{JOBS}/{ulid(n)}") for n in range(4)} | {9: empty.delete(f"{ARTIFACTS}/{ulid(9)}")}
    assert all(r.status_code == 204 for r in asked.values())
    mine = [e for e in events(g, "training_failed") if e["request_id"] == ulid(7)]
    who = g.record(asked[0])["user"]
    assert [(e["job"], e["error"], e["user"]) for e in mine] == [(ulid(n), "canceled", who) for n in (0, 1)] and mine[0]["config"]["target"] == "y"
    log = {x["request_id"]: x for x in g.log() if x.get("event") in ("job.canceled", "job.deleted", "record.deleted")}
    for n, event in enumerate(["job.canceled"] * 3 + ["job.deleted"]):
        x = log[asked[n].headers["x-request-id"]]
        assert (x["event"], x["id"], x["user"], x["route"]) == (event, ulid(n), who, "/api/v1/jobs/{id}")
    assert log[asked[9].headers["x-request-id"]]["event"] == "record.deleted" and log[asked[9].headers["x-request-id"]]["id"] == ulid(9)
    nothing = empty.delete(f"{JOBS}/{MISSING}")
    assert nothing.status_code == 404 and not [x for x in g.log() if x.get("request_id") == nothing.headers["x-request-id"] and x.get("event", "").endswith("ed")]


class Events:
    """One $stream, read in a thread: its head, its events, and whether it ended in due form."""

    def __init__(self, g, job, key=KEY, path="$stream", version="1.1"):
        self.s = g.connect(timeout=20)
        self.s.sendall(f"GET {JOBS}/{job}/{path} HTTP/{version}\r\nHost: x\r\nX-API-Key: {key}\r\n\r\n".encode())
        self.text, self.ended = b"", False
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        try:
            while more := self.s.recv(65536):
                self.text += more
                if self.text.endswith(b"0\r\n\r\n"):
                    break
        except OSError:
            return
        self.ended = True

    @property
    def head(self):
        return self.text.split(b"\r\n\r\n")[0].decode().lower()

    @property
    def events(self):
        return [json.loads(x) for x in re.findall(rb"data: (.*)\n\n", self.text)]

    def close(self):
        self.s.close()


def test_a_stream_of_changes(g, empty):
    """The body at once and at each change, each as data: and a blank line, ended after the last state; the headers of the origin; the connection lives on."""
    add_job(g, ulid(1))
    e = Events(g, ulid(1), path="%24stream")
    until(lambda: len(e.events) == 1, 5 * SLOW, "the first event")
    assert e.events[0] == empty.get(f"{JOBS}/{ulid(1)}").json() and e.events[0]["status"] == "pending"
    for line in ("content-type: text/event-stream; charset=utf-8", "cache-control: no-cache", "x-accel-buffering: no", "connection: keep-alive", "transfer-encoding: chunked"):
        assert line in e.head, e.head
    change_job(g, ulid(1), status="running", progress=30, message="fitting", owner="o", lease_ends=2 ** 60)
    until(lambda: len(e.events) == 2, 5 * SLOW, "the second event")
    change_job(g, ulid(1), lease_ends=2 ** 60 + 1)  # a beat that says nothing new
    time.sleep(0.7)
    assert len(e.events) == 2 and not e.ended
    change_job(g, ulid(1), status="completed", progress=100, result="Training completed successfully")
    until(lambda: e.ended, 5 * SLOW, "the end of the stream")
    assert [x["status"] for x in e.events] == ["pending", "running", "completed"] and e.events[2]["result"] == "Training completed successfully"
    e.s.sendall(f"GET {JOBS} HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\n\r\n".encode())
    assert e.s.recv(15) == b"HTTP/1.1 200 OK"
    e.close()


def test_streams_that_end_at_once(g, empty):
    """One that has ended is one event; of an unknown one 404, of a malformed id 400; a HEAD is a head; HTTP/1.0 gets it plain, ended by the connection."""
    add_job(g, ulid(1), "failed", error="The target churn has one value only.")
    r = empty.get(f"{JOBS}/{ulid(1)}/$stream")
    assert r.status_code == 200 and r.text.startswith("data: {") and r.text.endswith("}\n\n") and json.loads(r.text[6:])["error"] == "The target churn has one value only."
    problem(empty.get(f"{JOBS}/{MISSING}/$stream"), 404, "not-found", "Resource Not Found", "^Job not found$")
    problem(empty.get(f"{JOBS}/x/$stream"), 400, "invalid-ulid", "Invalid ULID Format", "x")
    h = empty.head(f"{JOBS}/{ulid(1)}/$stream")
    assert h.status_code == 200 and h.headers["content-type"].startswith("text/event-stream")
    old = Events(g, ulid(1), version="1.0")
    until(lambda: old.ended, 5 * SLOW, "the end of the connection")
    assert old.text.endswith(b"}\n\n") and b"chunked" not in old.text and len(old.events) == 1
    assert g.external().get(f"{JOBS}/{ulid(1)}/$stream").status_code == 401


def test_a_stream_whose_job_is_canceled(g, empty):
    """Deleted under the watcher: a last event says so."""
    add_job(g, ulid(1), "running", owner="o", lease_ends=2 ** 60)
    e = Events(g, ulid(1))
    until(lambda: len(e.events) == 1, 5 * SLOW, "the first event")
    assert empty.delete(f"{JOBS}/{ulid(1)}").status_code == 204
    until(lambda: e.ended, 5 * SLOW, "the end")
    assert e.events[1:] == [{"id": ulid(1), "status": "canceled"}]


def test_streams_are_bounded_and_freed(g, empty):
    """Of one key the 65th is 429, of all the 257th is 503; a client that leaves makes room at once."""
    add_job(g, ulid(1))
    open_ones = []

    def refused(key, status, words):
        e = Events(g, ulid(1), key)
        until(lambda: e.text, 5 * SLOW, "an answer")
        assert e.text.startswith(b"HTTP/1.1 %d " % status) and "retry-after: " in e.head and words in e.text.decode(), e.text
        e.close()
    for key in [KEY, *OTHERS[:3]]:
        open_ones += [Events(g, ulid(1), key) for _ in range(64)]
        until(lambda: all(e.events for e in open_ones), 20 * SLOW, "the events of all")
        refused(key, 429, "64 jobs")
    refused(OTHERS[3], 503, "UNAVAILABLE")
    for e in open_ones[:10]:
        e.s.shutdown(socket.SHUT_RDWR)
        e.close()

    def room():
        e = Events(g, ulid(1))
        until(lambda: e.text, 5 * SLOW, "an answer")
        e.s.shutdown(socket.SHUT_RDWR)
        e.close()
        return b" 200 OK" in e.text[:20]
    until(room, 5 * SLOW, "room for a stream")
    change_job(g, ulid(1), status="completed")
    until(lambda: all(e.ended for e in open_ones[10:]), 10 * SLOW, "the end of the others")
    for e in open_ones[10:]:
        e.close()


def test_a_stream_ends_with_its_key_and_with_the_gate(gate):
    """A revoked key's stream ends; one that is open when the gate is told to stop does not hold it up."""
    g = gate(env={"CHAPKIT_API_KEYS": KEY}, toml={"limits": {"poll": "off"}})
    admin = g.client(ADMIN)
    key = admin.post("/api/v1/auth/api-keys", json={"name": "k", "permissions": ["run_inference"]}).json()
    add_job(g, ulid(1))
    theirs, mine = Events(g, ulid(1), key["key"]), Events(g, ulid(1))
    until(lambda: theirs.events and mine.events, 5 * SLOW, "the first events")
    admin.delete(f"/api/v1/auth/api-keys/{key['id']}")
    until(lambda: theirs.ended, 5 * SLOW, "the end of the revoked key's stream")
    assert not mine.ended and "error" in theirs.events[-1] and theirs.events[-1]["error"]["code"] == "AUTHENTICATION_FAILED"
    began = time.monotonic()
    g.stop()
    assert time.monotonic() - began < 6 * SLOW
    until(lambda: mine.ended, 2 * SLOW, "the end of the other")
    assert [x.get("status") or x["error"]["code"] for x in mine.events] == ["pending", "UNAVAILABLE"]
    assert {r.get("reason") for r in g.requests() if r["status"] == 200} >= {"revoked", "draining"}


def test_polling_has_limits_of_its_own(gate):
    """S3-63: a client that polls each second is not stopped by the limit of other calls: jobs and artifacts have their own, 1200 a minute; configs have none until set."""
    g = gate(env={"CHAPKIT_API_KEYS": KEY})
    c = g.client(KEY)
    for _ in range(65):
        c.get(f"{JOBS}/{MISSING}")
    r = c.get(f"{JOBS}/{MISSING}")
    assert r.status_code == 404 and r.headers["x-ratelimit-limit"] == "1200"
    assert c.get(f"{ARTIFACTS}/{MISSING}").headers["x-ratelimit-limit"] == "1200"
    assert "x-ratelimit-limit" not in c.get(CONFIGS).headers


def test_metrics_of_the_queue(g, empty):
    """How many jobs wait, by kind, and since when the oldest does; looked up by the gate itself within seconds."""
    for n in range(3):
        add_job(g, ulid(n), at=int((time.time() - 100) * 1e6))
    add_job(g, ulid(5), "running", kind="predict", owner="o", lease_ends=2 ** 60)

    def figures():
        text = g.client(ADMIN).get("/metrics").text
        return {k: float(v) for k, v in re.findall(r'^(tollgate_jobs_waiting\w*\{kind="\w+"\}) (\S+)$', text, re.M)}
    until(lambda: figures()['tollgate_jobs_waiting{kind="train"}'] == 3, 5 * SLOW, "the figures")
    f = figures()
    assert 99 < f['tollgate_jobs_waiting_oldest_seconds{kind="train"}'] < 160
    assert f['tollgate_jobs_waiting{kind="predict"}'] == f['tollgate_jobs_waiting_oldest_seconds{kind="predict"}'] == 0


# --- the database ----------------------------------------------------------------------------------------------------------------
def test_records_outlive_the_process(gate):
    """What was answered is there after a SIGKILL."""
    g = gate(env={"CHAPKIT_API_KEYS": KEY})
    c = g.client(KEY)
    made = [c.post(CONFIGS, json={"name": f"n{i}"}).json() for i in range(5)]
    a = c.post(ARTIFACTS, json={"data": {"x": 1}}).json()
    g.kill()
    g.start()
    with g.client(KEY) as c:
        assert c.get(CONFIGS).json() == made and c.get(ARTIFACTS).json() == [a]


def test_a_database_of_the_first_schema(gate):
    """A database that an older release left: its keys go on, a copy of it as it was lies beside it, and a backup that is older than the schema is brought up to date by the restore's first start."""
    g = gate(env={"CHAPKIT_API_KEYS": KEY})
    key = g.client(ADMIN).post("/api/v1/auth/api-keys", json={"name": "k", "permissions": ["read_models"]}).json()["key"]
    g.stop()
    db = g.dir / "data/tollgate.db"
    first = g.dir / "data/tollgate.db.before-0002"
    with sqlite3.connect(db) as d:
        first_tables = re.findall(r"CREATE TABLE (\w+)", (ROOT / "src/store/migrations/0001_identity.sql").read_text()) + ["schema_version"]
        later = [t for t, in d.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'") if t not in first_tables]
        assert {"configs", "artifacts", "jobs"} <= set(later)
        triggers = [t for t, in d.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")]
        d.executescript("".join(f"DROP TRIGGER {t}; " for t in triggers) + "".join(f"DROP TABLE {t}; " for t in later) + "UPDATE schema_version SET version = 1")
    d.close()

    def schema(path):
        with sqlite3.connect(path) as d:
            got = d.execute("SELECT version FROM schema_version").fetchone()[0]
        d.close()
        return got
    assert not first.exists()
    copy = g.dir / "old"
    raw = db.read_bytes()
    g.start()
    assert g.client(key).get(CONFIGS).status_code == 200 and g.client(KEY).post(CONFIGS, json=SEED).status_code == 201
    assert schema(first) == 1 and first.stat().st_mode & 0o777 == 0o600
    p = run_cli("backup", copy, "--config", g.config, cwd=g.dir, env=g.env)
    assert p.returncode == 0, p.stderr
    g.stop()
    assert schema(copy / "tollgate.db") == schema(db) >= 2
    # The older backup: the same with the database as it was.
    import hashlib
    manifest = json.loads((copy / "manifest.json").read_text())
    text = (copy / "manifest.json").read_text().replace(hashlib.sha256((copy / "tollgate.db").read_bytes()).hexdigest(), hashlib.sha256(raw).hexdigest())
    assert json.loads(text) != manifest
    newer = (copy / "tollgate.db").read_bytes()
    (copy / "tollgate.db").write_bytes(raw)
    (copy / "manifest.json").write_text(text)
    p = run_cli("restore", copy, "--force", "--config", g.config, cwd=g.dir, env=g.env)
    assert p.returncode == 0, p.stderr
    g.start()
    assert g.client(key).get(CONFIGS).json() == []
    g.stop()
    (copy / "tollgate.db").write_bytes(newer)
    (copy / "manifest.json").write_text(json.dumps(manifest))
    p = run_cli("restore", copy, "--force", "--config", g.config, cwd=g.dir, env=g.env)
    assert p.returncode == 0, p.stderr
    g.start()
    assert [x["id"] for x in g.client(key).get(CONFIGS).json()] == [SEED_ID]


def test_without_a_database(gate):
    """503 in this family's form, and nothing that was asked of it is 404 or 401."""
    g = gate(env={"CHAPKIT_API_KEYS": KEY})
    c = g.client(KEY)
    c.post(CONFIGS, json=SEED)
    with sqlite3.connect(g.dir / "data/tollgate.db", isolation_level=None, timeout=10) as d:
        d.execute("BEGIN EXCLUSIVE")
        problem(c.put(f"{CONFIGS}/{SEED_ID}", json={"name": "m"}, timeout=30), 503, "service-unavailable", "Service Unavailable", "database")
        d.execute("ROLLBACK")
    until(lambda: c.get(f"{CONFIGS}/{SEED_ID}").status_code == 200, 10 * SLOW, "the database being back")
    assert c.get(f"{CONFIGS}/{SEED_ID}").json()["name"] == SEED["name"]
