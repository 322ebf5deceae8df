"""
Document 001's script, `./scripts/run_api.sh`, run as its text says, in a copy of the tree's parts that it needs: its counts, actions, words and exit statuses, and that
nothing is left. Ledger rows S1-34 to S1-42, every line of "Starting", "Stopping" and "Troubleshooting", and bad input.
"""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from lib.gate import ADMIN, BINARY, EXTERNAL, READ, ROOT, clean_env, free_port
from lib.llm import WEIGHTS, missing
from lib.pool import CHILD, processes, running
from lib.raw import SLOW, until

NAMES = ("gemma3", "qwen", "qwen3")
DEMO = "demo-key-12345"


class Api:
    """A folder with scripts/, deploy/orchestra.toml and the binary, as a checkout has them; the command of its models is a fast fake worker."""

    def __init__(self, root, port=None, real=False, child=(), **options):
        self.root, self.port = root, port or free_port()
        for d in ("scripts", "deploy", "build", "models", "src"):
            (root / d).mkdir()
        for f in ("run_api.sh", "llm_worker.sh", "openai_worker.mjs", "fetch_model.sh"):
            shutil.copy2(ROOT / "scripts" / f, root / "scripts")
        shutil.copy2(ROOT / "src" / "manage_api_keys.py", root / "src")
        (root / "build" / "tollgate").symlink_to(BINARY)
        toml = (ROOT / "deploy" / "orchestra.toml").read_text()
        if not real:
            command = json.dumps([sys.executable, str(CHILD), "{port}", "--pids", str(root / "pids-{model}-{index}"), *map(str, child)])
            toml = re.sub(r"^command = .*$", lambda m: f"command = {command}\nstop_ms = 2000", toml, flags=re.M)
            for k, v in options.items():
                toml = re.sub(rf"^{k} = .*$", f"{k} = {json.dumps(v)}", toml, flags=re.M)
        (root / "deploy" / "orchestra.toml").write_text(toml)
        for m in NAMES:
            (root / "models" / f"{m}.gguf").write_bytes(b"GGUF")

    def env(self, **more):
        return clean_env({"LOAD_BALANCER_PORT": self.port, "INFERENCE_ADMIN_KEY": ADMIN, "INFERENCE_READ_KEY": READ, "HOME": os.environ.get("HOME", "/root"), **more})

    def run(self, *args, timeout=60, **env):
        p = subprocess.run(["./scripts/run_api.sh", *map(str, args)], cwd=self.root, env=self.env(**env), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                           timeout=timeout * SLOW)
        p.said = p.stdout + p.stderr
        return p

    def pid(self):
        return int((self.root / "data" / "run_api.pid").read_text())

    def infer(self, name, host="127.0.0.1", headers=None, source=None, **body):
        with httpx.Client(trust_env=False, transport=httpx.HTTPTransport(local_address=source, verify=False)) as c:
            return c.post(f"http://{host}:{self.port}/infer", json={"model_name": name, "request_body": {"input": "hello", "max_new_tokens": 8, **body}},
                          headers=headers or {}, timeout=120 * SLOW)

    def workers(self):
        """Worker processes by model, from what they wrote down themselves."""
        return {m: len([f for f in self.root.glob(f"pids-{m}-*") if running(int(f.read_text().split()[0]))]) for m in NAMES}

    def left(self):
        return processes(self.root)


@pytest.fixture
def api(tmp_path):
    made = []

    def make(**kw):
        d = tmp_path / f"checkout{len(made)}"
        d.mkdir()
        made.append(Api(d, **kw))
        return made[-1]
    yield make
    for a in made:
        if a.left():
            a.run("stop", STOP_SECONDS="5")
        left = a.left()
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        assert not left, "processes were left behind"


# ------------------------------------------------------------------------------------------------ starting and stopping

