"""
Faults of the workers' side that were found once, each by a test that failed on it: what a dead worker, a reload, or a command of an unusual kind did to requests, to other processes
and to the terminal of whoever looked.
"""
import json
import os
import re
import signal
import stat as modes
import sys
import threading
import time
from pathlib import Path

import pytest

from lib.gate import ADMIN, READ, model, run_cli
from lib.pool import CHILD, Clients, all_up, gone, pool, processes, running, started, status, zombies
from lib.raw import SLOW, Stream, chat, exchange, until

CLOSE = ("Connection", "close")
WRAP = f"\nsys.argv[0] = {str(CHILD)!r}\nexec(compile(open({str(CHILD)!r}).read(), {str(CHILD)!r}, 'exec'), {{'__name__': '__main__', '__file__': {str(CHILD)!r}}})\n"


def plain(g, text="hello", timeout=30, **kw):
    return exchange(g, chat(text, headers=[CLOSE], **kw), timeout=timeout * SLOW)


def state(g, worker, name="m"):
    return next(w["state"] for w in pool(g, name) if w["worker_id"] == worker)


def metric(g, line):
    got = re.search(rf"^{re.escape(line)} ([0-9.]+)$", g.client(ADMIN).get("/metrics").text, re.M)
    return float(got.group(1)) if got else 0.0


def command(tmp_path, text, *args, **options):
    """A [[model]] row whose command is this Python text, with {port} as its first argument."""
    f = tmp_path / f"command{len(list(tmp_path.glob('command*')))}.py"
    f.write_text(text)
    return {"name": "m", "command": [sys.executable, str(f), "{port}", *map(str, args)], **options}


# ------------------------------------------------------------------------------------------------ requests

def test_a_trial_that_fails_beside_a_worker_that_is_gone(gate, worker, tmp_path):
    """The one that is tried answers 500, the other cannot be reached any more: the request ends with an answer, and the gate lives."""
    a, b = worker(unix=str(tmp_path / "a")).behave(status=500), worker(unix=str(tmp_path / "b"))
    g = gate(models=[model("m", a, b)])
    until(lambda: plain(g) and state(g, 0) == "down", 20 * SLOW, "the failing one being out")
    until(lambda: status(g)["model_pools"]["m"][0]["state"] == "down", 5, "it")
    time.sleep(2.2)  # cooled down and probed
    b.down()

    def ends(_):
        a._listener.close()
        os.unlink(a.unix)
        return {"status": 500, "close": True}
    a.behave(by=ends)
    assert plain(g).statuses in ([503], [500], [502])
    assert g.alive() and g.client(ADMIN).get("/livez").status_code == 200


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/infer"])
def test_equal_requests_in_the_hand_of_one_dying_worker(gate, path):
    """One death is one, however many equal requests were there: all are answered by the next process, and none is refused afterwards."""
    g = gate(models=[started("m", 1, ["--behave", json.dumps({"delay": 0.8 * SLOW})], slots=4, queue_ms=60000)])
    w = all_up(g, "m")[0]
    body = {"model": "m", "messages": [{"role": "user", "content": "ping"}]} if path != "/infer" else {"model_name": "m", "request_body": {"input": "ping"}}
    got = []
    ts = [threading.Thread(target=lambda: got.append(g.client(READ).post(path, json=body, timeout=60).status_code)) for _ in range(4)]
    for t in ts:
        t.start()
    until(lambda: pool(g, "m")[0]["in_use"] == 4, 5 * SLOW, "all four being there")
    os.kill(w["pid"], signal.SIGKILL)
    for t in ts:
        t.join()
    assert got == [200] * 4
    assert g.client(READ).post(path, json=body, timeout=60).status_code == 200


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/infer"])
def test_an_answer_clears_a_request_of_its_suspicion(gate, path):
    """Twice a worker is killed by somebody else while this request is with it, and each time it is answered: it has killed nobody."""
    g = gate(models=[started("m", 1, ["--behave", json.dumps({"delay": 0.5 * SLOW})], queue_ms=60000)])
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}]} if path != "/infer" else {"model_name": "m", "request_body": {"input": "x"}}
    got = []
    for _ in range(3):
        w = all_up(g, "m")[0]
        t = threading.Thread(target=lambda: got.append(g.client(READ).post(path, json=body, timeout=60).status_code))
        t.start()
        until(lambda: pool(g, "m")[0]["in_use"], 5 * SLOW, "the request being there")
        os.kill(w["pid"], signal.SIGKILL)
        t.join()
    assert got == [200] * 3


