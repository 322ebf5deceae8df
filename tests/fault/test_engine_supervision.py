"""
The gate and its engine, as processes: there is none until somebody asks for training or prediction, it comes back when it is killed, it is no model's worker to anybody, and it ends with the gate in
whatever way that ends.
"""
import os
import signal
from pathlib import Path

import pytest

from lib.engine import TRAIN, gone, parents, until
from lib.gate import ADMIN

KEY = "sk_ml_train_abc123"


def engines(g):
    """The engine's processes below a gate: itself, its zygote, its trainings."""
    table, found, below = parents(), [], {g.pid}
    while more := {p for p, (parent, _) in table.items() if parent in below} - below:
        below |= more
    for p in below:
        try:
            if Path(f"/proc/{p}/exe").readlink().name == "tollgate-engine":
                found.append(p)
        except OSError:
            pass
    return sorted(found)


@pytest.fixture
def ml(gate):
    def make(**options):
        g = gate(env={"CHAPKIT_API_KEYS": KEY}, toml={"ml": options} if options else None)
        c = g.client(KEY)
        made = c.post("/api/v1/configs", json={"name": "a", "data": {}})
        assert made.status_code == 201, made.text
        return g, c, made.json()["id"]
    return make


def train(c, config):
    return c.post("/api/v1/ml/$train", json={"config_id": config, "data": TRAIN}, timeout=60)


def trained(c, config):
    r = until(lambda: (r := train(c, config)).status_code == 202 and r, why="a training that is taken")
    job = until(lambda: (j := c.get(f"/api/v1/jobs/{r.json()['job_id']}").json())["status"] in ("completed", "failed") and j, why="the end of the job")
    assert job["status"] == "completed", job


def test_it_is_started_by_who_needs_it(ml):
    g, c, config = ml()
    admin = g.client(ADMIN)
    for path in ("/health", "/v1/models", "/status", "/metrics", "/models/info"):
        admin.get(path)
    assert engines(g) == [] and not (g.dir / "data" / "run").exists()
    trained(c, config)
    assert len(engines(g)) == 2, "itself and its zygote; the training's process has ended"
    assert (g.dir / "data" / "spool").stat().st_mode & 0o777 == 0o700
    # Nobody takes it for a model, and what counts workers does not count it.
    for path in ("/v1/models", "/status", "/metrics", "/models/info"):
        r = admin.get(path)
        assert r.status_code == 200 and "tabular" not in r.text, path
    one, other = (admin.post("/v1/chat/completions", json={"model": m, "messages": []}) for m in ("tabular-engine", "no-such-engine"))
    assert one.status_code == other.status_code and one.json()["detail"].replace("tabular-engine", "no-such-engine") == other.json()["detail"]
    assert "all 0 workers" not in g.stderr() and "tabular-engine/0: ready after" in g.stderr()
    assert "tollgate-engine: ready" in (g.dir / "logs" / "workers.log").read_text()


def test_a_reload_leaves_it_alone(ml):
    g, c, config = ml()
    trained(c, config)
    before = engines(g)
    g.reload()
    trained(c, config)
    assert engines(g) == before


@pytest.mark.parametrize("which", [0, 1], ids=["engine", "zygote"])
def test_killed_it_comes_back(ml, which):
    g, c, config = ml()
    trained(c, config)
    before = engines(g)
    os.kill(before[which], signal.SIGKILL)
    until(lambda: all(gone(p) for p in before), why="the end of what was killed, and of the rest of it")
    trained(c, config)
    assert len(engines(g)) == 2


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_the_gate(ml, sig):
    g, c, config = ml()
    trained(c, config)
    processes = engines(g)
    if sig == signal.SIGKILL:
        g.kill()
    else:
        g.stop()
        assert list((g.dir / "data" / "run").iterdir()) == []
    until(lambda: all(gone(p) for p in processes), why="the end of the engine")


def test_switched_off_there_is_none(ml):
    g, c, config = ml(engine=False)
    assert train(c, config).status_code in (404, 501, 503)
    assert engines(g) == []