def test_starting_as_the_document_says(api):
    """`./scripts/run_api.sh 1 4 1 start  # 1 Gemma3, 4 Qwen, 1 Qwen3 workers`; `./scripts/run_api.sh stop` (S1-37, S1-38, S1-39, S1-41; C-26, C-27)."""
    a = api()
    p = a.run(1, 4, 1, "start")
    assert p.returncode == 0, p.said
    # It returns when all are ready, with progress.
    assert a.workers() == {"gemma3": 1, "qwen": 4, "qwen3": 1}
    assert "6 of 6 workers" in p.stdout and "all 6 workers are ready" in p.stdout and f"process {a.pid()}" in p.stdout
    for m in NAMES:
        r = a.infer(m)
        assert r.status_code == 200 and r.json()["response"] == "hello" and r.json()["model_name_processed"] == m
    assert running(a.pid()) and (a.root / "logs" / "run_api.out").exists() and (a.root / "logs" / "workers.log").exists() and (a.root / "logs" / "app.log").exists()
    # A second start fails and changes nothing.
    before = a.pid()
    again = a.run(1, 4, 1, "start")
    assert again.returncode != 0 and "already running" in again.said and str(before) in again.said
    assert a.pid() == before and a.infer("qwen").status_code == 200
    stop = a.run("stop")
    assert stop.returncode == 0, stop.said
    assert not a.left(), "a process was left"
    with pytest.raises(httpx.ConnectError):
        a.infer("qwen")
    # Stopping what does not run is fine.
    assert a.run("stop").returncode == 0


def test_unknown_models_are_told_with_the_known_names(api):
    a = api()
    assert a.run(1, 0, 0, "start").returncode == 0
    r = a.infer("llama")
    assert r.status_code == 404 and all(m in r.json()["detail"] for m in NAMES), r.text
    # Known, but none was asked for.
    r = a.infer("qwen3")
    assert r.status_code == 503 and "no workers" in r.json()["detail"]


def test_stop_is_graceful(api):
    """A request that is running when `stop` comes is answered (S1-40)."""
    a = api(child=["--behave", json.dumps({"delay": 1.5 * SLOW})])
    assert a.run(1, 0, 0, "start").returncode == 0
    got = []
    t = threading.Thread(target=lambda: got.append(a.infer("gemma3")))
    t.start()
    time.sleep(0.4)
    assert a.run("stop").returncode == 0
    t.join()
    assert got[0].status_code == 200 and not a.left()


def test_stop_ends_what_does_not_want_to(api):
    """Deaf workers, and helpers in sessions of their own."""
    a = api(child=["--deaf", "--escape"])
    assert a.run(1, 1, 1, "start").returncode == 0
    assert a.run("stop").returncode == 0
    until(lambda: not a.left(), 5 * SLOW, "all processes being gone")


def test_restart(api):
    """The last counts are kept where none are given; others replace them."""
    a = api()
    assert a.run(1, 2, 0, "start").returncode == 0
    first = a.pid()
    assert a.run("restart").returncode == 0
    assert a.pid() != first and a.workers() == {"gemma3": 1, "qwen": 2, "qwen3": 0}
    assert a.run(0, 0, 1, "restart").returncode == 0
    assert a.workers() == {"gemma3": 0, "qwen": 0, "qwen3": 1}


def test_counts_of_the_file_where_none_are_given(api):
    """`start`, and no word at all, take deploy/orchestra.toml's 1, 4 and 1."""
    a = api()
    assert a.run().returncode == 0
    assert a.workers() == {"gemma3": 1, "qwen": 4, "qwen3": 1}
    assert a.run("stop").returncode == 0
    assert a.run("02", "start").returncode == 0
    assert a.workers()["gemma3"] == 2


def test_status_and_logs(api):
    a = api()
    p = a.run("status")
    assert p.returncode == 3 and "not running" in p.said
    assert a.run(1, 2, 1, "start").returncode == 0
    p = a.run("status")
    assert p.returncode == 0 and f"listening on 127.0.0.1:{a.port}" in p.stdout and str(a.pid()) in p.stdout
    for name in ("gemma3/0", "qwen/0", "qwen/1", "qwen3/0"):
        assert re.search(rf"^{name} +up ", p.stdout, re.M), p.stdout
    # Without the admin key it says what it needs, and still that it runs.
    p = a.run("status", INFERENCE_ADMIN_KEY="")
    assert p.returncode == 0 and "INFERENCE_ADMIN_KEY" in p.said
    p = a.run("logs")
    assert p.returncode == 0 and "all 4 workers are ready" in p.stdout and "child worker: loading the model" in p.stdout
    assert ADMIN not in p.said


def test_a_stale_pid_file_means_nothing(api):
    """A killed server leaves its file; a process that got its number since is not touched."""
    a = api()
    assert a.run(1, 0, 0, "start").returncode == 0
    pid = a.pid()
    os.kill(pid, signal.SIGKILL)
    until(lambda: not a.left(), 8 * SLOW, "the workers of a killed server ending")
    other = subprocess.Popen(["sleep", "60"])
    (a.root / "data" / "run_api.pid").write_text(str(other.pid))
    assert a.run("status").returncode == 3
    assert a.run("stop").returncode == 0 and other.poll() is None
    assert a.run(1, 0, 0, "start").returncode == 0 and a.infer("gemma3").status_code == 200
    other.kill()
    other.wait()


