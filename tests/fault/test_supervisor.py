"""
Workers that the gate starts: how they come up, what is known of them, what happens when they end, do not come up, write without end or are to go; and that nothing is
ever left behind. The commands are real processes (lib/child_worker.py), seen from outside.
"""
import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

from lib.gate import ADMIN, READ, model, run_cli
from lib.pool import CHILD, Clients, all_up, gone, ids_of, pool, processes, reconcile, running, started, status
from lib.raw import SLOW, Stream, chat, exchange, until

CLOSE = ("Connection", "close")


def plain(g, text="hello", timeout=20, **kw):
    return exchange(g, chat(text, headers=[CLOSE], **kw), timeout=timeout * SLOW)


def pids_of(path):
    return [int(x) for x in until(lambda: Path(path).exists() and Path(path).read_text(), 15 * SLOW, f"{path} being written").split()]


def metric(g, name, **labels):
    text = g.client(ADMIN).get("/metrics").text
    want = ",".join(f'{k}="{v}"' for k, v in labels.items())
    got = re.search(rf"^{re.escape(name)}\{{{re.escape(want)}\}} ([0-9.]+)$", text, re.M)
    return float(got.group(1)) if got else None


# ------------------------------------------------------------------------------------------------ coming up

def test_workers_come_up_and_are_known(gate, tmp_path):
    """Each gets a port, is awaited, serves, and is known with its process, its use of the machine and its state."""
    g = gate(models=[started("m", 3, ["--pids", tmp_path / "pids{index}", "--delay", "0.3"])])
    workers = all_up(g, "m", 3)
    assert [w["name"] for w in workers] == ["m/0", "m/1", "m/2"] and [w["worker_id"] for w in workers] == [0, 1, 2]
    assert len({w["port"] for w in workers}) == len({w["pid"] for w in workers}) == 3
    for i, w in enumerate(workers):
        child, helper = pids_of(tmp_path / f"pids{i}")
        assert child == w["pid"], "the process is not the command's"
        assert os.getpgid(child) == os.getpgid(helper) == child, "the command has no process group of its own"
        assert w["slots"] == 4 and w["restarts"] == 0 and w["reason"] is None and w["uptime_seconds"] >= 0
        assert metric(g, "tollgate_worker_state", model="m", worker=w["name"], state="up") == 1
        assert metric(g, "tollgate_worker_state", model="m", worker=w["name"], state="starting") == 0
    assert [plain(g, f"t{i}").statuses for i in range(6)] == [[200]] * 6
    assert sum(w["requests"] for w in pool(g, "m")) == sum(w["success"] for w in pool(g, "m")) == 6
    used = until(lambda: [w for w in pool(g, "m") if w["memory_bytes"] > 5 << 20 and w["cpu_seconds"] > 0], 15 * SLOW, "the use of memory and CPU being known")
    assert metric(g, "tollgate_worker_resident_memory_bytes", model="m", worker=used[0]["name"]) > 5 << 20
    # Both processes of a worker count: an interpreter takes about ten megabytes.
    assert used[0]["memory_bytes"] > 15 << 20
    assert "all 3 workers are ready" in g.stderr()


def test_infer_names_the_process(gate):
    """001's reply has api_worker_pid: for a started worker it is true."""
    g = gate(models=[started("m")])
    w = all_up(g, "m")[0]
    r = g.client().post("/infer", json={"model_name": "m", "request_body": {"input": "x"}}).json()
    assert r["api_worker_pid"] == w["pid"] and r["response"] == "x"


def test_by_unix_socket(gate, tmp_path):
    """{socket}: a file in a folder that only we can enter, gone when the worker is."""
    g = gate(models=[started("m", 2, place="{socket}")])
    all_up(g, "m", 2)
    folder = g.dir / "data" / "run"
    assert (folder.stat().st_mode & 0o777) == 0o700 and len(list(folder.iterdir())) == 2
    assert [w["port"] for w in pool(g, "m")] == [None, None]
    assert [plain(g, f"t{i}").statuses for i in range(4)] == [[200]] * 4
    g.stop()
    assert not list(folder.iterdir()), "socket files were left"


