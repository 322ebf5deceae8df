"""
Files that hold secrets: unreadable stops the start, others' access is a warning that names file and mode, and stops production (the issue's "Bad input"; C-38, S4-94, S4-113, S4-121, T-SECRET).
What the program writes is 0600.
"""
import json
import os
import shutil
import stat

import pytest

from lib.gate import ADMIN, BINARY, READ, clean_env, run_cli

KEYS = json.dumps({"valid_keys": ["a-good-key-0123456789"]})
PRODUCTION = {"TOLLGATE_PROFILE": "production", "TOLLGATE_ARTIFACTS_URL": "s3://models"}
SECRETS = {".env": (f"INFERENCE_READ_KEY={READ}\n", {}), "data/keys.env": (f"INFERENCE_ADMIN_KEY={ADMIN}\n", {}), "api_keys.json": (KEYS, {}),
           "data/jwt.secret": ("0123456789abcdef" * 4 + "\n", {}), "admin.key": (ADMIN + "\n", {"INFERENCE_ADMIN_KEY": "file:admin.key"}), "ml.txt": ("ml-key-of-a-file-0123\n", {"CHAPKIT_API_KEY_FILE": "ml.txt"})}
STOPS = (".env", "data/keys.env", "api_keys.json", "data/jwt.secret")


def put(folder, name, mode):
    text, env = SECRETS[name]
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return env


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o602])
@pytest.mark.parametrize("name", SECRETS)
def test_modes(tmp_path, name, mode):
    """C-38: one sentence with file and mode, for each kind; none at 0600; in production .env, data/keys.env, api_keys.json and data/jwt.secret, which signs tokens, stop the start."""
    env = put(tmp_path, name, mode)
    p = run_cli("config", "check", cwd=tmp_path, env=env)
    sentence = f"{name} can be read or written by others (mode {mode:04o}): chmod 600 it"
    assert p.returncode == 0 and (sentence in p.stderr) == (mode != 0o600), p.stderr
    for command in (("config", "check"), ("serve", "--also", "127.0.0.1:0")):
        stops = name in STOPS and mode != 0o600
        if command[0] == "serve" and not stops:
            continue
        p = run_cli(*command, cwd=tmp_path, env={**env, **PRODUCTION, "LOAD_BALANCER_PORT": "0"})
        assert p.returncode == (2 if stops else 0) and "listening" not in p.stderr, p.stderr
        assert (sentence in p.stderr) == (mode != 0o600)


@pytest.mark.parametrize("name", SECRETS)
def test_unreadable(tmp_path, name):
    """A secret file that is there and cannot be read stops the start with a sentence that names it."""
    env = put(tmp_path, name, 0o600)
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()  # for root, too, it cannot be read
    for command in (("config", "check"), ("serve",)):
        p = run_cli(*command, cwd=tmp_path, env={**env, "LOAD_BALANCER_PORT": "0"})
        code = 1 if name == "data/jwt.secret" and command == ("serve",) else 2  # it is no part of the configuration: serve would have made it
        assert p.returncode == code and name in p.stderr and "cannot" in p.stderr and len(p.stderr.splitlines()) == 1, p.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("name", SECRETS)
def test_denied(tmp_path_factory, name):
    """The same by permission: an unprivileged user, a file that is root's."""
    import subprocess
    import tempfile
    folder = tmp_path_factory.mktemp("denied")
    home = tempfile.mkdtemp(prefix="tollgate-denied-")
    try:
        os.chmod(home, 0o755)
        work = type(folder)(home)
        env = put(work, name, 0o600)
        (work / "data").exists() and (work / "data").chmod(0o755)
        binary = shutil.copy(BINARY, home)
        p = subprocess.run([binary, "config", "check"], cwd=home, env=clean_env(env), capture_output=True, text=True, user=65534, group=65534, extra_groups=[], timeout=30)
        assert p.returncode == 2 and name in p.stderr and "Permission denied" in p.stderr, p.stderr
    finally:
        shutil.rmtree(home)


def test_run_secrets_and_read_only(tmp_path):
    """None of it under /run/secrets: there the modes are the container's. (Written there only where the test owns the folder.)"""
    folder = type(tmp_path)("/run/secrets")
    mine = not folder.exists() and os.geteuid() == 0
    if not mine:
        pytest.skip("/run/secrets is not the test's")
    name = f"tollgate-test-{os.getpid()}"
    try:
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(ADMIN + "\n")
        (folder / name).chmod(0o644)
        (tmp_path / "link").symlink_to(folder / name)
        for at in (folder / name, "link"):
            p = run_cli("config", "check", cwd=tmp_path, env={"INFERENCE_ADMIN_KEY": f"file:{at}"})
            assert p.returncode == 0 and "others" not in p.stderr, p.stderr
    finally:
        (folder / name).unlink(missing_ok=True)
        try:
            folder.rmdir()
        except OSError:
            pass


def test_what_is_written(tmp_path):
    """What init and keyfile write is 0600, whatever the umask."""
    old = os.umask(0)
    try:
        assert run_cli("init", cwd=tmp_path).returncode == 0
        assert run_cli("keyfile", "generate", cwd=tmp_path).returncode == 0
    finally:
        os.umask(old)
    for name in ("data/keys.env", "tollgate.toml", "api_keys.json", "api_keys.json.lock"):
        assert stat.S_IMODE(os.stat(tmp_path / name).st_mode) == 0o600, name
    assert stat.S_IMODE(os.stat(tmp_path / "data").st_mode) == 0o700
    p = run_cli("config", "check", cwd=tmp_path, env=PRODUCTION)
    assert p.returncode == 0 and "others" not in p.stderr, "and what was made so is good enough for production"
