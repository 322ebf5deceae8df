"""An engine whose answers cannot be read: the job fails with that, at its first try. It has not ended, and another try would bring the same."""
import os
import shutil
import stat
import sys

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

    def answer(self, body):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(b'{"status":"ok"}')

    def do_POST(self):
        part = self.path.split("?")[0].split("/")
        if part[1] == "intake":
            with open(os.path.join(options["--spool"], part[3] + ".frame"), "w"):
                pass
            self.answer(json.dumps({"members": json.loads(open(os.path.join(options["--spool"], ".members")).read()), "frame": {"rows": 2, "columns": COLUMNS}, "hash": "0" * 64, "bytes": 1}).encode())
        else:
            self.answer(b'{"result":{"file":"x\\u0000"}}')


class S(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


os.makedirs(options["--spool"], exist_ok=True)
S(options["--socket"], H).serve_forever()
'''


def test_an_answer_that_cannot_be_read(gate, tmp_path, monkeypatch):
    binary = tmp_path / "tollgate"
    shutil.copy2(lib_gate.BINARY, binary)
    (tmp_path / "tollgate-engine").write_text(ENGINE % sys.executable)
    os.chmod(tmp_path / "tollgate-engine", stat.S_IRWXU)
    monkeypatch.setattr(lib_gate, "BINARY", binary)
    g = ml_gate(gate)
    c = g.client(TRAIN_KEY)
    cid = config(c)
    (g.dir / "data/spool").mkdir(parents=True, exist_ok=True)
    (g.dir / "data/spool/.members").write_text(f'{{"config_id": "{cid}"}}')
    r = train(c, cid)
    assert r.status_code == 202, r.text
    job = ended(c, r.json()["job_id"])
    assert (job["status"], job["error"]) == ("failed", "The engine's answer was not valid."), job
    assert [x["attempt"] for x in g.log() if x["event"] == "job.started"] == [1]
    until(lambda: not spool(g), 5 * SLOW, "the spool being empty")