def test_its_environment_holds_no_key_of_ours(gate):
    """Variables with the gate's keys stay with the gate, whatever they are called; `env` sets others, with words in braces."""
    g = gate(models=[started("m", 1, ["--print-env"], env=["MODEL_NAME={model}-{index}", "PATH=/usr/bin:/bin"], api_key="env:WORKER_KEY")],
             keys="read", toml={"auth": {"admin_key": "env:HOUSE_KEY"}},
             env={"HOUSE_KEY": ADMIN, "WORKER_KEY": "its-own", "TOLLGATE_API_KEYS": "sk-tollgate-list-0123456789abcdef", "CHAPKIT_API_KEYS": "sk_chap_0123456789abcdef", "TOLLGATE_LOG_LEVEL": "debug", "HARMLESS": "yes"})
    all_up(g, "m")
    lines = "\n".join(x for w in g.client(ADMIN).get("/logs?lines=200").json()["workers"] for x in w["lines"])
    assert "MODEL_NAME=m-0" in lines and "HARMLESS=yes" in lines and "WORKER_KEY=" in lines and "PATH=/usr/bin:/bin" in lines
    for name in ("INFERENCE_ADMIN_KEY", "INFERENCE_READ_KEY", "TOLLGATE_", "CHAPKIT_API_KEYS", "HOUSE_KEY"):
        assert name not in lines, name
    environ = Path(f"/proc/{pool(g, 'm')[0]['pid']}/environ").read_bytes()
    assert ADMIN.encode() not in environ and READ.encode() not in environ


def test_requests_wait_for_a_worker_that_is_starting(gate):
    """A request that comes while its model loads is not refused: it waits in the queue, and is served first come first served."""
    g = gate(models=[started("m", 1, ["--delay", 1.0 * SLOW])])
    assert pool(g, "m")[0]["state"] == "starting" and status(g)["models"][0]["state"] == "starting"
    assert g.client().get("/health").json()["status"] == "degraded"
    r = plain(g)
    assert r.statuses == [200] and r.seconds > 0.3
    assert g.client().get("/health").json()["status"] == "healthy"


def test_a_queue_that_waits_for_a_start_is_bounded(gate):
    """Its places and its time are bounded as ever, and the answer says that the model is starting."""
    g = gate(models=[started("m", 1, ["--delay", "60"], queue=1, queue_ms=400 * SLOW)])
    with Stream(g, "waits", stream=False) as s:
        until(lambda: status(g)["models"][0]["queue_length"] == 1, 5 * SLOW, "the first request waiting")
        r = plain(g)
        assert r.statuses == [503] and g.record(r.answers[0].header("x-request-id"))["reason"] == "queue_full"
        assert s.head().status == 503
    rec = g.wait_log(lambda r: r["reason"] == "queue_timeout")
    assert rec["worker"] is None and b"starting" in s.buf


# ------------------------------------------------------------------------------------------------ not coming up

def starts_of(g, event="worker.start_failed"):
    return [r for r in g.log() if r.get("event") in (event, "worker.failed")]


def test_a_worker_that_exits_at_once_has_three_tries(gate):
    """Three tries with growing waits; then the model is `failed`, /status says why with the reason, and requests get a 503 that says so."""
    g = gate(models=[started("m", 1, ["--exit-at-once", "3"]), model("other", "http://127.0.0.1:1")])
    until(lambda: status(g)["models"][0]["state"] == "failed", 20 * SLOW, "the model being given up")
    tries = starts_of(g)
    assert [t["try"] for t in tries] == [1, 2, 3] and [t["event"] for t in tries] == ["worker.start_failed"] * 2 + ["worker.failed"]
    assert tries[0]["next_ms"] < tries[1]["next_ms"] < tries[2]["next_ms"], "the waits do not grow"
    w = pool(g, "m")[0]
    assert w["state"] == "failed" and w["reason"] == "exited with status 3" and w["start_tries"] == 3 and w["pid"] is None
    r = plain(g)
    body = r.answers[0].json()
    assert r.statuses == [503] and r.seconds < 1 * SLOW and body["code"] == "UNAVAILABLE" and body["error"]["code"] == "model_failed"
    assert "failed" in body["detail"] and "no such file" not in json.dumps(body), "what a worker wrote is no caller's business"
    assert g.record(r.answers[0].header("x-request-id"))["reason"] == "model_failed"
    assert metric(g, "tollgate_worker_state", model="m", worker="m/0", state="failed") == 1
    # The operator is told with the last lines of its output.
    said = g.stderr()
    assert "exited with status 3; that was try 3 of 3" in said and "cannot load the model: no such file" in said
    assert "has failed" in said and g.client().get("/health").json()["status"] == "degraded"


