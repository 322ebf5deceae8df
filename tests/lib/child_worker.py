#!/usr/bin/env python3
"""
A model worker as a command, for `tollgate run`: child_worker.py PORT [--pids FILE] [--delay S] [--die-after-requests N] [--deaf] [--exit-at-once N]

Serves what lib/worker.py serves on 127.0.0.1:PORT. --pids: writes its own pid and that of a helper process it starts, one a line. --delay: listens only
after that time. --die-after-requests N: after N answers it prints a line and exits with status 7. --deaf: ignores SIGTERM, and so does its helper.
--exit-at-once N: prints a line and exits with status N before it listens.
"""
import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.worker import Worker  # noqa: E402


class At(Worker):
    """A worker on a given port."""

    def __init__(self, port):
        self._port = port
        super().__init__()

    def _bind(self, listen=True):
        self.port = self._port
        super()._bind(listen)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("port", type=int)
    p.add_argument("--pids")
    p.add_argument("--delay", type=float, default=0)
    p.add_argument("--die-after-requests", type=int)
    p.add_argument("--deaf", action="store_true")
    p.add_argument("--exit-at-once", type=int)
    a = p.parse_args()
    print("child worker: loading the model", flush=True)
    if a.exit_at_once is not None:
        print("child worker: cannot load the model: no such file", file=sys.stderr, flush=True)
        sys.exit(a.exit_at_once)
    if a.deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])  # inherits the ignored signal
    if a.pids:
        tmp = Path(a.pids + ".new")
        tmp.write_text(f"{os.getpid()}\n{helper.pid}\n")
        tmp.rename(a.pids)
    time.sleep(a.delay)
    w = At(a.port)
    while True:
        time.sleep(0.02)
        if a.die_after_requests is not None and len(w.requests) >= a.die_after_requests and not w.running:
            time.sleep(0.1)
            print("child worker: out of memory on purpose", flush=True)
            os._exit(7)


if __name__ == "__main__":
    main()
