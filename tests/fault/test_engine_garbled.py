"""
An engine that is another program, for what the real one says only where a machine is full or something is broken: answers that cannot be read, and the ways to say that there is too much to do.
"""
import json
import os
import shutil
import stat
import sys

import pytest
from lib import gate as lib_gate
from lib.ml import TRAIN_KEY, config, ended, ml_gate, spool, train
from lib.raw import SLOW, until

ENGINE = '''#!%s
import http.server, json, os, socketserver, sys
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
COLUMNS = [{"name": n, "type": "number", "integers": False, "nulls": 0} for n in ("a", "y")]


class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def address_string(self):
        return "gate"

    def answer(self, body, status=200):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(b'{"status":"ok"}')

    def do_POST(self):
        part = self.path.split("?")[0].split("/")
        says = os.path.join(options["--spool"], ".says")
        if part[1] == "intake" and os.path.exists(says):
            status, body = json.load(open(says))
            self.answer(json.dumps(body).encode(), status)
        elif part[1] == "intake":
            with open(os.path.join(options["--spool"], part[3] + ".frame"), "w"):
                pass
            self.answer(json.dumps({"members": json.loads(open(os.path.join(options["--spool"], ".members")).read()), "frame": {"rows": 2, "columns": COLUMNS}, "hash": "0" * 64, "bytes": 1}).encode())
        else:
            self.answer(b'{"result":{"file":"x\\u0000"}}')


class S(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def verify_request(self, request, client_address):
        if os.path.exists(os.path.join(options["--spool"], ".away")):
            request.sendall(b"HTTP/1.1 429 Too Many Requests\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\n{}")
            return False
        return True


os.makedirs(options["--spool"], exist_ok=True)
S(options["--socket"], H).serve_forever()
'''


@pytest.fixture
def other(gate, tmp_path, monkeypatch):
    """A gate with that engine."""
    binary = tmp_path / "tollgate"
    shutil.copy2(lib_gate.BINARY, binary)
    (tmp_path / "tollgate-engine").write_text(ENGINE % sys.executable)
    os.chmod(tmp_path / "tollgate-engine", stat.S_IRWXU)
    monkeypatch.setattr(lib_gate, "BINARY", binary)
    g = ml_gate(gate)
    (g.dir / "data/spool").mkdir(parents=True, exist_ok=True)
    return g


def test_an_answer_that_cannot_be_read(other):
    """At the first try: it has not ended, and another would bring the same."""
    g = other
    c = g.client(TRAIN_KEY)
    cid = config(c)
    (g.dir / "data/spool/.members").write_text(f'{{"config_id": "{cid}"}}')
    r = train(c, cid)
    assert r.status_code == 202, r.text
    job = ended(c, r.json()["job_id"])
    assert (job["status"], job["error"]) == ("failed", "The engine's answer was not valid."), job
    assert [x["attempt"] for x in g.log() if x["event"] == "job.started"] == [1]
    until(lambda: not spool(g), 5 * SLOW, "the spool being empty")


@pytest.mark.parametrize("says,status,code,words", [
    ((413, {"field": "", "why": "needs more memory, once it is read, than one may have here (48 MiB)"}), 413, "VALIDATION_ERROR", "The body needs more memory, once it is read, than one may have here (48 MiB)."),
    ((429, {"field": "owner", "why": "x"}), 429, "RATE_LIMITED", "This key has as much data being taken in as one may"),
    ((429, {"field": "", "why": "x"}), 503, "UNAVAILABLE", "too much to do"), ((429, {"error": "x"}), 503, "UNAVAILABLE", "too much to do"), ((503, {"error": "x"}), 503, "UNAVAILABLE", "cannot take this now"),
])
def test_too_much_to_take_in(other, says, status, code, words):
    c = other.client(TRAIN_KEY)
    cid = config(c)
    (other.dir / "data/spool/.says").write_text(json.dumps(says))
    r = train(c, cid)
    assert r.status_code == status and words in r.json()["detail"] and r.json()["code"] == code, r.text
    assert status == 413 or int(r.headers["retry-after"]) >= 1


def test_a_connection_too_many(other):
    """The engine answers and closes before anything was sent to it: that is heard, whichever is quicker."""
    c = other.client(TRAIN_KEY)
    cid = config(c)
    (other.dir / "data/spool/.says").write_text(json.dumps((503, {})))
    assert "cannot take this now" in train(c, cid).json()["detail"], "the engine runs"
    (other.dir / "data/spool/.away").touch()
    for rows in (1, 1, 1, 1, 1, 20000):
        r = train(c, cid, {"columns": ["a", "y"], "data": [[1, 2]] * rows})
        assert r.status_code == 503 and "too much to do" in r.json()["detail"] and int(r.headers["retry-after"]) >= 1, r.text