def test_who_waits_for_a_worker_that_is_given_up_is_told(gate):
    """Requests in the queue are answered when the last hope is gone, not when their time is over."""
    g = gate(models=[started("m", 1, ["--exit-at-once", "3"], queue_ms=60000)])
    start = time.monotonic()
    r = plain(g, timeout=30)
    assert r.statuses == [503] and r.answers[0].json()["error"]["code"] == "model_failed"
    assert time.monotonic() - start < 20 * SLOW


def test_a_failed_worker_can_be_tried_again(gate, tmp_path):
    """POST /models/reload starts what was given up; no restart of the gate is needed."""
    g = gate(models=[started("m", 1, ["--fail-starts", "3", tmp_path / "count"])])
    until(lambda: status(g)["models"][0]["state"] == "failed", 20 * SLOW, "the model being given up")
    r = g.client(ADMIN).post("/models/reload", json={"model_id": "m"})
    assert r.status_code == 200
    w = all_up(g, "m")[0]
    assert w["start_tries"] == 0 and w["reason"] is None and plain(g).statuses == [200]


def test_a_start_that_fails_once_is_tried_again(gate, tmp_path):
    g = gate(models=[started("m", 1, ["--fail-starts", "1", tmp_path / "count"])])
    all_up(g, "m")
    assert plain(g).statuses == [200] and len(starts_of(g)) == 1


def test_readiness_has_a_deadline(gate, tmp_path):
    """A process that does not answer in time is ended, and that was a try."""
    g = gate(models=[started("m", 1, ["--delay", "60", "--pids", tmp_path / "pids"], start_ms=800 * SLOW)])
    first = pids_of(tmp_path / "pids")
    until(lambda: starts_of(g), 10 * SLOW, "the deadline")
    assert "was not ready within" in starts_of(g)[0]["why"]
    gone(first)


def test_missing_files_and_programs_stop_the_start(tmp_path):
    """Before anything is started: which file, and what fetches it; which program."""
    for options, said in (({"file": "models/m.gguf", "fetch": "sh get.sh m"}, ["models/m.gguf", "No such file", "sh get.sh m"]),
                          ({"command": ["no-such-program-7", "{port}"]}, ["no-such-program-7", "PATH"]),
                          ({"command": ["/nonexistent/server", "{port}"]}, ["/nonexistent/server", "No such file"])):
        row = started("m", 1, [], **options)
        (tmp_path / "tollgate.toml").write_text('[server]\nlisten = ["127.0.0.1:0"]\n[[model]]\n' + "".join(f"{k} = {json.dumps(v)}\n" for k, v in row.items()))
        p = run_cli("serve", cwd=tmp_path, env={"INFERENCE_ADMIN_KEY": ADMIN})
        assert p.returncode == 1 and "ready" not in p.stderr, p.stderr
        for word in said + ["model m"]:
            assert word in p.stderr, (word, p.stderr)


def test_a_reload_with_a_missing_file_keeps_what_was(gate):
    g = gate(models=[started("m")])
    before = all_up(g, "m")[0]["pid"]
    g.write_config(models=[started("m", 2, file="nope.gguf")])
    assert g.reload()["event"] == "config.reload_failed"
    assert [w["pid"] for w in pool(g, "m")] == [before] and plain(g).statuses == [200]


@pytest.mark.parametrize("args,said", [(["--workers", "m=65"], "0 to 64"), (["--workers", "m=-1"], "0 to 64"), (["--workers", "m=many"], "0 to 64"), (["--workers", "m"], "MODEL=N"),
                                       (["--workers", "=3"], "MODEL=N"), (["--workers", "nope=1"], "no such model"), (["--workers"], "not understood")])
def test_wrong_counts(tmp_path, args, said):
    (tmp_path / "tollgate.toml").write_text('[[model]]\nname = "m"\ncommand = ["true", "{port}"]\n')
    p = run_cli("serve", *args, cwd=tmp_path)
    assert p.returncode == 2 and said in p.stderr, p.stderr


def test_no_workers_at_all(gate):
    """workers = 0: the model is there, and a request is told that nobody serves it."""
    g = gate(models=[started("m", 0), started("n")])
    all_up(g, "n")
    r = plain(g)
    assert r.statuses == [503] and "no workers" in r.answers[0].json()["detail"]
    assert status(g)["models"][0]["state"] == "empty" and plain(g, model="n").statuses == [200]


# ------------------------------------------------------------------------------------------------ ending unasked

