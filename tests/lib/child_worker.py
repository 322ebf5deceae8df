#!/usr/bin/env python3
"""
A model worker as a command, for started workers and `tollgate run`: child_worker.py PORT|--socket PATH [options]

Serves what lib/worker.py serves on 127.0.0.1:PORT or the Unix socket.
  --pids FILE          writes its own pid and that of a helper process it starts, one a line
  --escape             the helper leaves for a session of its own (what a command does that goes into the background)
  --delay S            listens only after that time
  --die-after-requests N   after N answers prints a line and exits with status 7
  --deaf               ignores SIGTERM, and so does its helper
  --exit-at-once N     prints a line and exits with status N before it listens
  --fail-starts N FILE the same with status 3, the first N times (counted in FILE)
  --ids FILE           appends a JSON line for each request that arrives and each that it has answered: its pid and the request's id
  --poison TEXT        a request that holds TEXT ends it by SIGKILL: before its answer, or in the middle of a stream where it holds TEXT-mid
  --spam N             writes N MiB of lines before it listens
  --print-env          writes its environment, a NAME=value a line
  --say TEXT           writes TEXT
  --behave JSON        what lib/worker.py's behave() takes
"""
import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.worker import Worker  # noqa: E402


class At(Worker):
    """A worker on a given port or socket, which tells what it is asked."""

    def __init__(self, port, socket, ids):
        self._port, self.ids = port, ids
        super().__init__(unix=socket)

    def _bind(self, listen=True):
        if self._port:
            self.port = self._port
        super()._bind(listen)

    def _tell(self, what, r, probe):
        if self.ids and not probe:
            with open(self.ids, "a") as f:  # whole lines: appends of one write each
                f.write(json.dumps({"pid": os.getpid(), "what": what, "rid": r.header("x-request-id"), "whole": r.whole}) + "\n")

    def _arrived(self, r, probe):
        super()._arrived(r, probe)
        self._tell("arrived", r, probe)

    def _ended(self, r, probe):
        told, r.told = getattr(r, "told", False), True
        super()._ended(r, probe)
        if not told and r.client_closed_at is None:
            self._tell("ended", r, probe)


def poison(text):
    word = text.encode()

    def by(r):
        if word + b"-mid" in r.body:
            return {"chunks": 10, "pace": 0.05, "die_after": 2}
        if word in r.body:
            os.kill(os.getpid(), signal.SIGKILL)
        return {}
    return by


def start_helper(a):
    helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)", str(a.pids)], start_new_session=a.escape)  # inherits an ignored signal
    if a.pids:
        tmp = Path(a.pids + ".new")
        tmp.write_text(f"{os.getpid()}\n{helper.pid}\n")
        tmp.rename(a.pids)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("port", type=int, nargs="?")
    p.add_argument("--socket")
    p.add_argument("--pids")
    p.add_argument("--escape", action="store_true")
    p.add_argument("--delay", type=float, default=0)
    p.add_argument("--die-after-requests", type=int)
    p.add_argument("--deaf", action="store_true")
    p.add_argument("--exit-at-once", type=int)
    p.add_argument("--fail-starts", nargs=2)
    p.add_argument("--ids")
    p.add_argument("--poison")
    p.add_argument("--spam", type=int)
    p.add_argument("--print-env", action="store_true")
    p.add_argument("--say")
    p.add_argument("--behave", type=json.loads, default={})
    a = p.parse_args()
    print("child worker: loading the model", flush=True)
    if a.say:
        print(a.say, flush=True)
    if a.print_env:
        print("\n".join(f"{k}={v}" for k, v in os.environ.items()), flush=True)
    if a.exit_at_once is not None:
        print("child worker: cannot load the model: no such file", file=sys.stderr, flush=True)
        sys.exit(a.exit_at_once)
    if a.fail_starts:
        count = Path(a.fail_starts[1])
        n = int(count.read_text()) if count.exists() else 0
        count.write_text(str(n + 1))
        if n < int(a.fail_starts[0]):
            print(f"child worker: start {n + 1} fails on purpose", file=sys.stderr, flush=True)
            sys.exit(3)
    if a.deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    start_helper(a)
    if a.spam:
        block = b"".join(b"line %06d %s\n" % (i, b"x" * 80) for i in range(11000))[:1 << 20]
        for _ in range(a.spam):
            sys.stdout.buffer.write(block)
        sys.stdout.flush()
    time.sleep(a.delay)
    w = At(a.port, a.socket, a.ids)
    w.behave(**({"by": poison(a.poison)} if a.poison else {}), **a.behave)
    while True:
        time.sleep(0.02)
        if a.die_after_requests is not None and len(w.requests) >= a.die_after_requests and not w.running:
            time.sleep(0.1)
            print("child worker: out of memory on purpose", flush=True)
            os._exit(7)


if __name__ == "__main__":
    main()
