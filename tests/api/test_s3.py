"""
Models in a bucket (seed ledger S4-54 to S4-58): against a store of our own that checks every signature and fails in chosen ways (lib/s3.py), and against s3rver, which somebody else wrote (it reads signatures of
version 4 and does not compare them, so what proves them is lib/s3.py, AWS's own examples below, and tests/unit/test_s3_sign.c). The store's code runs in model_tool, which is built with the unit tests; the gate's
own part at the end.
"""
import hashlib
import json
import os
import shutil
import subprocess
import time

import pytest

from lib.gate import ADMIN, BINARY, READ, ROOT, clean_env, free_port
from lib.ml import FUTURE, KEYS, TRAIN_KEY, config, ended, ml_gate, predict, trained
from lib.raw import SLOW, until
from lib.s3 import SECRET, Store, signature

KINDS = [BINARY.parent, ROOT / "build/asan", ROOT / "build/tsan"]
TOOL = next((d / "model_tool" for d in KINDS if (d / "model_tool").exists()), None)
needs_tool = pytest.mark.skipif(TOOL is None, reason="model_tool is not built: sh scripts/build.sh asan")
FOUND, NONE, REFUSED, AWAY = range(4)


@pytest.fixture
def store():
    s = Store()
    yield s
    s.close()


@pytest.fixture
def host(tmp_path):
    """host("a", store.env)("load", "m1") -> (exit status, stdout lines, stderr), in a folder of that machine's own."""
    def make(name, env, url="s3://models"):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)

        def run(*args, **more):
            p = subprocess.run([str(TOOL), url, *map(str, args)], cwd=folder, env=clean_env({**env, **more}), capture_output=True, text=True, timeout=60)
            assert "Sanitizer" not in p.stderr, p.stderr
            assert SECRET not in p.stdout + p.stderr
            return p.returncode, p.stdout.split("\n")[:-1], p.stderr
        run.folder = folder
        run.models = folder / "artifacts/models"

        def save(i, content=b"weights", metadata="{}"):
            (folder / "from").write_bytes(content)
            return run("save", i, "from", metadata)
        run.save = save
        return run
    return make


def test_the_checker_agrees_with_aws():
    """lib/s3.py's own signatures, by the examples of the Amazon S3 API reference."""
    host, date, empty = "examplebucket.s3.amazonaws.com", "20130524T000000Z", hashlib.sha256(b"").hexdigest()
    key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
    h = {"host": host, "x-amz-date": date, "x-amz-content-sha256": empty, "range": "bytes=0-9"}
    assert signature(key, "us-east-1", "GET", "/test.txt", "", h, sorted(h), date, empty) == "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    del h["range"]
    assert signature(key, "us-east-1", "GET", "/", "max-keys=2&prefix=J", h, sorted(h), date, empty) == "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"


@needs_tool
def test_save_then_a_fresh_host_loads(store, host):
    """S4-54, S4-55, S4-57, S4-58: the default prefix, both files, the URI; another machine has nothing but the bucket."""
    a = host("a", store.env)
    assert a.save("m1", b"weights", '{"report":{"x":1}}')[:2] == (FOUND, ["s3://models/models/m1.tgm"])
    assert store.objects["models/m1.tgm"] == b"weights"
    meta = json.loads(store.objects["models/m1.json"])
    assert meta["sha256"] == hashlib.sha256(b"weights").hexdigest() and meta["bytes"] == 7 and meta["report"] == {"x": 1}
    assert [(m, k) for m, k, _ in store.seen] == [("PUT", "models/m1.tgm"), ("PUT", "models/m1.json")]
    assert sorted(p.name for p in a.models.iterdir()) == [".lock", "m1.json", "m1.tgm"]
    b = host("b", store.env)
    assert b("load", "m1")[:2] == (FOUND, ["artifacts/models/m1.tgm"])
    assert (b.models / "m1.tgm").read_bytes() == b"weights" and sorted(p.name for p in b.models.iterdir()) == [".lock", "m1.json", "m1.tgm"]
    n = len(store.seen)
    assert b("load", "m1")[0] == FOUND and len(store.seen) == n, "it is here now"
    assert host("c", store.env)("metadata", "m1")[1] == [store.objects["models/m1.json"].decode()]
    assert not store.refused