def test_a_worker_that_dies_is_back_within_a_second(gate):
    """F2: back-off begins small. The process is another, it is counted, and its end is told with the signal."""
    g = gate(models=[started("m")])
    w = all_up(g, "m")[0]
    start = time.monotonic()
    os.kill(w["pid"], signal.SIGKILL)
    again = until(lambda: [x for x in pool(g, "m") if x["state"] == "up" and x["pid"] != w["pid"]], 10 * SLOW, "the worker being back", step=0.01)[0]
    assert time.monotonic() - start < 1.0 * SLOW + 0.5
    assert again["restarts"] == 1 and plain(g).statuses == [200]
    died = g.wait_log(lambda r: r["event"] == "worker.died")
    assert "signal 9" in died["why"] and died["next_ms"] == 100
    assert metric(g, "tollgate_worker_restarts_total", model="m", worker="m/0") == 1
    assert again["port"] == w["port"], "its port was free and is not its port any more"


def test_the_waits_grow_when_it_keeps_dying(gate):
    g = gate(models=[started("m")])
    for n in range(4):
        w = all_up(g, "m")[0]
        os.kill(w["pid"], signal.SIGKILL)
        until(lambda: len([r for r in g.log() if r["event"] == "worker.died"]) > n, 10 * SLOW, "its end")
    assert [r["next_ms"] for r in g.log() if r["event"] == "worker.died"] == [100, 200, 400, 800]


def test_no_request_is_lost_when_the_only_worker_dies(gate, tmp_path):
    """One worker, killed again and again under load: what it had in hand is answered by its next process."""
    g = gate(models=[started("m", 1, ["--ids", tmp_path / "ids", "--behave", '{"delay": 0.03}'], queue_ms=60000)])
    all_up(g, "m")
    clients = Clients(g, 4, prefix="one")
    for _ in range(3):
        w = all_up(g, "m")[0]
        time.sleep(0.3)
        os.kill(w["pid"], signal.SIGKILL)
        until(lambda: w["pid"] not in [x["pid"] for x in pool(g, "m")], 5 * SLOW, "its end being seen")
    all_up(g, "m")
    time.sleep(0.3)
    clients.stop()
    assert not clients.bad, dict(list(clients.bad.items())[:5])
    assert len(clients.good) > 20
    lines = reconcile(g, clients, ids_of([tmp_path / "ids"])[0])
    assert any(x[0]["retries"] for x in lines.values()), "no request had a worker die under it"


def test_streams_of_a_worker_that_dies(gate, tmp_path):
    """F2: those that were with it, and only those, end with an error event and no [DONE]; their tokens so far are in the log; nothing is replayed."""
    g = gate(models=[started("m", 3, ["--ids", tmp_path / "ids", "--behave", json.dumps({"chunks": 20, "pace": 0.03})], queue_ms=60000)])
    all_up(g, "m", 3)
    clients = Clients(g, 6, stream=True, text="{rid} " + "x" * 60, prefix="f2-")
    killed = set()
    for i in range(3):
        time.sleep(0.5 * SLOW)
        w = all_up(g, "m", 3)[i]
        os.kill(w["pid"], signal.SIGKILL)
        killed.add(w["pid"])
        until(lambda: w["pid"] not in [x["pid"] for x in pool(g, "m")], 5 * SLOW, "its end being seen")
    clients.stop()
    arrived, finished = ids_of([tmp_path / "ids"])
    lines = reconcile(g, clients, arrived)
    assert set(clients.bad) == clients.truncated and clients.truncated, dict(list(clients.bad.items())[:5])
    assert clients.truncated <= {rid for rid, pids in arrived.items() if pids[-1] in killed and rid not in finished}
    for rid in clients.truncated:
        rec = lines[rid][0]
        assert rec["partial"] and rec["reason"] == "worker_gone" and rec["completion_tokens"] is not None and len(arrived[rid]) - rec["retries"] == 1, rec


def test_what_a_dead_keeper_leaves_is_ended(gate, tmp_path):
    """The keeper itself is killed (the kernel out of memory, say): its command goes with it, its group too, and a new one is started."""
    g = gate(models=[started("m", 1, ["--pids", tmp_path / "pids", "--escape"])])
    w = all_up(g, "m")[0]
    before = pids_of(tmp_path / "pids")
    keeper = int(Path(f"/proc/{w['pid']}/stat").read_text().rsplit(")", 1)[1].split()[1])
    assert b"keep" in Path(f"/proc/{keeper}/cmdline").read_bytes()
    os.kill(keeper, signal.SIGKILL)
    gone(before)
    assert all_up(g, "m")[0]["pid"] != w["pid"]
    assert "keeper was killed" in g.wait_log(lambda r: r["event"] == "worker.died")["why"]


