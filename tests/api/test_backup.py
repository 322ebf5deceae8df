"""tollgate backup and restore where the place of the gate is not as the backup was: files that it never had, links to where files are kept (docs/identity.md)."""
import json
import os

import pytest
from lib.gate import ADMIN, run_cli

KEYFILE = {"valid_keys": ["k-aaaaaaaaaaaaaaaaaaaaaaaa"], "require_auth_for_external": True, "local_networks": ["127.0.0.1"]}
GUEST = "a-guest-of-the-other-gate-0123456789"


def cli(g, *args):
    return run_cli(*args, cwd=g.dir, env=g.env)


@pytest.fixture
def g(gate):
    g = gate(start=False)
    assert cli(g, "keys", "create", "A", "--permissions", "all").returncode == 0
    p = cli(g, "backup", "bk")
    assert p.returncode == 0 and "models (file:artifacts/models) are not in it" in p.stdout, p.stderr
    return g


def put(path, text, mode=0o600):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def test_what_a_backup_does_not_have_is_moved_aside(g):
    """Limits and an admin key that the backup never had are not in force at the next start; nothing is lost, and each file is said. Without --force nothing is touched."""
    put(g.dir / "data/settings.json", '{"limits":{"api":"1/day"}}', 0o644)
    put(g.dir / "api_keys.json", json.dumps({**KEYFILE, "valid_keys": [GUEST]}))
    put(g.dir / "data/keys.env", "INFERENCE_READ_KEY=zzz-leftover-key-0123456789\n")
    put(g.dir / "data/keys.env.before-restore", "mine")
    there = ("tollgate.db", "secret.key")
    kept = [(g.dir / "data" / n).rename(g.dir / n) for n in there if (g.dir / "data" / n).exists()]
    p = cli(g, "restore", "bk")
    assert p.returncode == 1 and "the backup has none; --force moves it aside" in p.stderr and not (g.dir / "data/tollgate.db").exists()
    for f in kept:
        f.rename(g.dir / "data" / f.name)
    p = cli(g, "restore", "bk", "--force")
    assert p.returncode == 0 and "in no backup" in p.stdout, p.stderr
    for old, new in (("data/settings.json", ""), ("api_keys.json", ""), ("data/keys.env", "-2")):
        moved = g.dir / f"{old}.before-restore{new}"
        assert not (g.dir / old).exists() and moved.stat().st_mode & 0o777 == 0o600 and f"{old}: the backup has none; it is " in p.stdout, p.stdout
    assert (g.dir / "data/keys.env.before-restore").read_text() == "mine" and "1/day" in (g.dir / "data/settings.json.before-restore").read_text()
    g.start()
    assert g.client(GUEST).get("/v1/models").status_code == 401
    assert g.client(ADMIN).get("/api/v1/models").headers["x-ratelimit-limit"] == "60"


def test_a_restore_writes_through_links(gate):
    """api_keys.json is often a link to a mounted secret, and the database one to a volume: each stays, and what it leads to is what was saved."""
    g = gate(start=False, api_keys=KEYFILE)
    assert cli(g, "keys", "create", "A", "--permissions", "all").returncode == 0 and cli(g, "backup", "bk").returncode == 0
    away = g.dir / "elsewhere"
    away.mkdir()
    for name, new in (("api_keys.json", json.dumps({**KEYFILE, "valid_keys": [GUEST]})), ("data/tollgate.db", None)):
        f = g.dir / name
        kept = away / f.name
        f.rename(kept)
        f.symlink_to(os.path.relpath(kept, f.parent))
        if new:
            kept.write_text(new)
    p = cli(g, "restore", "bk", "--force")
    assert p.returncode == 0, p.stderr
    for name in ("api_keys.json", "data/tollgate.db"):
        f = g.dir / name
        assert f.is_symlink() and (away / f.name).read_bytes() == (g.dir / "bk" / f.name).read_bytes()
    assert cli(g, "keys", "list").stdout.count("key_") == 1
    inode = (away / "api_keys.json").stat().st_ino
    p = cli(g, "restore", "bk", "--force")
    assert p.returncode == 0 and "as it is" in p.stdout and (away / "api_keys.json").stat().st_ino == inode, "a mount that nobody writes to, and need not be written to"
    if os.geteuid():
        (away / "api_keys.json").write_text("{}")
        away.chmod(0o500)
        p = cli(g, "restore", "bk", "--force")
        away.chmod(0o700)
        assert p.returncode == 1 and "cannot be replaced" in p.stderr
    (away / "api_keys.json").unlink()
    before = (away / "tollgate.db").stat().st_mtime_ns
    p = cli(g, "restore", "bk", "--force")
    assert p.returncode == 1 and "api_keys.json is a link that leads nowhere" in p.stderr and (away / "tollgate.db").stat().st_mtime_ns == before
    assert (g.dir / "api_keys.json").is_symlink()