@needs_tool
def test_prefixes_regions_tokens(host):
    """S4-54, S4-58: names that need escapes in path and query; temporary credentials; AWS_DEFAULT_REGION, AWS_ENDPOINT_URL."""
    s = Store("models", token="IQoJb3JpZ2luX2VjEXAMPLE//token+with=signs")
    try:
        env = s.env
        env["AWS_DEFAULT_REGION"] = env.pop("AWS_REGION")
        env["AWS_ENDPOINT_URL"] = env.pop("AWS_ENDPOINT_URL_S3") + "/"
        a = host("a", env, "s3://models/cré dit/a+b=c&d")
        assert a.save("m1")[1] == ["s3://models/cré dit/a+b=c&d/m1.tgm"]
        assert sorted(s.objects) == ["cré dit/a+b=c&d/m1.json", "cré dit/a+b=c&d/m1.tgm"]
        b = host("b", env, "s3://models/cré dit/a+b=c&d/")
        assert b("list")[1] == ["m1"] and b("load", "m1")[0] == FOUND
        assert not s.refused
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            r = host("c", {k: v for k, v in env.items() if k != name}, "s3://models")("load", "m1")
            assert r[0] == AWAY and "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set" in r[2]
        r = host("c", {**env, "AWS_SECRET_ACCESS_KEY": "other"}, "s3://models")("load", "m1")
        assert r[0] == AWAY and "403 SignatureDoesNotMatch" in r[2] and len(s.refused) == 1, "which is not tried again"
        assert subprocess.run([str(TOOL), "s3://models", "list"], env=clean_env({**env, "AWS_ENDPOINT_URL": "ftp://x"}), capture_output=True, text=True, cwd=a.folder).returncode == 8
    finally:
        s.close()


@needs_tool
def test_large_files_go_in_parts(store, host):
    """Over 16 MiB: in parts, put together in order; a part that fails for good leaves no parts behind, and the model waits."""
    a, content = host("a", store.env), os.urandom(1 << 20) * 33
    assert a.save("big", content)[1] == ["s3://models/models/big.tgm"]
    assert store.objects["models/big.tgm"] == content and not store.uploads
    assert [q.get("partNumber") for m, k, q in store.seen if m == "PUT" and k.endswith(".tgm")] == ["1", "2", "3"]
    b = host("b", store.env)
    assert b("load", "big")[0] == FOUND and (b.models / "big.tgm").read_bytes() == content
    store.fail("500", 3, lambda r: r[2].get("partNumber") == "2")
    a.save("big2", content)
    assert not store.uploads and "models/big2.tgm" not in store.objects and (a.models / "big2.upload").exists()
    assert [r[0] for r in store.seen][-1] == "DELETE", "it was aborted"
    store.fail("error200", 1, lambda r: r[0] == "POST" and "uploadId" in r[2])
    assert a("work")[1] == ["1"], "200 with an error in it is an error"
    assert not store.uploads
    store.fail("etag", 1, lambda r: r[0] == "POST" and "uploadId" in r[2])
    assert a("work")[1] == ["1"]
    assert a("work")[1] == ["0"] and store.objects["models/big2.tgm"] == content and not (a.models / "big2.upload").exists()


@needs_tool
@pytest.mark.parametrize("how", ["503", "cut", "drop"])
def test_what_passes_is_tried_again(store, host, how):
    a = host("a", store.env)
    store.fail(how, 2, lambda r: r[1].endswith(".tgm"))
    assert a.save("m1")[1] == ["s3://models/models/m1.tgm"] and not (a.models / "m1.upload").exists()
    assert store.objects["models/m1.tgm"] == b"weights"
    store.faults.clear()
    store.fail(how, 2, lambda r: r[0] == "GET" and r[1].endswith(".tgm"))
    b = host("b", store.env)
    assert b("load", "m1")[0] == FOUND and (b.models / "m1.tgm").read_bytes() == b"weights"