def test_a_session_does_not_fill_the_queue_for_others(gate, worker):
    """Its requests wait for their worker up to the queue's bound; somebody else's goes to the worker that is free."""
    a, b = worker().behave(delay=3 * SLOW), worker().behave(delay=3 * SLOW)
    g = gate(models=[model("m", a, b, slots=1, queue=4)], toml={"server": {"threads": 1}})
    held = []
    for _ in range(5):
        held.append(Stream(g, data=chat("held", headers=[("X-Session-ID", "s")]), timeout=60))
        time.sleep(0.1)
    until(lambda: status(g)["models"][0]["queue_length"] == 4, 5 * SLOW, "the queue being full")
    (b if a.requests else a).behave(delay=0)
    assert plain(g, "somebody else").statuses == [200]
    assert exchange(g, chat("held", headers=[("X-Session-ID", "s"), CLOSE]), timeout=10).statuses == [503]
    assert g.wait_log(lambda r: r["reason"] == "queue_full")
    for s in held:
        s.close()


BUSY = r'''
import os, socket, sys, threading, time
mode, busy = sys.argv[2], 0
def serve(c):
    global busy
    data = b""
    while b"\r\n\r\n" not in data:
        got = c.recv(65536)
        if not got:
            return c.close()
        data += got
    if data.startswith(b"GET"):
        while busy and mode == "silent":
            time.sleep(0.05)
        word = b"503 Service Unavailable" if busy and mode == "sick" else b"200 OK"
        c.sendall(b"HTTP/1.1 " + word + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        return c.close()
    n = int([x for x in data.split(b"\r\n") if x.lower().startswith(b"content-length")][0].split(b":")[1])
    while len(data.split(b"\r\n\r\n", 1)[1]) < n:
        data += c.recv(65536)
    if b"drop" in data:
        return c.close()
    busy += 1
    c.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
    for i in range(int(sys.argv[3])):
        c.sendall(b'data: {"choices":[{"delta":{"content":"%d "}}]}\n\n' % i)
        time.sleep(0.2)
    c.sendall(b"data: [DONE]\n\n")
    busy -= 1
    c.close()
l = socket.socket()
l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
l.bind(("127.0.0.1", int(sys.argv[1])))
l.listen(64)
while True:
    threading.Thread(target=serve, args=(l.accept()[0],), daemon=True).start()
'''


def long_stream_beside_a_drop(gate, tmp_path, mode, events):
    g = gate(models=[command(tmp_path, BUSY, mode, events)])
    w = all_up(g, "m")[0]
    with Stream(g, "long", timeout=120) as s:
        s.head().event()
        plain(g, "drop", timeout=1)
        rest = s.rest()
    assert s.whole and rest[-1] == b"data: [DONE]", rest[-1]
    assert running(w["pid"]) and not [r for r in g.log(0.3) if r["event"] == "worker.died"]


@pytest.mark.parametrize("mode", ["fine", "sick", "silent"])
def test_a_worker_that_dropped_one_request_goes_on_with_the_others(gate, tmp_path, mode):
    """It is doubted, and its health check is no help while it works; but it accepts connections, so it is there, and what it is at work on goes on."""
    long_stream_beside_a_drop(gate, tmp_path, mode, 38)


@pytest.mark.slow
def test_a_worker_is_not_ended_under_the_request_it_answers(gate, tmp_path):
    """Neither after a minute without an answer to a health check."""
    long_stream_beside_a_drop(gate, tmp_path, "silent", 400)