def test_a_process_that_stops_listening_is_replaced(gate, tmp_path):
    """Alive, but nobody can reach it: found by a request or by its probe, and after five seconds of doubt it is ended and started again. Requests wait."""
    script = tmp_path / "shuts.py"
    script.write_text(f"import sys, time\nfrom pathlib import Path\nsys.path.insert(0, {str(CHILD.parents[1])!r})\nfrom lib.child_worker import At\n"
                      f"w = At(int(sys.argv[1]), None, None)\nflag = Path({str(tmp_path / 'shut')!r})\nwhile not flag.exists():\n    time.sleep(0.02)\n"
                      "flag.unlink()\nw.down()\ntime.sleep(300)\n")
    row = started("m", queue_ms=60000)
    row["command"] = [row["command"][0], str(script), "{port}"]
    g = gate(models=[row])
    first = all_up(g, "m")[0]["pid"]
    assert plain(g).statuses == [200]
    (tmp_path / "shut").write_text("")
    until(lambda: not (tmp_path / "shut").exists(), 5 * SLOW, "the worker shutting its door")
    time.sleep(0.1)
    r = plain(g, timeout=30)
    assert r.statuses == [200] and r.seconds > 4
    assert not running(first) and all_up(g, "m")[0]["pid"] != first
    assert "did not accept a connection" in g.wait_log(lambda r: r["event"] == "worker.died")["why"]


# ------------------------------------------------------------------------------------------------ requests that end workers (F5)

@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
def test_a_poisonous_request_ends_two_workers_at_most(gate, stream):
    """It is tried twice and no more; sent again by its caller, as client libraries do, it is refused without a third worker. Others are not touched."""
    g = gate(models=[started("m", 3, ["--poison", "poison"])])
    pids = {w["pid"] for w in all_up(g, "m", 3)}
    r = plain(g, "this is poison", stream=stream)
    assert r.statuses == [502]
    until(lambda: len([x for x in g.log() if x["event"] == "worker.died"]) == 2, 10 * SLOW, "two deaths")
    again = plain(g, "this is poison", stream=stream)
    assert again.statuses == [502] and again.answers[0].json()["error"]["code"] == "request_ends_workers"
    assert again.answers[0].header("x-should-retry") == "false" and int(again.answers[0].header("retry-after")) > 60
    assert g.record(again.answers[0].header("x-request-id"))["reason"] == "poisonous"
    for _ in range(5):
        assert plain(g, "this is poison", stream=stream).statuses == [502]
    assert plain(g, "this is wholesome").statuses == [200]
    left = {w["pid"] for w in all_up(g, "m", 3)}
    assert len(pids - left) == 2, "more than two workers were lost"
    assert len([x for x in g.log(0.2) if x["event"] == "worker.died"]) == 2


def test_poison_in_the_middle_of_a_stream(gate):
    """A stream that had begun is not sent again by us; its caller may try once more, then it is known."""
    g = gate(models=[started("m", 3, ["--poison", "poison"])])
    all_up(g, "m", 3)
    for _ in range(2):
        with Stream(g, "poison-mid", timeout=20 * SLOW) as s:
            events = s.head().rest()
        assert s.status == 200 and b'"error"' in events[-1] and b"[DONE]" not in b"".join(events)
        time.sleep(0.3 * SLOW)
    r = plain(g, "poison-mid", stream=True)
    assert r.statuses == [502] and r.answers[0].json()["error"]["code"] == "request_ends_workers"
    assert len([x for x in g.log(0.3) if x["event"] == "worker.died"]) == 2


def test_poison_of_one_caller_is_not_another_ones(gate):
    """The same words from another key are another request: nobody can have somebody else's request refused."""
    other = "sk-other-0123456789abcdefghij"
    g = gate(models=[started("m", 4, ["--poison", "poison"])], env={"TOLLGATE_API_KEYS": other})
    all_up(g, "m", 4)
    assert plain(g, "poison").statuses == [502]
    assert plain(g, "poison").answers[0].json()["error"]["code"] == "request_ends_workers"
    r = plain(g, "poison", key=other)
    assert r.statuses == [502] and r.answers[0].json()["error"]["code"] != "request_ends_workers"