@needs_tool
def test_a_save_that_cannot_be_uploaded_is_kept(store, host):
    """S4-56: the local copy stays and is usable, the error is said, the upload is made later, also after a restart; the .json is never there without its model."""
    a = host("a", store.env)
    store.close()
    r = a.save("m1")
    assert r[:2] == (FOUND, ["artifacts/models/m1.tgm"]) and "model.upload_failed" in r[2]
    assert a("load", "m1")[0] == FOUND and (a.models / "m1.upload").exists()
    assert a("work")[1] == ["1"]
    store.open()
    store.fail("500", 3, lambda r: r[1].endswith(".json"))
    assert a("work")[1] == ["1"] and list(store.objects) == ["models/m1.tgm"]
    assert host("b", store.env)("load", "m1")[0] == NONE, "half a pair"
    assert a("work")[1] == ["0"] and sorted(store.objects) == ["models/m1.json", "models/m1.tgm"] and not (a.models / "m1.upload").exists()
    assert host("b", store.env)("load", "m1")[0] == FOUND
    assert a("persist", "m1")[:2] == (FOUND, ["s3://models/models/m1.tgm"])
    assert a("persist", "m2")[0] == NONE


@needs_tool
def test_wrong_bytes_are_refused(store, host):
    """S4-53 for the bucket: another file, a shorter one, a longer one, spoiled on the way, metadata that is none; nothing of it stays here."""
    host("a", store.env).save("m1", b"0123456789" * 1000)
    good, meta = store.objects["models/m1.tgm"], store.objects["models/m1.json"]
    b = host("b", store.env)
    for bad in (good[:-1] + b"x", good[:-1], good + b"x", b""):
        store.objects["models/m1.tgm"] = bad
        assert b("load", "m1")[0] in (REFUSED, AWAY), len(bad)
        assert [p.name for p in b.models.iterdir()] == [".lock"]
    store.objects["models/m1.tgm"] = good
    for bad in (meta[:-1], b"", b"[]", meta.replace(b"m1", b"m2"), b"x" * (9 << 20)):
        store.objects["models/m1.json"] = bad
        assert b("load", "m1")[0] == REFUSED, bad[:20]
        assert [p.name for p in b.models.iterdir()] == [".lock"]
    store.objects["models/m1.json"] = meta
    store.fail("spoil", 1, lambda r: r[1].endswith(".tgm"))
    assert b("load", "m1")[0] == REFUSED
    del store.objects["models/m1.tgm"]
    assert b("load", "m1")[0] == NONE
    store.objects["models/m1.tgm"] = good
    assert b("load", "m1")[0] == FOUND
    store.fail("etag", 1, lambda r: r[0] == "PUT")
    assert host("c", store.env).save("m2")[1] == ["artifacts/models/m2.tgm"], "the bucket says it has something else"


@needs_tool
def test_lists_are_of_both_places(store, host):
    a, b = host("a", store.env), host("b", store.env)
    for i in ("c", "a", "e", "B"):
        assert a.save(i)[0] == FOUND
    store.page = 3
    for noise in ("models/", "models/x.json", "models/y.tgm", "models/z.joblib", "models/deep/q.json", "models/deep/q.tgm", "other/o.json", "models/a&b.json", "models/a&b.tgm"):
        store.objects[noise] = b"x"
    store.close()
    b.save("d")
    assert b("list")[0] == AWAY, "half a list is none"
    store.open()
    assert b("list")[:2] == (FOUND, ["B", "a", "c", "d", "e"])
    assert a("delete", "c")[0] == FOUND and a("delete", "c")[0] == NONE
    assert "models/c.tgm" not in store.objects and "models/c.json" not in store.objects and not (a.models / "c.json").exists()
    assert b("delete", "e")[0] == FOUND, "which is only in the bucket"
    assert a("load", "e")[0] == FOUND, "what is here, stays"
    r = host("d", store.env, "s3://nobody")("load", "a")
    assert r[0] == NONE


def s3rver():
    """Its script, fetched once into build/; None with a reason."""
    if not shutil.which("node"):
        return None, "node is not installed"
    home = ROOT / "build" / "node"
    script = home / "node_modules/s3rver/bin/s3rver.js"
    if not script.exists():
        if not shutil.which("npm"):
            return None, "npm is not installed and build/node has no s3rver"
        home.mkdir(parents=True, exist_ok=True)
        try:
            p = subprocess.run(["npm", "install", "--prefix", str(home), "--no-audit", "--no-fund", "--loglevel=error", "s3rver@3.7.1"], capture_output=True, text=True, timeout=90)
        except subprocess.TimeoutExpired:
            return None, "npm could not fetch s3rver in time"
        if p.returncode != 0:
            return None, "npm could not fetch s3rver: " + p.stderr[-200:]
    return script, None