def test_a_server_error_that_breaks_off_is_one(gate, worker):
    """And a client that leaves, or a total that is over, is no success of the worker."""
    w = worker().behave(raw=b"HTTP/1.1 500 No\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
    g = gate(models=[model("m", w, total_ms=700 * SLOW)], toml={"server": {"threads": 1}})
    plain(g)
    assert metric(g, "tollgate_worker_errors_total") == 1
    ends = 'tollgate_worker_requests_total{model="m",worker="m/0",outcome="%s"}'
    assert metric(g, ends % "error") == 1
    w.behave(delay=5 * SLOW)
    s = Stream(g, "x")
    until(lambda: w.running, 5 * SLOW, "the request being there")
    s.vanish()
    until(lambda: metric(g, ends % "cut") == 1, 5 * SLOW, "its being counted")
    assert plain(g).statuses == [504]
    assert metric(g, ends % "ok") == 0 and metric(g, ends % "cut") == 2 and metric(g, ends % "error") == 1


# ------------------------------------------------------------------------------------------------ reloads

def test_a_request_whose_body_comes_slowly_over_a_reload(gate):
    """The command has changed meanwhile: the old worker stays until nobody can want it any more."""
    g = gate(models=[started("m", queue_ms=60000)])
    all_up(g, "m")
    head, _, body = chat("hello", headers=[CLOSE]).partition(b"\r\n\r\n")
    with g.connect(timeout=30) as s:
        s.sendall(head + b"\r\n\r\n" + body[:10])
        time.sleep(0.2)
        g.write_config(models=[started("m", 1, ["--say", "new"], queue_ms=60000)])
        g.reload()
        all_up(g, "m")
        time.sleep(1)
        s.sendall(body[10:])
        assert s.recv(65536).startswith(b"HTTP/1.1 200")


def test_a_request_that_waits_for_a_start_over_a_reload(gate):
    g = gate(models=[started("m", 1, ["--delay", 2 * SLOW], queue_ms=60000)])
    got = []
    t = threading.Thread(target=lambda: got.append(plain(g)))
    t.start()
    time.sleep(0.5)
    g.write_config(models=[started("m", queue_ms=60000)])
    g.reload()
    t.join()
    assert got[0].statuses == [200]


def test_reloads_that_change_the_command_under_load(gate):
    g = gate(models=[started("m", 2, queue_ms=60000)])
    all_up(g, "m", 2)
    clients = Clients(g, 6, prefix="l")
    for i in range(5):
        g.write_config(models=[started("m", 2, ["--say", f"v{i}"], queue_ms=60000)])
        g.reload()
        all_up(g, "m", 2, 30)
    clients.stop()
    assert not clients.bad, dict(list(clients.bad.items())[:5])


def test_counts_for_a_model_that_a_reload_removes(gate):
    """--workers m=2 must not make every reload fail once the file has no m any more."""
    g = gate(models=[started("m"), started("n")], args=["--workers", "m=2"])
    all_up(g, "m", 2)
    g.write_config(models=[started("n")])
    assert g.reload()["event"] == "config.reloaded"
    until(lambda: "--workers m=2 is ignored" in g.stderr(), 3 * SLOW, "the warning")


CHATTER = r'''
import os, socket, sys, threading
def serve(c):
    data = b""
    while b"\r\n\r\n" not in data:
        got = c.recv(65536)
        if not got:
            return c.close()
        data += got
    if data.startswith(b"GET"):
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        return c.close()
    c.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
    for i in range(4):
        for _ in range(320):
            os.write(1, b"x" * 65535 + b"\n")  # 20 MiB of chatter between two events
        c.sendall(b'data: {"choices":[{"delta":{"content":"%d "}}]}\n\n' % i)
    c.sendall(b"data: [DONE]\n\n")
    c.close()
l = socket.socket()
l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
l.bind(("127.0.0.1", int(sys.argv[1])))
l.listen(64)
while True:
    threading.Thread(target=serve, args=(l.accept()[0],), daemon=True).start()
'''


@pytest.mark.parametrize("pause", [0, 0.35], ids=["reading", "paused"])
def test_output_is_read_on_while_a_worker_leaves(gate, tmp_path, pause):
    """It writes more than is read in a second, and its reading pauses in the moment a reload removes it, or after: its answer is whole, and it goes."""
    g = gate(models=[command(tmp_path, CHATTER, stop_ms=2000), started("n")], toml={"server": {"drain_ms": 60000}})
    w = all_up(g, "m")[0]
    with Stream(g, "long", timeout=60 * SLOW) as s:
        s.head().event()
        time.sleep(pause)
        g.write_config(models=[started("n")])
        g.reload()
        rest = s.rest()
    assert rest and rest[-1] == b"data: [DONE]" and s.whole
    gone([w["pid"]])


@pytest.mark.release_only
def test_a_flood_before_it_is_ready_is_paused_too(gate):
    """`yes` never becomes ready; it costs the gate little all the same. (An instrumented reader's CPU says nothing.)"""
    g = gate(models=[{"name": "m", "command": ["sh", "-c", "exec yes {port}"]}])
    time.sleep(1)

    def cpu():
        return sum(map(int, Path(f"/proc/{g.pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13])) / os.sysconf("SC_CLK_TCK")
    before = cpu()
    time.sleep(3)
    assert cpu() - before < 0.3 * 3
    g.client(ADMIN).get("/status")


# ------------------------------------------------------------------------------------------------ processes

def test_no_zombies_of_commands_that_cannot_be_run(gate, tmp_path):
    bad = tmp_path / "bad"
    bad.write_text("#!/nonexistent/interpreter\n")
    bad.chmod(0o755)
    g = gate(models=[{"name": "m", "workers": 2, "command": [str(bad), "{port}"]}])
    until(lambda: status(g)["models"][0]["state"] == "failed", 20 * SLOW, "it being given up")
    assert "No such file" in pool(g, "m")[0]["reason"]
    until(lambda: not zombies(g.pid), 3 * SLOW, "all children being reaped")


def test_what_killed_keepers_leave_is_ended(gate, tmp_path):
    """The command, what it had put into the background in a session of its own, and nothing else; no zombie stays."""
    g = gate(models=[started("m", 1, ["--pids", tmp_path / "pids", "--escape"]), started("n")])
    other = all_up(g, "n")[0]["pid"]
    left = []
    for _ in range(3):
        w = all_up(g, "m")[0]
        left += [int(x) for x in (tmp_path / "pids").read_text().split()]
        os.kill(int(Path(f"/proc/{w['pid']}/stat").read_text().rsplit(")", 1)[1].split()[1]), signal.SIGKILL)
        until(lambda: pool(g, "m")[0]["pid"] not in (None, w["pid"]), 10 * SLOW, "the next one")
    gone(left)
    until(lambda: not zombies(g.pid), 3 * SLOW, "all children being reaped")
    assert running(other)


def test_what_a_killed_keeper_leaves_last_is_ended_with_the_gate(gate, tmp_path):
    g = gate(models=[started("m", 1, ["--pids", tmp_path / "pids", "--escape"])])
    w = all_up(g, "m")[0]
    left = [int(x) for x in (tmp_path / "pids").read_text().split()]
    os.kill(int(Path(f"/proc/{w['pid']}/stat").read_text().rsplit(")", 1)[1].split()[1]), signal.SIGKILL)
    g.stop()
    gone(left, 2)


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_command_in_another_process_group_is_ended(gate, tmp_path, how):
    g = gate(models=[command(tmp_path, "import os, sys\nos.setpgid(0, os.getpgid(os.getppid()))" + WRAP, stop_ms=1000)])
    w = all_up(g, "m")[0]
    if how == "killed":
        g.kill()
    else:
        g.stop()
    gone([w["pid"]], 5)


def test_a_given_up_worker_is_not_tried_again_for_others_faults(gate, tmp_path):
    count = tmp_path / "n"
    text = (f"import os, sys\nfrom pathlib import Path\nf = Path({str(count)!r})\nn = int(f.read_text()) if f.exists() else 0\nf.write_text(str(n + 1))\n"
            f"if n:\n    sys.exit(3)\nsys.argv += ['--behave', '{{\"delay\": 1}}']" + WRAP)
    g = gate(models=[command(tmp_path, text), model("other", "http://127.0.0.1:1")])
    w = all_up(g, "m")[0]
    t = threading.Thread(target=lambda: plain(g))
    t.start()
    until(lambda: pool(g, "m")[0]["in_use"], 5 * SLOW, "the request being there")
    os.kill(w["pid"], signal.SIGKILL)
    t.join()
    until(lambda: status(g)["models"][0]["state"] == "failed", 20 * SLOW, "it being given up")
    starts = count.read_text()
    assert plain(g, model="other").statuses == [503]
    time.sleep(0.5)
    assert count.read_text() == starts and status(g)["models"][0]["state"] == "failed"


def test_ports_are_not_given_twice(gate, tmp_path):
    """Workers that bind late: each has its own port from the start, outside of what the kernel takes for outgoing connections."""
    g = gate(models=[started("m", 12, ["--delay", 0.5]), started("n", 4, ["--delay", 0.2])])
    ports = [w["port"] for m in ("m", "n") for w in pool(g, m)]
    assert len(set(ports)) == 16
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert low < 20000 or all(1024 <= p < low for p in ports)
    all_up(g, "m", 12, 60)
    g.write_config(models=[started("n", 4, ["--delay", 0.2])])
    g.reload()
    until(lambda: "m" not in status(g)["model_pools"], 5 * SLOW, "the model being gone")


def test_a_program_of_the_commands_own_path(gate, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "only-here").symlink_to(sys.executable)
    row = started("m", env=[f"PATH={tmp_path}/bin:/usr/bin:/bin"])
    row["command"][0] = "only-here"
    g = gate(models=[row])
    all_up(g, "m")
    # And one that is not there is told before anything is started.
    row["env"] = ["PATH=/usr/bin:/bin"]
    g.write_config(models=[row])
    assert g.reload()["event"] == "config.reload_failed"


# ------------------------------------------------------------------------------------------------ what they write

def test_nothing_that_a_worker_writes_acts_on_a_terminal(gate, tmp_path):
    text = ("import sys, os\nos.write(1, b'\\x1b]0;owned\\x07\\x1b[2J\\x1b[31mall 9 workers are ready\\x1b[0m \\xc2\\x9b31m \\xe2\\x80\\xae \\xff\\xfe\\n')\n"
            "if len(sys.argv) > 2:\n    sys.exit(3)" + WRAP)
    g = gate(models=[command(tmp_path, text), {**command(tmp_path, text, "x"), "name": "n"}])
    all_up(g, "m")
    until(lambda: status(g)["models"][1]["state"] == "failed", 20 * SLOW, "it being given up")
    said = g.client(ADMIN).get("/logs", headers={"Accept": "text/plain"}).content + g.stderr().encode() + (g.dir / "logs" / "workers.log").read_bytes()
    assert b"all 9 workers are ready ?31m ? ??" in said
    assert all(c >= 32 and c != 127 or c == 10 for c in said) and "\u202e" not in said.decode() and "\x9b" not in said.decode()


def test_keys_in_their_output(gate):
    """One that lies where the line is cut, and the worker's own, whatever it looks like."""
    token = "aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY3zA5bC7d"
    g = gate(models=[started("m", 1, ["--say", "x" * 4076 + " " + token]), started("n", 1, ["--say", "key correct horse 42, again correct horse 42."], api_key="correct horse 42")])
    all_up(g, "m")
    all_up(g, "n")
    text = g.client(ADMIN).get("/logs").text
    assert token[:6] not in text and "correct horse" not in text and "again" in text


def test_keys_in_the_configuration_shown(tmp_path):
    (tmp_path / "tollgate.toml").write_text('[[model]]\nname = "m"\ncommand = ["serve", "{port}", "--api-key", "sk-abcdefghijklmnop0123456789"]\n'
                                            'env = ["HF_TOKEN=plainwords", "THREADS=4", "MY_PASSWORD=x"]\napi_key = "worker-key-0123456789"\n')
    said = run_cli("config", "show", cwd=tmp_path).stdout
    assert "plainwords" not in said and "abcdefghijklmnop" not in said and "MY_PASSWORD=x" not in said and "worker-key-0123456789" not in said
    assert "THREADS=4" in said and "HF_TOKEN=[redacted]" in said


def test_both_logs_in_one_file_are_refused(tmp_path):
    (tmp_path / "tollgate.toml").write_text('[log]\npath = "one.log"\nworkers_path = "one.log"\n')
    p = run_cli("config", "check", cwd=tmp_path)
    assert p.returncode == 2 and "workers_path" in p.stderr + p.stdout


def test_the_folder_of_sockets_is_closed_to_others(gate):
    g = gate(models=[started("m", place="{socket}")], start=False)
    (g.dir / "data" / "run").mkdir(parents=True)
    (g.dir / "data" / "run").chmod(0o777)
    g.start()
    all_up(g, "m")
    assert modes.S_IMODE((g.dir / "data" / "run").stat().st_mode) == 0o700


def test_pages_show_reasons_as_text(gate, tmp_path):
    """A reason may hold whatever a file is called."""
    weights = tmp_path / "<b>&\"weights.gguf"
    weights.write_text("x")
    g = gate(models=[started("m", file=str(weights))])
    w = all_up(g, "m")[0]
    weights.unlink()
    os.kill(w["pid"], signal.SIGKILL)
    until(lambda: "<b>" in json.dumps(status(g)), 10 * SLOW, "the reason being told")
    page = g.client(ADMIN).get("/dashboard").text
    assert "<b>" not in page and "&lt;b&gt;&amp;" in page
    assert not processes(tmp_path / "nothing")