def test_innocent_requests_beside_a_poisonous_one(gate, tmp_path):
    """Those that shared a worker with it are answered by another worker."""
    g = gate(models=[started("m", 3, ["--poison", "poison", "--ids", tmp_path / "ids", "--behave", '{"delay": 0.05}'], slots=2, queue_ms=60000)])
    all_up(g, "m", 3)
    clients = Clients(g, 4, prefix="good", pause=0.01)
    time.sleep(0.3)
    assert plain(g, "poison").statuses == [502]
    time.sleep(0.5)
    clients.stop()
    lost = clients.bad
    # Who happened to stand beside it both times is taken for it: the request that failed twice is told, never lost in silence.
    assert len(lost) <= 2 and all(st == 502 for st, *_ in lost.values()), lost
    assert len(clients.good) > 20


# ------------------------------------------------------------------------------------------------ being ended

def test_stop_ends_whole_process_groups(gate, tmp_path):
    g = gate(models=[started("m", 2, ["--pids", tmp_path / "pids{index}"])])
    all_up(g, "m", 2)
    pids = pids_of(tmp_path / "pids0") + pids_of(tmp_path / "pids1")
    assert all(map(running, pids))
    g.stop()
    assert not any(map(running, pids)), "processes were left when the gate had ended"


def test_a_deaf_worker_is_killed_in_time(gate, tmp_path):
    """SIGTERM is ignored by it and its helper: SIGKILL after stop_ms, and the gate ends well."""
    g = gate(models=[started("m", 1, ["--deaf", "--pids", tmp_path / "pids"], stop_ms=500)])
    all_up(g, "m")
    pids = pids_of(tmp_path / "pids")
    start = time.monotonic()
    g.stop()
    assert 0.4 < time.monotonic() - start < 5 * SLOW
    gone(pids)


def test_what_has_gone_into_the_background_is_ended_too(gate, tmp_path):
    """A helper in a session of its own is in no process group of ours, and goes all the same."""
    g = gate(models=[started("m", 1, ["--escape", "--pids", tmp_path / "pids"])])
    all_up(g, "m")
    child, helper = pids_of(tmp_path / "pids")
    assert os.getsid(helper) != os.getsid(child)
    g.stop()
    gone([child, helper], 3)


def test_streams_end_before_their_worker_does(gate):
    g = gate(models=[started("m", 1, ["--behave", json.dumps({"chunks": 12, "pace": 0.1 * SLOW})])])
    w = all_up(g, "m")[0]
    with Stream(g, "x" * 60, timeout=30 * SLOW) as s:
        s.head().event()
        os.kill(g.pid, signal.SIGTERM)
        events = s.rest()
    assert s.whole and events[-1] == b"data: [DONE]"
    until(lambda: not g.alive(), 10 * SLOW, "the gate's end")
    assert g.proc.returncode == 0 and not running(w["pid"])


def test_asked_twice_it_ends_at_once(gate, tmp_path):
    """A second SIGTERM, while a deaf worker is waited for, is a SIGKILL for the worker."""
    g = gate(models=[started("m", 1, ["--deaf", "--pids", tmp_path / "pids"], stop_ms=60000)])
    all_up(g, "m")
    pids = pids_of(tmp_path / "pids")
    os.kill(g.pid, signal.SIGTERM)
    time.sleep(0.5)
    assert g.alive() and running(pids[0])
    os.kill(g.pid, signal.SIGTERM)
    until(lambda: not g.alive(), 10 * SLOW, "the gate's end")
    gone(pids)


def test_ended_while_workers_are_starting(gate, tmp_path):
    g = gate(models=[started("m", 3, ["--delay", "60", "--pids", tmp_path / "pids{index}"])])
    pids = [p for i in range(3) for p in pids_of(tmp_path / f"pids{i}")]
    g.stop()
    gone(pids, 3)


ROUNDS = int(os.environ.get("TOLLGATE_ORPHAN_ROUNDS", "10"))


def orphans(gate, tmp_path, rounds):
    """The gate SIGKILLed with six workers, at any moment of their lives: nothing that it started is left."""
    mark = tmp_path / "orphan-mark"
    row = ["--pids", f"{mark}-{{model}}-{{index}}"]
    for n in range(rounds):
        g = gate(models=[started("a", 1, row), started("b", 4, row + ["--escape"] if n % 2 else row), started("c", 1, row + ["--deaf"])], start=False)
        g.start()
        if n % 3 == 0:
            all_up(g, "b", 4)
        elif n % 3 == 1:
            until(lambda: len(processes(mark)) >= 3, 10 * SLOW, "some workers being started")
        g.kill()
        until(lambda: not processes(mark), 8 * SLOW, f"round {n}: processes {processes(mark)} ending", step=0.05)