def test_two_starts_at_once(api):
    a = api()
    ps = [subprocess.Popen(["./scripts/run_api.sh", "1", "1", "1", "start"], cwd=a.root, env=a.env(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(3)]
    outs = [p.communicate(timeout=60 * SLOW)[0] for p in ps]
    assert sorted(p.returncode for p in ps) == [0, 1, 1], outs
    assert a.workers() == {m: 1 for m in NAMES}


# ------------------------------------------------------------------------------------------------ bad input

@pytest.mark.parametrize("args", [["-1", "4", "1", "start"], ["1", "-4", "start"], ["65", "start"], ["1", "4", "100"], ["1", "4", "1", "1", "start"], ["one", "4", "1", "start"],
                                  ["1.5", "start"], ["launch"], ["start", "1"], ["start", "stop"], ["0", "0", "0", "start"], [""], ["99999999999999999999", "start"], ["--help"]])
def test_bad_counts_and_actions(api, args):
    """Usage on stderr, exit 2, and nothing is started."""
    a = api()
    p = a.run(*args)
    assert p.returncode == 2 and "start|stop|restart|status|logs" in p.stderr, (args, p.said)
    assert not (a.root / "data").exists() and not a.left()


def test_a_missing_model_file(api):
    """Its name and the command that fetches it; nothing is left running."""
    a = api()
    (a.root / "models" / "qwen.gguf").unlink()
    p = a.run(1, 4, 1, "start")
    assert p.returncode == 1 and "models/qwen.gguf" in p.said and "sh scripts/fetch_model.sh qwen" in p.said
    assert not a.left()
    # One that none is asked of is not missed.
    assert a.run(1, 0, 1, "start").returncode == 0


def test_a_worker_that_cannot_start(api):
    """The reason with the last lines of its output; the others are ended, too."""
    a = api(child=["--exit-at-once", "3"])
    p = a.run(1, 1, 0, "start")
    assert p.returncode == 1 and "exited with status 3" in p.said and "cannot load the model: no such file" in p.said, p.said
    assert not a.left()


def test_a_taken_port(api):
    a = api()
    assert a.run(1, 0, 0, "start").returncode == 0
    b = api(port=a.port)
    p = b.run(1, 0, 0, "start")
    assert p.returncode == 1 and str(a.port) in p.said and not b.left()
    assert a.infer("gemma3").status_code == 200


# ------------------------------------------------------------------------------------------------ the server's address, and troubleshooting

def listening(port):
    """Local addresses that are listened on with this port, from /proc/net/tcp: what `ss -ltn` shows."""
    rows = [x.split() for x in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {".".join(str(b) for b in bytes.fromhex(r[1].split(":")[0])[::-1]) for r in rows if r[3] == "0A" and int(r[1].split(":")[1], 16) == port}


def test_bound_to_loopback_unless_told_otherwise(api):
    """S1-34, S1-35, S1-36: 127.0.0.1 by default; LOAD_BALANCER_HOST=0.0.0.0 opens it, on the same port, and then strangers need a key. Workers never listen elsewhere."""
    a = api()
    (a.root / "api_keys.json").write_text(json.dumps({"valid_keys": [DEMO], "require_auth_for_external": True, "local_networks": ["127.0.0.1", "localhost", "::1"]}))
    assert a.run(1, 0, 0, "start").returncode == 0
    assert listening(a.port) == {"127.0.0.1"}
    assert a.run("stop").returncode == 0
    assert a.run(1, 2, 0, "start", LOAD_BALANCER_HOST="0.0.0.0").returncode == 0
    assert listening(a.port) == {"0.0.0.0"}
    r = a.infer("qwen", source=EXTERNAL)
    assert r.status_code == 401 and r.json()["detail"] == "Invalid or missing API key. Please provide a valid X-API-Key header."
    assert a.infer("qwen", source=EXTERNAL, headers={"X-API-Key": DEMO}).status_code == 200
    assert a.infer("qwen").status_code == 200, "local callers need none"
    # "Verify the server is listening on 0.0.0.0:9001", "Ensure the load balancer process is running" (S1-42)
    p = a.run("status")
    assert f"listening on 0.0.0.0:{a.port}" in p.stdout and f"process {a.pid()}" in p.stdout
    ports = [int(x) for x in re.findall(r"^\S+/\d+ +up +\d+ +(\d+)", p.stdout, re.M)]
    assert len(ports) == 3 and all(listening(x) == {"127.0.0.1"} for x in ports), "a worker can be reached past the gate"


def test_the_default_port_is_9001():
    """S1-34: what the script starts where nothing is said, by the configuration in force."""
    p = subprocess.run([str(BINARY), "config", "show", "--config", "deploy/orchestra.toml"], cwd=ROOT, env=clean_env(), capture_output=True, text=True)
    assert re.search(r'^server\.listen = \["127\.0\.0\.1:9001"\]', p.stdout, re.M), p.stdout + p.stderr
    p = subprocess.run([str(BINARY), "config", "show", "--config", "deploy/orchestra.toml"], cwd=ROOT, env=clean_env({"LOAD_BALANCER_HOST": "0.0.0.0"}), capture_output=True, text=True)
    assert re.search(r'^server\.listen = \["0\.0\.0\.0:9001"\]', p.stdout, re.M), p.stdout + p.stderr


def test_authentication_not_working_all_four_causes(api):
    """Troubleshooting 1 to 4: a file that is no JSON, a key that is not in it, the switch, and a caller that is local; each shows, and each is mended while it runs."""
    a = api()
    keys = a.root / "api_keys.json"
    good = {"valid_keys": [DEMO], "require_auth_for_external": True, "local_networks": ["127.0.0.1"]}

    def write(content):
        keys.with_suffix(".new").write_text(content if isinstance(content, str) else json.dumps(content))
        os.replace(keys.with_suffix(".new"), keys)

    def answers(code, key=DEMO):
        until(lambda: a.infer("gemma3", source=EXTERNAL, headers={"X-API-Key": key} if key else {}).status_code == code, 5 * SLOW, f"{code}", step=0.1)
    write('{"valid_keys": [oops')
    assert a.run(1, 0, 0, "start", LOAD_BALANCER_HOST="0.0.0.0").returncode == 0
    answers(401)
    assert "api_keys.json" in a.run("logs").said
    write(good)
    answers(200)
    write({**good, "valid_keys": ["other-key-0123456789"]})
    answers(401)
    write({**good, "require_auth_for_external": False})
    answers(200, key=None)
    write({**good, "local_networks": ["127.0.0.1", EXTERNAL]})
    answers(200, key=None)
    write(good)
    answers(401, key=None)


def test_key_management_beside_it(api):
    """"Run via Python: python src/manage_api_keys.py", "Verify the script can read/write api_keys.json": while the server runs, what it adds counts."""
    a = api()
    assert a.run(1, 0, 0, "start", LOAD_BALANCER_HOST="0.0.0.0").returncode == 0
    p = subprocess.run(["python3", "src/manage_api_keys.py", "generate"], cwd=a.root, env=a.env(), capture_output=True, text=True)
    key = re.search(r"[A-Za-z0-9_-]{32,}", p.stdout).group(0)
    until(lambda: a.infer("gemma3", source=EXTERNAL, headers={"X-API-Key": key}).status_code == 200, 5 * SLOW, "the new key being known", step=0.1)
    (a.root / "api_keys.json").chmod(0o000)
    if os.geteuid():
        p = subprocess.run(["python3", "src/manage_api_keys.py", "list"], cwd=a.root, env=a.env(), capture_output=True, text=True)
        assert p.returncode != 0 and "api_keys.json" in p.stderr
    (a.root / "api_keys.json").chmod(0o600)


def test_works_with_no_gpu_and_never_refuses(api, tmp_path):
    """S1-37: 1 4 1 starts on a machine without a GPU, and on one with a single GPU, where the original refuses four workers of a model."""
    fake = tmp_path / "bin"
    fake.mkdir()
    (fake / "nvidia-smi").write_text("#!/bin/sh\necho 'GPU 0: Fake (UUID: GPU-0)'\n")
    (fake / "nvidia-smi").chmod(0o755)
    a = api()
    assert a.run(1, 4, 1, "start", PATH=f"{fake}:{os.environ['PATH']}").returncode == 0
    assert a.workers() == {"gemma3": 1, "qwen": 4, "qwen3": 1}


# ------------------------------------------------------------------------------------------------ faults that were found once

def test_usage_from_another_folder(api):
    a = api()
    p = subprocess.run(["./run_api.sh", "launch"], cwd=a.root / "scripts", env=a.env(), capture_output=True, text=True)
    assert p.returncode == 2 and "start|stop|restart|status|logs" in p.stderr


def test_a_stop_during_a_build_ends_the_start_and_nobody_else(api):
    """The pid file of a server that was killed names a process of somebody else by now; a start that is still building has the lock."""
    a = api()
    victim = subprocess.Popen(["sleep", "60"])
    (a.root / "data").mkdir()
    (a.root / "data" / "run_api.pid").write_text(str(victim.pid))
    (a.root / "build" / "tollgate").unlink()
    (a.root / "Makefile").write_text(".PHONY: build\nbuild:\n\ttouch building; sleep 3; false\n")
    start = subprocess.Popen(["./scripts/run_api.sh", "1", "0", "0", "start"], cwd=a.root, env=a.env(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: (a.root / "building").exists(), 10 * SLOW, "the build having begun")
    assert a.run("stop").returncode == 0
    assert start.wait(10) != 0 and victim.poll() is None
    victim.kill()
    victim.wait()


@pytest.mark.parametrize("line", ['INFERENCE_ADMIN_KEY="{}"', "export INFERENCE_ADMIN_KEY='{}'", "INFERENCE_ADMIN_KEY={}==", "INFERENCE_ADMIN_KEY={}  # the boss", "A=1\nINFERENCE_ADMIN_KEY={}"])
def test_keys_env_as_the_gate_reads_it(api, line):
    """Quotes, export, comments and a last line without its end: `start` takes the file's keys, and `status` the same."""
    a = api()
    (a.root / "data").mkdir()
    (a.root / "data" / "keys.env").write_text(line.format(ADMIN))
    (a.root / "data" / "keys.env").chmod(0o600)
    env = {k: v for k, v in a.env().items() if not k.startswith("INFERENCE_")}

    def run(*words):
        return subprocess.run(["./scripts/run_api.sh", *words], cwd=a.root, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60 * SLOW)
    assert run("1", "0", "0", "start").returncode == 0
    key = ADMIN + ("==" if "==" in line else "")
    assert httpx.get(f"http://127.0.0.1:{a.port}/status", headers={"X-API-Key": key}, trust_env=False).status_code == 200
    assert re.search("^gemma3/0 +up", run("status").stdout, re.M)


def test_a_configuration_without_commands(api):
    """Its workers run elsewhere: `start` returns when the server is there."""
    a = api()
    (a.root / "deploy" / "orchestra.toml").write_text('[[model]]\nname = "gemma3"\nurls = ["http://127.0.0.1:1"]\n')
    assert a.run("start", timeout=20).returncode == 0
    assert running(a.pid()) and a.run("stop").returncode == 0


def test_asking_for_the_status_does_not_stop_a_start(api):
    a = api()
    over = threading.Event()

    def ask():
        while not over.is_set():
            a.run("status")
    ts = [threading.Thread(target=ask) for _ in range(3)]
    for t in ts:
        t.start()
    try:
        for _ in range(2):
            p = a.run(1, 0, 0, "start")
            assert p.returncode == 0, p.said
            assert a.run("stop").returncode == 0
    finally:
        over.set()
        for t in ts:
            t.join()


# ------------------------------------------------------------------------------------------------ real models

@pytest.mark.release_only
@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_real_models_under_three_names(api):
    """The document's command with real weights, linked three times, and the runner of deploy/orchestra.toml: `1 1 1 start`, /infer on each, `stop`, nothing left."""
    a = api(real=True)
    for m in NAMES:
        (a.root / "models" / f"{m}.gguf").unlink()
        (a.root / "models" / f"{m}.gguf").symlink_to(WEIGHTS)
    p = a.run(1, 1, 1, "start", timeout=240)
    assert p.returncode == 0 and "all 3 workers are ready" in p.stdout, p.said
    pids = set()
    for m in NAMES:
        r = a.infer(m, input="What is the capital of France? Answer in one word.", max_new_tokens=12)
        assert r.status_code == 200, r.text
        body = r.json()
        assert body["model_name_processed"] == m and body["response"].strip() and body["api_worker_pid"] in a.left()
        pids.add(body["api_worker_pid"])
    assert len(pids) == 3
    p = a.run("status")
    assert all(re.search(rf"^{m}/0 +up ", p.stdout, re.M) for m in NAMES), p.stdout
    assert a.run("stop").returncode == 0
    assert not a.left()