@needs_tool
def test_s3rver(host, tmp_path):
    """Another one's reading of the protocol: save, in parts too, list, load on a fresh host, delete."""
    script, why = s3rver()
    if script is None:
        pytest.skip(why)
    port = free_port()
    p = subprocess.Popen(["node", str(script), "-d", str(tmp_path / "data"), "-a", "127.0.0.1", "-p", str(port), "--silent", "--configure-bucket", "models"], env=clean_env(), stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL, cwd=tmp_path)
    try:
        env = {"AWS_ACCESS_KEY_ID": "S3RVER", "AWS_SECRET_ACCESS_KEY": "S3RVER", "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
        a, b, content = host("a", env), host("b", env), os.urandom(1 << 20) * 17
        until(lambda: a("list")[0] == FOUND, 15 * SLOW, "s3rver answering")
        assert a.save("m1")[1] == ["s3://models/models/m1.tgm"] and a.save("big", content)[1] == ["s3://models/models/big.tgm"]
        assert b("list")[1] == ["big", "m1"] and b("load", "m1")[0] == b("load", "big")[0] == FOUND
        assert (b.models / "big.tgm").read_bytes() == content
        assert b("delete", "big")[0] == FOUND and host("c", env)("load", "big")[0] == NONE
    finally:
        p.terminate()
        p.wait(10)


# --- the gate -----------------------------------------------------------------------------------------------------------------------

def pair(i, content=b"weights", **more):
    meta = {"id": i, "format": "tgm", "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content), "saved_at": "2026-01-01T00:00:00Z", **more}
    return {f"{i}.tgm": content, f"{i}.json": json.dumps(meta).encode()}


def test_the_gate_shows_what_is_in_the_bucket_and_uploads_what_is_not(gate, store):
    """S4-44, S4-55 to S4-58, S4-65: models of a bucket are listed; one that is here only is uploaded by persist, which is told in the audit trail with its s3:// path; what waits is uploaded by itself."""
    for n, b in pair("there", method="xgboost").items():
        store.objects["models/" + n] = b
    g = gate(toml={"artifacts": {"url": "s3://models"}}, env=store.env)
    c = g.client(ADMIN)
    here = g.dir / "artifacts/models"
    for n, b in {**pair("here"), **pair("waits"), "waits.upload": b""}.items():
        (here / n).write_bytes(b)
    assert [m["model_id"] for m in c.get("/models/").json()] == ["here", "there", "waits"]
    assert c.get("/models/there").json()["model_type"] == "xgboost"
    r = c.post("/models/here/persist")
    assert r.status_code == 200 and r.json()["path"] == "s3://models/models/here.tgm", r.text
    assert {"models/here.tgm", "models/here.json"} <= set(store.objects)
    puts = sum(m == "PUT" and "here" in k for m, k, _ in store.seen)
    assert c.post("/models/here/persist").json()["path"] == "s3://models/models/here.tgm"
    assert sum(m == "PUT" and "here" in k for m, k, _ in store.seen) == puts, "it is there already"
    assert c.post("/models/waits/persist").status_code == 200 and "models/waits.json" in store.objects
    lines = [json.loads(x) for x in (g.dir / "logs/audit.jsonl").read_text().splitlines()]
    assert [(e["model_id"], e["path"]) for e in lines if e["event"] == "model_persisted"][0] == ("here", "s3://models/models/here.tgm")
    (here / "late.upload").write_bytes(b"")
    for n, b in pair("late").items():
        (here / n).write_bytes(b)
    g.stop()
    store.objects.pop("models/late.json", None)
    g.start()
    until(lambda: "models/late.json" in store.objects, 10 * SLOW, "the upload after a restart")
    assert SECRET not in g.log_text() + g.stderr() + (g.dir / "logs/audit.jsonl").read_text()


def test_a_bucket_that_is_away_costs_nobody_else(gate, store):
    """503 with Retry-After for what needs the bucket; the gate starts, serves the rest, keeps its database's line free, and ends in time."""
    g = gate(toml={"artifacts": {"url": "s3://models"}}, env={**store.env, "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"})
    c = g.client(ADMIN)
    r = c.get("/models/")
    assert r.status_code == 503 and r.json()["code"] == "UNAVAILABLE" and r.headers["retry-after"] == "5"
    assert c.get("/models/x").status_code == 503
    assert g.client(READ).get("/health").json()["status"] == "healthy"
    assert c.post("/api/v1/auth/api-keys", json={"name": "k", "permissions": ["read_models"]}).status_code == 201
    begun = time.monotonic()
    g.stop()
    assert time.monotonic() - begun < 10 * SLOW


LIST_S = 10  # what a list, or anything small, may take


def took(f):
    begun = time.monotonic()
    r = f()
    return r, time.monotonic() - begun


@pytest.fixture
def shown(gate, store):
    """A gate with one model in its bucket, and none here."""
    for n, b in pair("there", method="xgboost").items():
        store.objects["models/" + n] = b
    g = gate(toml={"artifacts": {"url": "s3://models"}}, env=store.env)
    yield g
    store.go.set()


def test_what_is_no_list_is_none(shown, store):
    """200 with a page of something else is no bucket without models."""
    c = shown.client(READ)
    store.fail("garbage", 1, lambda r: r[1] == "")
    r = c.get("/models/")
    assert r.status_code == 503 and r.headers["retry-after"] == "5", r.text
    assert any(x["event"] == "models.away" and "is none" in x["why"] for x in shown.log())
    assert [m["model_id"] for m in c.get("/models/").json()] == ["there"]


def test_a_list_without_an_end(shown, store):
    """One that goes on and on has its time; of one that gives the same again, that is said at once."""
    c = shown.client(READ)
    store.fail("same", 2, lambda r: r[1] == "")
    r, s = took(lambda: c.get("/models/?limit=1000", timeout=60))
    assert r.status_code == 503 and s < LIST_S / 2 and not any(f[1] for f in store.faults), (r.text, s)
    store.fail("endless", 10**9, lambda r: r[1] == "")
    r, s = took(lambda: c.get("/models/", timeout=60))
    assert r.status_code == 503 and s < LIST_S + 3 * SLOW, (r.text, s)
    assert c.get("/models/there").status_code == 200, "it answers all the same"


def test_a_bucket_that_drips(shown, store):
    """One waits for it, ten seconds; whoever is behind him, and comes soon after, is told at once; then it is asked again."""
    c = shown.client(READ)
    store.fail("drip", 10**6)
    r, s = took(lambda: c.get("/models/there", timeout=60))
    assert r.status_code == 503 and s < LIST_S + 3 * SLOW, (r.text, s)
    for path in ("/models/there", "/models/other", "/models/"):
        r, s = took(lambda: c.get(path, timeout=60))
        assert r.status_code == 503 and s < 1 * SLOW, (path, r.text, s)
    store.faults.clear()
    until(lambda: c.get("/models/there").status_code == 200, 10 * SLOW, "the bucket being asked again")


def test_what_is_said_of_a_model_in_a_bucket(gate, store):
    """S3-71: $predict with the bucket away speaks of the models' store and not of the database; with metadata that is none it says so, as /models/{id} does."""
    g = ml_gate(gate, toml={"artifacts": {"url": "s3://models"}}, env={**KEYS, **store.env})
    c = g.client(TRAIN_KEY)
    model = trained(c, config(c))
    until(lambda: f"models/{model}.json" in store.objects, 10 * SLOW, "the upload")
    for e in (".json", ".tgm"):
        (g.dir / f"artifacts/models/{model}{e}").unlink()
    store.fail("500", 3)
    r = predict(c, model)
    assert r.status_code == 503 and r.json()["detail"] == "The models' store cannot be reached now; try again." and r.headers["retry-after"] == "5", r.text
    meta = store.objects[f"models/{model}.json"]
    for bad in (meta[:-9], b"nothing"):
        store.objects[f"models/{model}.json"] = bad
        r = predict(c, model)
        assert r.status_code == c.get(f"/models/{model}").status_code == 409 and r.json()["detail"] == "The model's files are not what was saved; it is not used.", r.text
        assert c.post("/predict", json={"model_id": model, "data": FUTURE}).status_code == 500
    store.objects[f"models/{model}.json"] = meta
    assert ended(c, predict(c, model).json()["job_id"])["status"] == "completed"