def test_a_killed_gate_leaves_no_orphan(gate, tmp_path):
    orphans(gate, tmp_path, ROUNDS)


@pytest.mark.slow
def test_a_killed_gate_leaves_no_orphan_a_hundred_times(gate, tmp_path):
    orphans(gate, tmp_path, 100)


# ------------------------------------------------------------------------------------------------ a reload

def test_a_reload_changes_their_number_and_keeps_the_others(gate):
    g = gate(models=[started("m", 2)])
    before = {w["name"]: w["pid"] for w in all_up(g, "m", 2)}
    g.write_config(models=[started("m", 3)])
    assert g.reload()["event"] == "config.reloaded"
    now = {w["name"]: w["pid"] for w in all_up(g, "m", 3)}
    assert {k: now[k] for k in before} == before, "workers that stay were started again"
    g.write_config(models=[started("m", 1)])
    g.reload()
    gone([now["m/1"], now["m/2"]])
    assert [w["pid"] for w in pool(g, "m")] == [before["m/0"]] and plain(g).statuses == [200]


def test_a_reload_lets_requests_finish_before_their_worker_goes(gate):
    g = gate(models=[started("m", 1, ["--behave", json.dumps({"chunks": 12, "pace": 0.1 * SLOW})]), started("n")])
    old = all_up(g, "m")[0]["pid"]
    all_up(g, "n")
    with Stream(g, "x" * 60, timeout=30 * SLOW) as s:
        s.head().event()
        g.write_config(models=[started("n")])
        g.reload()
        assert s.rest()[-1] == b"data: [DONE]" and s.whole
    gone([old])
    assert plain(g).statuses == [404] and plain(g, model="n").statuses == [200]


def test_a_reload_that_changes_the_command_starts_it_anew(gate):
    g = gate(models=[started("m")])
    old = all_up(g, "m")[0]["pid"]
    g.write_config(models=[started("m", 1, ["--say", "another command"])])
    g.reload()
    assert plain(g).statuses == [200], "a request was lost over the change"
    gone([old])
    assert all_up(g, "m")[0]["pid"] != old


def test_reloads_under_load_lose_nothing(gate, tmp_path):
    """Workers come and go with each reload while clients send; every request is answered."""
    rows = [started("m", n, ["--ids", tmp_path / "ids"], queue_ms=60000) for n in (2, 3, 1, 2)]
    g = gate(models=[rows[0]])
    all_up(g, "m", 2)
    clients = Clients(g, 4, prefix="re")
    for row in rows[1:]:
        g.write_config(models=[row])
        assert g.reload()["event"] == "config.reloaded"
        all_up(g, "m", row["workers"])
        time.sleep(0.2)
    clients.stop()
    assert not clients.bad, dict(list(clients.bad.items())[:5])
    reconcile(g, clients, ids_of([tmp_path / "ids"])[0])


# ------------------------------------------------------------------------------------------------ what they write

def test_output_is_kept_labelled_and_redacted(gate):
    secret = "sk-live-0123456789abcdefghijklmnop"
    g = gate(models=[started("qwen", 2, ["--say", f"using Authorization: Bearer {secret} and mail a.person@example.com"]), started("gemma3")])
    all_up(g, "qwen", 2)
    all_up(g, "gemma3")
    path = g.dir / "logs" / "workers.log"
    lines = [json.loads(x) for x in until(lambda: path.exists() and path.read_text(), 5 * SLOW, "the workers' log").splitlines()]
    assert {(x["model"], x["worker"]) for x in lines} == {("qwen", "qwen/0"), ("qwen", "qwen/1"), ("gemma3", "gemma3/0")}
    pids = {w["name"]: w["pid"] for m in ("qwen", "gemma3") for w in pool(g, m)}
    assert all(x["event"] == "worker.output" and x["pid"] == pids[x["worker"]] and x["ts"].endswith("Z") for x in lines)
    assert any("using Authorization" in x["line"] for x in lines)
    everything = path.read_text() + g.log_text() + g.client(ADMIN).get("/logs").text
    assert secret not in everything and "a.person@example.com" not in everything
    # The gate's own log has none of it.
    assert "loading the model" not in g.log_text()


