"""
Root works in the folder of a gate of another user: what is new there belongs to the folder's owner, so that the gate can use it; and a database that the gate cannot open is no healthy one. The secret
beside it as well: one that is there and cannot be used stops the start.
"""
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from lib import gate as lib
from lib.gate import ADMIN, BINARY, Gate, run_cli
from lib.raw import SLOW, until

NOBODY = 65534
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@pytest.fixture
def foreign(monkeypatch):
    """A gate of nobody's, in a folder of nobody's. run_cli is root's all the same."""
    folder = Path(tempfile.mkdtemp(prefix="tollgate-foreign-"))
    folder.chmod(0o755)
    shutil.copy(BINARY, folder)
    dropped = folder / "dropped"
    dropped.write_text(f'#!/bin/sh\nexec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups {folder / BINARY.name} "$@"\n')
    dropped.chmod(0o755)
    g = Gate(start=False)
    shutil.chown(g.dir, NOBODY, NOBODY)
    shutil.chown(g.config, NOBODY, NOBODY)

    def start():
        with monkeypatch.context() as m:
            m.setattr(lib, "BINARY", dropped)
            g.start()
        return g
    g.begin = start
    yield g
    g.stop()
    g.remove()
    shutil.rmtree(folder)


def root(g, *args, **kw):
    p = run_cli(*args, cwd=g.dir, **kw)
    assert p.returncode == 0, p.stderr
    return p.stdout


def owners(folder):
    return {str(p.relative_to(folder)): (p.stat().st_uid, p.stat().st_gid) for p in [*folder.rglob("*")]}


@ROOT_ONLY
def test_what_root_makes_is_the_owners(foreign):
    g = foreign
    root(g, "keyfile", "generate")
    root(g, "init", "--quiet")
    root(g, "keys", "create", "a", "--permissions", "read_models")
    root(g, "users", "add", "anna", "--permissions", "read_models", stdin="a password of anna\n")
    made = owners(g.dir)
    assert {"api_keys.json", "data", "data/keys.env", "data/secret.key", "data/tollgate.db", "data/tollgate.db.known"} <= set(made)
    assert {name: who for name, who in made.items() if who != (NOBODY, NOBODY)} == {}
    g.begin()
    assert g.client(ADMIN).get("/health").json()["status"] == "healthy"


@ROOT_ONLY
def test_a_key_of_roots_works_in_a_running_gate(foreign):
    g = foreign.begin()
    key = root(g, "keys", "create", "a", "--permissions", "read_models")
    key = key.splitlines()[0]
    until(lambda: g.client(key).get("/v1/models").status_code == 200, 5 * SLOW, "the key")
    assert all(who == (NOBODY, NOBODY) for who in owners(g.dir / "data").values())


def shaped():
    return "tg_" + "a" * 16 + "_" + "b" * 44


@ROOT_ONLY
def test_a_database_that_appears_and_is_anothers(foreign):
    g = foreign.begin()
    assert g.client(shaped()).get("/v1/models").status_code == 401
    other = Path(tempfile.mkdtemp(prefix="tollgate-other-"))
    try:
        shutil.copy(g.dir / "data/secret.key", (other / "data").mkdir() or other / "data/secret.key")
        p = run_cli("keys", "create", "a", "--permissions", "read_models", cwd=other)
        assert p.returncode == 0, p.stderr
        shutil.copy(other / "data/tollgate.db", g.dir / "data/tollgate.db.new")
    finally:
        shutil.rmtree(other)
    (g.dir / "data/tollgate.db.new").chmod(0o600)
    os.rename(g.dir / "data/tollgate.db.new", g.dir / "data/tollgate.db")
    is_away(g)
    shutil.chown(g.dir / "data/tollgate.db", NOBODY, NOBODY)
    is_back(g)


def is_away(g):
    until(lambda: g.client().get("/health").json()["status"] == "degraded", 5 * SLOW, "the gate's saying so")
    c = g.client(shaped())
    until(lambda: c.get("/v1/models").status_code == 503, 2 * SLOW, "its keys being nobody's to judge")
    assert "Retry-After" in c.get("/v1/models").headers
    assert g.client(ADMIN).get("/v1/models").status_code == 200
    said = [e for e in g.log() if e["event"] == "store.away"]
    assert len(said) == 1 and "tollgate.db" in said[0]["why"]


def is_back(g):
    until(lambda: g.client().get("/health").json()["status"] == "healthy", 5 * SLOW, "the database's being back")
    assert g.client(shaped()).get("/v1/models").status_code == 401


def test_a_database_that_appears_and_cannot_be_opened(gate):
    """For root, too: a folder of that name."""
    g = gate()
    assert g.client(shaped()).get("/v1/models").status_code == 401
    (g.dir / "data/tollgate.db").mkdir()
    is_away(g)
    (g.dir / "data/tollgate.db").rmdir()
    assert g.client().get("/health").json()["status"] == "degraded", "what was there is not made anew"


@pytest.mark.parametrize("with_database", [False, True])
@pytest.mark.parametrize("text", ["", "\n", "short\n", None], ids=["empty", "line", "short", "folder"])
def test_a_secret_that_cannot_be_used_stops_the_start(tmp_path, text, with_database):
    (tmp_path / "data").mkdir(mode=0o700)
    if with_database:
        assert run_cli("keys", "create", "a", "--permissions", "read_models", cwd=tmp_path).returncode == 0
        (tmp_path / "data/secret.key").unlink()
    if text is None:
        (tmp_path / "data/secret.key").mkdir()
    else:
        (tmp_path / "data/secret.key").write_text(text)
        (tmp_path / "data/secret.key").chmod(0o600)
    p = run_cli("serve", cwd=tmp_path, env={"LOAD_BALANCER_PORT": "0", "INFERENCE_ADMIN_KEY": ADMIN}, timeout=10 * SLOW)
    last = p.stderr.splitlines()[-1]
    assert p.returncode == 1 and "secret.key" in last and "listening" not in p.stderr, p.stderr
