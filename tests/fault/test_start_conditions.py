"""What a gate is started with that is none of its own: descriptors that are closed, too few of them; and a log that cannot be written over a reload."""
import os
import signal
import subprocess
import time

import httpx
import pytest

from lib import gate as lib
from lib.gate import ADMIN, BINARY, clean_env, free_port, model
from lib.raw import SLOW, until


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"], ids=["stdin", "stdout", "stderr", "all"])
def test_closed_descriptors(gate, worker, monkeypatch, tmp_path, closed):
    """libuv aborts where it is to close a descriptor of its own that is 0, 1 or 2; and what is said on stderr went into a socket or a secret's file."""
    wrapped = tmp_path / "wrapped"
    wrapped.write_text(f'#!/bin/sh\nexec {BINARY} "$@" {closed}\n')
    wrapped.chmod(0o755)
    monkeypatch.setattr(lib, "BINARY", wrapped)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    g = gate(models=[model("m", worker())], listen=[f"127.0.0.1:{port}"], start=False)
    g.start(wait=False)

    def answers():
        try:
            return httpx.get(url + "/readyz", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False
    until(answers, 10 * SLOW, "the gate's being ready")
    ours = {int(fd): os.readlink(f"/proc/{g.pid}/fd/{fd}") for fd in "012"}
    assert [fd for i, fd in enumerate(("<&-", ">&-", "2>&-")) if fd in closed.split() and ours[i] != "/dev/null"] == [], ours
    r = g.client(ADMIN, url=url).post("/v1/chat/completions", json={"model": "m", "messages": [{"role": "user", "content": "x"}]})
    assert r.status_code == 200
    g.stop()
    assert g.log()[-1]["event"] == "gate.ended"


@pytest.mark.parametrize("most", [8, 12, 16, 20, 24])
def test_too_few_descriptors(tmp_path, most):
    """Not "out of memory"."""
    p = subprocess.Popen(["sh", "-c", f"ulimit -n {most}; exec {BINARY} serve"], cwd=tmp_path, env=clean_env({"LOAD_BALANCER_PORT": "0", "INFERENCE_ADMIN_KEY": ADMIN}), stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        said = p.communicate(timeout=3 * SLOW)[1]
    except subprocess.TimeoutExpired:
        p.send_signal(signal.SIGTERM)
        said = p.communicate(timeout=20 * SLOW)[1]
    said = [line for line in said.splitlines() if line.startswith("tollgate: ")]  # a build with AddressSanitizer tells of what a start that fails has left to the kernel
    assert "memory" not in "".join(said), said
    assert "tollgate: ready" in said or "Too many open files" in said[-1], said


def test_a_log_that_fails_is_told_once(gate, worker):
    """Not anew at each reload; and again once it had worked in between."""
    g = gate(models=[model("m", worker())], toml={"log": {"path": "/dev/full"}, "audit": {"path": "/dev/full"}})
    c = g.client(ADMIN)

    def said(what):
        return sum(f"tollgate: {what}: cannot write" in line for line in g.stderr().splitlines())

    def done(n):
        return lambda: said("log") == n and said("audit") == n

    def work():
        assert c.get("/status").status_code == 200 and g.client("wrong").get("/status").status_code == 401
    work()
    until(done(1), 5 * SLOW, "its being told")
    for _ in range(3):
        os.kill(g.pid, signal.SIGHUP)
        time.sleep(0.3)
        work()
    time.sleep(1)  # a line is written within a tenth of one, and an event in the next try after a quarter
    assert done(1)(), g.stderr()
    g.write_config(toml={"log": {"path": "logs/app.log"}, "audit": {"path": "logs/audit.jsonl"}})
    g.reload()
    work()
    until(lambda: (g.dir / "logs/audit.jsonl").stat().st_size, 5 * SLOW, "the trail")
    g.write_config(toml={"log": {"path": "/dev/full"}, "audit": {"path": "/dev/full"}})
    os.kill(g.pid, signal.SIGHUP)
    time.sleep(0.3)
    work()
    until(done(2), 5 * SLOW, "its being told again")