def test_logs_route(gate):
    g = gate(models=[started("qwen", 2), started("gemma3"), model("far", "http://127.0.0.1:1")])
    all_up(g, "qwen", 2)
    all_up(g, "gemma3")
    c = g.client(ADMIN)
    until(lambda: all(w["lines"] for w in c.get("/logs").json()["workers"]), 5 * SLOW, "every worker having written")
    assert [w["worker"] for w in c.get("/logs").json()["workers"]] == ["qwen/0", "qwen/1", "gemma3/0"]
    assert [w["worker"] for w in c.get("/logs?model=qwen").json()["workers"]] == ["qwen/0", "qwen/1"]
    assert [w["worker"] for w in c.get("/logs?worker=qwen/1&lines=1").json()["workers"]] == ["qwen/1"]
    assert c.get("/logs?worker=qwen%2F1", headers={"Accept": "text/plain"}).text == "qwen/1 | child worker: loading the model\n"
    assert c.get("/logs?worker=nope").status_code == 404 and c.get("/logs?model=nope").status_code == 404
    for lines in ("0", "1001", "x", "", "-1", "99999999999"):
        r = c.get(f"/logs?lines={lines}")
        assert r.status_code == 400 and "lines" in r.json()["detail"], lines
    assert c.get("/logs?offlines=1&xlines=x").status_code == 200
    for field in ("model", "worker"):
        r = c.get(f"/logs?{field}=%zz")
        assert r.status_code == 400 and field in r.json()["detail"]


def test_a_worker_that_writes_without_end_is_bounded(gate):
    """64 MiB of output at once: it is served meanwhile, most of it is left out and counted, and the gate does not work itself to death over it."""
    g = gate(models=[started("m", 1, ["--spam", "64"])])
    start = time.monotonic()
    all_up(g, "m", 1, 40)
    log = (g.dir / "logs" / "workers.log")
    allowed = (2 << 20) + (time.monotonic() - start) * (768 << 10)  # 256 KiB a second, and what JSON and the lines' other members add
    assert log.stat().st_size < allowed < 40 << 20, "the flood was written to disk"
    until(lambda: "lines left out" in log.read_text(), 5 * SLOW, "being told that lines are missing")
    assert all(json.loads(x) for x in log.read_text().splitlines())
    cpu = sum(map(int, Path(f"/proc/{g.pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13])) / os.sysconf("SC_CLK_TCK")
    assert cpu < 3 * SLOW * SLOW and time.monotonic() - start < 40 * SLOW
    assert plain(g).statuses == [200]


# ------------------------------------------------------------------------------------------------ who may look

@pytest.mark.parametrize("path", ["/status", "/logs", "/dashboard"])
def test_they_need_a_permission(gate, path):
    """The original's /status, /logs and /dashboard are open to everybody; ours are not, not even to callers of this machine."""
    g = gate(models=[started("m")])
    assert g.client().get(path).status_code == 401
    assert g.client(READ).get(path).status_code == 403
    assert g.client("wrong-key-0123456789").get(path).status_code == 401
    assert g.client(ADMIN).get(path).status_code == 200
    assert g.client(ADMIN).post(path).status_code == 405


def test_status_as_a_table_and_as_a_page(gate):
    g = gate(models=[started("qwen", 2), model("far", "http://127.0.0.1:1")])
    all_up(g, "qwen", 2)
    text = g.client(ADMIN).get("/status", headers={"Accept": "text/plain"})
    rows = [x.split() for x in text.text.splitlines()]
    assert rows[0][:2] == ["worker", "state"] and [r[0] for r in rows[1:]] == ["qwen/0", "qwen/1", "far/0"]
    page = g.client(ADMIN).get("/dashboard")
    assert page.headers["content-type"].startswith("text/html") and "qwen/1" in page.text
    csp = page.headers["content-security-policy"]
    assert "default-src 'none'" in csp and "unsafe-inline" not in csp and "frame-ancestors 'none'" in csp
    style = re.search(r"<style>(.*?)</style>", page.text, re.S).group(1)
    import base64
    import hashlib
    assert base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() in csp, "the style's hash is not the one that the policy allows"
    assert "<script" not in page.text


def test_status_has_what_the_original_has(gate):
    g = gate(models=[started("m")])
    w = all_up(g, "m")[0]
    for member in ("worker_id", "port", "is_busy", "queue_length", "requests", "success", "errors", "avg_recent_latency_ms", "last_duration_ms", "overcharged", "state"):
        assert member in w, member
    plain(g)
    w = pool(g, "m")[0]
    assert w["requests"] == w["success"] == 1 and w["last_duration_ms"] > 0 and w["avg_recent_latency_ms"] > 0 and w["errors"] == 0
