"""
What the engine's sandbox denies (src/engine/sandbox.c): sandbox_tool enters it and then tries. Each try is made without the sandbox as well, so that one which could not work here anyhow proves nothing
unnoticed.
"""
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lib import gate as lib
from lib import ml
from lib.gate import BINARY, REPORT, clean_env

TOOL = (BINARY.resolve().parent if BINARY.exists() else BINARY.parent) / "sandbox_tool"
DENIED = {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EXDEV}
NEEDED = ["thread", "fork", "read_model", "write_spool", "rename_in_spool", "read_spool", "list_spool", "remove_from_spool", "memory"]
FILES = ["read_passwd", "read_above_models", "read_by_link", "list_models", "write_model", "new_model", "remove_model", "write_above_spool", "write_tmp", "folder_in_spool", "link_in_spool",
         "move_out_of_spool"]
NETWORK = ["socket_tcp", "socket_udp", "socket_unix", "socketpair", "connect", "bind"]
CODE = ["execve", "execveat", "map_code", "make_code", "memfd"]
OTHERS = ["ptrace", "unshare", "clone_user", "clone3", "limits_of_parent", "pidfd", "read_process", "mount", "bpf", "keyctl", "setns", "open_by_handle", "io_uring", "userfaultfd", "perf", "unknown"]
# What a container may forbid by itself, or what has no meaning with the arguments given here: that it works outside is not asked for.
ANYHOW = {"connect", "unshare", "clone_user", "clone3", "mount", "bpf", "keyctl", "setns", "open_by_handle", "io_uring", "userfaultfd", "perf", "unknown", "read_process"}


def run(tmp_path, how):
    spool, models = tmp_path / how / "spool", tmp_path / how / "models"
    for d in (spool, models):
        d.mkdir(parents=True)
    (tmp_path / how / "secret").write_text("secret")
    for name in ("good.tgm", "victim.tgm"):
        (models / name).write_text("model")
    os.symlink("../secret", models / "link.tgm")
    p = subprocess.run([str(TOOL), how, str(spool), str(models)], capture_output=True, text=True, timeout=60, env=clean_env())
    assert not REPORT.search(p.stderr), p.stderr
    assert p.returncode == 0, p.stderr
    return {name: int(number) for name, number in (line.split() for line in p.stdout.splitlines())}


@pytest.fixture(scope="module")
def tries(tmp_path_factory):
    if not TOOL.exists():
        pytest.fail(f"{TOOL} is missing: build it")
    folder = tmp_path_factory.mktemp("sandbox")
    inside, outside = run(folder, "in"), run(folder, "out")
    if inside["landlock"] < 0:
        pytest.skip("this kernel has no Landlock")
    return inside, outside


def test_what_the_engine_needs_works(tries):
    assert [n for n in NEEDED if tries[0][n]] == []


@pytest.mark.parametrize("group", [FILES, NETWORK, CODE, OTHERS], ids=["files", "network", "code", "others"])
def test_everything_else_is_denied(tries, group):
    inside, outside = tries
    asan = "asan" in TOOL.parts  # its leak check needs ptrace and /proc: sandbox.c says so
    group = [n for n in group if not (asan and n == "ptrace")]
    assert {n: inside[n] for n in group if inside[n] not in DENIED} == {}
    assert {n: outside[n] for n in group if n not in ANYHOW and outside[n]} == {}, "these fail without the sandbox too, and prove nothing"


def test_no_signal_reaches_the_gate(tries):
    """Landlock has this from version 6 on."""
    inside, outside = tries
    assert outside["kill_parent"] == 0
    assert inside["kill_parent"] == (errno.EPERM if inside["landlock"] >= 6 else 0)


# A program under a filter like that of systemd 252's @system-service: errno and the calls it is the answer to, the program, its arguments.
FILTERED = """
import ctypes, os, sys
seccomp = ctypes.CDLL("libseccomp.so.2")
seccomp.seccomp_init.restype = ctypes.c_void_p
f = ctypes.c_void_p(seccomp.seccomp_init(0x7fff0000))
for name in ("landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"):
    nr = seccomp.seccomp_syscall_resolve_name(name.encode())
    assert nr > 0 and seccomp.seccomp_rule_add(f, 0x00050000 | int(sys.argv[1]), nr, 0) == 0
assert seccomp.seccomp_load(f) == 0
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.mark.parametrize("number, sentence", [(errno.EPERM, "Landlock is forbidden here by whoever started Tollgate"), (errno.ENOSYS, "this kernel has no Landlock"),
                                              (errno.EOPNOTSUPP, "this kernel has Landlock switched off")], ids=["forbidden", "none", "off"])
def test_who_lacks_landlock_is_said_by_engine_and_gate(gate, tmp_path, monkeypatch, number, sentence):
    filtered = tmp_path / "filtered"
    filtered.write_text(f"#!{sys.executable}\nimport sys\nsys.argv[1:1] = ['{int(number)}', {str(BINARY)!r}]\n{FILTERED}")
    filtered.chmod(0o755)
    monkeypatch.setattr(lib, "BINARY", filtered)
    g = gate(env=ml.KEYS)
    c = g.client(ml.TRAIN_KEY)
    for _ in range(2):
        assert ml.ended(c, ml.train(c, ml.config(c)).json()["job_id"])["status"] == "completed"
    assert f"warning: {sentence}" in (g.dir / "logs/workers.log").read_text()
    said = [e["why"] for e in g.log() if e["event"] == "engine.files_not_bounded"]
    assert len(said) == 1 and said[0].startswith(sentence)


def test_the_unit_lets_the_engine_bound_itself():
    """systemd 252 has none of these in @system-service."""
    unit = (Path(__file__).resolve().parents[2] / "deploy/tollgate.service").read_text()
    filters = [line.partition("=")[2] for line in unit.splitlines() if line.startswith("SystemCallFilter=")]
    allowed = {name for f in filters if not f.startswith("~") for name in f.split()}
    assert {"landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self", "seccomp"} <= allowed
    assert filters[0] == "@system-service", "the first one decides that it is a list of what is allowed"
