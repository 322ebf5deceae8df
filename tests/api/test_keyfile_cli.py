"""The five key commands of document 001, on both programs that offer them: `tollgate keyfile` and `python src/manage_api_keys.py`.

Every test runs on both. They must agree word for word (but for the usage line), so each text is written here once. TOLLGATE_BIN names the
binary (default build/tollgate). Keys in here are made up.
"""

import concurrent.futures
import errno
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(os.environ.get("TOLLGATE_BIN", ROOT / "build" / "tollgate")).resolve()
SCRIPT = ROOT / "src" / "manage_api_keys.py"
KEY = "my-own-team-key-0123456789"
SAMPLE = {
    "valid_keys": ["demo-key-12345", "prod-key-67890", "iszcx8YNM7xqyo_lj-_iD8vMODMfW7xc"],
    "require_auth_for_external": True,
    "local_networks": ["127.0.0.1", "localhost", "::1"],
}
NOBODY = 65534
GENERATED = re.compile(r"Generated API key: ([A-Za-z0-9_-]{32})\n")


class Cli:
    """One of the two programs, run in a folder of its own."""

    def __init__(self, kind, cwd):
        self.kind, self.cwd = kind, cwd
        self.argv = {"binary": [str(BIN), "keyfile"], "script": [sys.executable, str(SCRIPT)]}[kind]

    def __call__(self, *args, env=None, **kw):
        base = {k: v for k, v in os.environ.items() if k != "API_KEYS_FILE"}
        return subprocess.run([*self.argv, *args], cwd=self.cwd, env={**base, **(env or {})}, capture_output=True, timeout=60,
                              encoding=kw.pop("encoding", "utf-8"), **kw)

    def ok(self, *args, **kw):
        r = self(*args, **kw)
        assert r.returncode == 0, r.stderr
        return r.stdout

    def refused(self, *args, **kw):
        """Exit 1, nothing on stdout, one line on stderr that begins with error:."""
        r = self(*args, **kw)
        assert (r.returncode, r.stdout) == (1, "")
        assert re.fullmatch(r"error: [^\n]+\n", r.stderr), r.stderr
        return r.stderr

    @property
    def file(self):
        return self.cwd / "api_keys.json"

    def data(self):
        return json.loads(self.file.read_text(encoding="utf-8"))

    def write(self, data):
        self.file.write_text(data if isinstance(data, str) else json.dumps(data, indent=2) + "\n", encoding="utf-8")


@pytest.fixture(params=["binary", "script"])
def cli(request, tmp_path):
    assert BIN.exists(), f"{BIN} is not built (TOLLGATE_BIN)"
    return Cli(request.param, tmp_path)


def only_files(folder, *names):
    """No temporary file was left behind."""
    assert sorted(p.name for p in folder.iterdir()) == sorted(names)


def test_script_runs_as_the_document_says(tmp_path):
    """S1-15: `python src/manage_api_keys.py <cmd>` run literally from the repository root."""
    env = {**os.environ, "API_KEYS_FILE": str(tmp_path / "k.json")}
    line = f'"{sys.executable}" src/manage_api_keys.py add "your-custom-key-here"'
    r = subprocess.run(line, shell=True, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert (r.returncode, r.stdout) == (0, f"Added the key to {tmp_path}/k.json.\n")
    assert json.loads((tmp_path / "k.json").read_text())["valid_keys"] == ["your-custom-key-here"]


def test_list(cli):
    """S1-16: list shows each key, the require flag and the networks, exit 0; C-24: --mask hides the keys."""
    cli.write(SAMPLE)
    before = cli.file.read_bytes()
    assert cli.ok("list") == (
        "API keys in api_keys.json: 3\n"
        "  1. demo-key-12345\n"
        "  2. prod-key-67890\n"
        "  3. iszcx8YNM7xqyo_lj-_iD8vMODMfW7xc\n"
        "require_auth_for_external: true\n"
        "local_networks: 127.0.0.1, localhost, ::1\n")
    for args in (["list", "--mask"], ["--mask", "list"]):
        out = cli.ok(*args)
        assert out.splitlines()[1:4] == ["  1. ***", "  2. ***", "  3. iszcx8YNM..."]
        assert not any(key in out for key in SAMPLE["valid_keys"])
    assert cli.file.read_bytes() == before
    only_files(cli.cwd, "api_keys.json")


def test_list_without_a_file(cli):
    """S1-16, S1-22: list of a file that is not there says so, shows the defaults, and makes nothing."""
    r = cli("list")
    assert r.returncode == 0
    assert r.stdout == "API keys in api_keys.json: 0\nrequire_auth_for_external: true\nlocal_networks: 127.0.0.1, localhost, ::1\n"
    assert r.stderr == "api_keys.json does not exist yet; the first key added creates it.\n"
    only_files(cli.cwd)


def test_list_of_empty_lists(cli):
    """S1-16: an empty list of networks is shown as none."""
    cli.write({"valid_keys": [], "local_networks": [], "require_auth_for_external": False})
    assert cli.ok("list") == "API keys in api_keys.json: 0\nrequire_auth_for_external: false\nlocal_networks: none\n"


def test_add(cli):
    """S1-17: the file then contains the key; adding twice gives a message and no duplicate, exit 0."""
    assert cli.ok("add", KEY) == "Added the key to api_keys.json.\n"
    assert cli.data() == {"valid_keys": [KEY], "require_auth_for_external": True, "local_networks": ["127.0.0.1", "localhost", "::1"]}
    before = cli.file.stat()
    assert cli.ok("add", KEY) == "The key is already in api_keys.json; nothing was changed.\n"
    assert (cli.file.stat().st_ino, cli.file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert cli.data()["valid_keys"] == [KEY]
    only_files(cli.cwd, "api_keys.json", "api_keys.json.lock")


def test_add_short_key_warns_only(cli):
    """S1-17, S1-11: no minimum length; a short key is added with a warning that does not show it."""
    r = cli("add", "demo-key-12345")
    assert (r.returncode, r.stdout) == (0, "Added the key to api_keys.json.\n")
    assert r.stderr == "warning: the key is shorter than 16 characters; `generate` makes a strong one\n"
    assert cli.data()["valid_keys"] == ["demo-key-12345"]
    assert cli("add", "sixteen-letters!").stderr == ""


@pytest.mark.parametrize("key, fault", [
    ("", "is empty"),
    ("has\na line break", "has a control character"),
    ("has a delete\x7f", "has a control character"),
    (" leading-space-0123456789", "begins or ends with a space, which no header can carry"),
    ("trailing-tab-0123456789 ", "begins or ends with a space, which no header can carry"),
    ("k" * 1025, "is longer than 1024 bytes"),
    (b"not-utf-8-\xff\xfe-0123456789", "is not valid UTF-8"),
])
def test_add_refuses_unusable_keys(cli, key, fault):
    """S1-17: what no header could carry, or would break the file, is refused by name and nothing is written."""
    assert cli.refused("add", key) == f"error: KEY {fault}\n"
    assert not cli.file.exists()


def test_add_keeps_the_rest_of_the_file(cli):
    """S1-17, S1-10: other members, their order, and text beyond ASCII stay."""
    cli.write({"comment": "Schlüssel für das Team", "valid_keys": ["ключ-0123456789-abc"], "nested": {"a": [1, 2.5, None, True]}})
    cli.ok("add", KEY)
    cli.ok("add", "schlüssel-0123456789-ß")
    assert list(cli.data()) == ["comment", "valid_keys", "nested", "require_auth_for_external", "local_networks"]
    assert cli.data()["valid_keys"] == ["ключ-0123456789-abc", KEY, "schlüssel-0123456789-ß"]
    assert cli.data()["nested"] == {"a": [1, 2.5, None, True]}
    assert "Schlüssel für das Team" in cli.file.read_text(encoding="utf-8")


def test_remove(cli):
    """S1-18: gone from the file (every copy of it); an unknown key gives a message and exit 1."""
    cli.write({**SAMPLE, "valid_keys": [KEY, "demo-key-12345", KEY]})
    assert cli.ok("remove", KEY) == "Removed the key from api_keys.json.\n"
    assert cli.data() == {**SAMPLE, "valid_keys": ["demo-key-12345"]}
    before = cli.file.read_bytes()
    for unknown in (KEY, "demo-key-1234", "demo-key-123456", "", "DEMO-KEY-12345"):
        assert cli.refused("remove", unknown) == "error: api_keys.json: has no such key\n"
    assert cli.file.read_bytes() == before


def test_remove_without_a_file(cli):
    """S1-18: removing from nothing is an unknown key, and makes no file."""
    assert cli.refused("remove", KEY) == "error: api_keys.json: has no such key\n"
    assert not cli.file.exists()


def test_generate(cli):
    """S1-19, S1-48: 32 characters of letters, digits, - and _, printed once, in the file; no two alike, all of the alphabet used."""
    keys = []
    for _ in range(20):
        out = cli.ok("generate")
        match = GENERATED.match(out)
        assert match and out[match.end():] == "Added the key to api_keys.json.\n"
        assert out.count(match[1]) == 1
        keys.append(match[1])
    assert cli.data()["valid_keys"] == keys
    assert len(set(keys)) == 20
    # 640 draws of 64 characters: fewer than 56 different ones has a chance below 10^-20.
    assert len(set("".join(keys))) >= 56
    assert not any(key.startswith("-") for key in keys)
    # A position that never changes would be a constant, not randomness.
    assert all(len({key[i] for key in keys}) > 5 for i in range(32))


def test_generate_that_cannot_be_shown_fails(cli):
    """S1-19: a key that could not be printed is not reported as done."""
    with open("/dev/full", "w", encoding="utf-8") as full:
        base = {k: v for k, v in os.environ.items() if k != "API_KEYS_FILE"}
        r = subprocess.run([*cli.argv, "generate"], cwd=cli.cwd, env=base, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (r.returncode, r.stderr) == (1, "error: standard output: cannot be written\n")


def test_toggle_auth(cli):
    """S1-20: flips each run and prints the new state."""
    cli.write(SAMPLE)
    assert cli.ok("toggle-auth") == "require_auth_for_external: false\nExternal requests are let in WITHOUT a key.\n"
    assert cli.data() == {**SAMPLE, "require_auth_for_external": False}
    assert cli.ok("toggle-auth") == "require_auth_for_external: true\nExternal requests need a key.\n"
    assert cli.data() == SAMPLE


@pytest.mark.parametrize("args", [
    [], ["frobnicate"], ["LIST"], ["add"], ["remove"], ["add", "a", "b"], ["list", "x"], ["generate", "x"], ["toggle-auth", "x"], ["list", "--all"], ["add", "--mask", KEY],
    ["--file"], ["list", "--file"], ["--file=", "list"], ["--file", "", "list"], ["--"],
])
def test_usage(cli, args):
    """S1-21: no command, an unknown one, or wrong words: usage on stderr, exit 2, nothing made."""
    r = cli(*args)
    assert (r.returncode, r.stdout) == (2, "")
    assert r.stderr.startswith("usage: ")
    for command in ("list", "add KEY", "remove KEY", "generate", "toggle-auth"):
        assert f"\n  {command}" in r.stderr
    only_files(cli.cwd)


def test_help_is_no_fault(cli):
    """S1-21: asked-for usage goes to stdout, exit 0."""
    for flag in ("--help", "-h"):
        assert cli.ok(flag) == cli().stderr


def test_keys_that_look_like_options(cli):
    """S1-17, S1-18: a key may begin with dashes."""
    cli.ok("add", "-one-dash-0123456789")
    cli.ok("add", "--", "--two-dashes-0123456789")
    assert cli.data()["valid_keys"] == ["-one-dash-0123456789", "--two-dashes-0123456789"]
    cli.ok("--", "remove", "--two-dashes-0123456789")
    cli.ok("remove", "-one-dash-0123456789")
    assert cli.data()["valid_keys"] == []


def test_honours_api_keys_file(cli):
    """S1-22, S1-09: API_KEYS_FILE, relative and absolute; --file goes before it; empty means the default."""
    (cli.cwd / "sub").mkdir()
    cli.ok("add", KEY, env={"API_KEYS_FILE": "sub/a.json"})
    assert json.loads((cli.cwd / "sub" / "a.json").read_text())["valid_keys"] == [KEY]
    absolute = str(cli.cwd / "b.json")
    assert cli.ok("add", KEY, env={"API_KEYS_FILE": absolute}) == f"Added the key to {absolute}.\n"
    cli.ok("add", KEY, "--file", "c.json", env={"API_KEYS_FILE": absolute})
    cli.ok("--file=c.json", "add", "another-key-0123456789", env={"API_KEYS_FILE": absolute})
    assert json.loads((cli.cwd / "c.json").read_text())["valid_keys"] == [KEY, "another-key-0123456789"]
    assert json.loads((cli.cwd / "b.json").read_text())["valid_keys"] == [KEY]
    assert not cli.file.exists()
    cli.ok("add", KEY, env={"API_KEYS_FILE": ""})
    assert cli.data()["valid_keys"] == [KEY]


def test_written_0600_and_replaced_whole(cli):
    """S1-22: 0600 whatever the umask or the old mode, a new inode each time, a symbolic link kept."""
    cli.ok("add", KEY, preexec_fn=lambda: os.umask(0))
    assert stat.S_IMODE(cli.file.stat().st_mode) == 0o600
    cli.file.chmod(0o644)
    with cli.file.open() as before:
        cli.ok("generate", preexec_fn=lambda: os.umask(0o777))
        assert stat.S_IMODE(cli.file.stat().st_mode) == 0o600
        # Whoever was reading the old file reads the old file to its end.
        assert json.load(before)["valid_keys"] == [KEY]
    (cli.cwd / "link.json").symlink_to("api_keys.json")
    cli.ok("add", "through-the-link-0123456789", "--file", "link.json")
    assert (cli.cwd / "link.json").is_symlink()
    assert "through-the-link-0123456789" in cli.data()["valid_keys"]


@pytest.mark.parametrize("text, message", [
    ('{\n"valid_keys": [\n  "secret-key-1"\n  "secret-key-2"\n]}', r"api_keys\.json:4:\d+: not valid JSON: "),
    ("", r"api_keys\.json:1:1: not valid JSON: "),
    ('{"valid_keys":["secret-key', r"api_keys\.json:1:\d+: not valid JSON: "),
    ('{"valid_keys":[],"valid_keys":["secret-key-1"]}', r"api_keys\.json:?[\d:]*: not valid JSON: duplicate object key"),
    ('{"x":NaN}', r"api_keys\.json:?[\d:]*: not valid JSON: "),
    ('{"x":123456789012345678901234567890}', r"api_keys\.json:?[\d:]*: not valid JSON: too big integer"),
    ('{"x":1e999}', r"api_keys\.json:?[\d:]*: not valid JSON: real number overflow"),
    ('{"x":"\\ud800"}', r"api_keys\.json:?[\d:]*: not valid JSON: "),
    ('{"x":"\\u0000"}', r"api_keys\.json:?[\d:]*: not valid JSON: "),
    ("[]", r"api_keys\.json: must hold an object, not an array"),
    ('{"valid_keys":"secret-key-1"}', r"api_keys\.json: valid_keys must be an array of strings, not a string"),
    ('{"valid_keys":["secret-key-1",7]}', r"api_keys\.json: valid_keys\[1\] must be a string, not a number"),
    ('{"valid_keys":["secret-key-1",""]}', r"api_keys\.json: valid_keys\[1\] is empty"),
    ('{"valid_keys":["secret-\\n"]}', r"api_keys\.json: valid_keys\[0\] has a control character"),
    ('{"require_auth_for_external":1}', r"api_keys\.json: require_auth_for_external must be true or false, not a number"),
    ('{"local_networks":["127.1"]}', r"api_keys\.json: local_networks\[0\] is not an address, a network \(CIDR\) or localhost"),
    ('{"local_networks":["10.0.0.0/255.0.0.0"]}', r"api_keys\.json: local_networks\[0\] is not an address"),
    ('{"local_networks":["10.0.0.0/33"]}', r"api_keys\.json: local_networks\[0\] is not an address"),
    ('{"local_networks":["fe80::1%lo"]}', r"api_keys\.json: local_networks\[0\] is not an address"),
])
def test_broken_file_is_named_and_left_alone(cli, text, message):
    """S1-22, S1-13: every command names the file, the place and what is wrong, quotes no key, exits 1 and changes nothing."""
    cli.write(text)
    for args in (["list"], ["add", KEY], ["remove", KEY], ["generate"], ["toggle-auth"]):
        err = cli.refused(*args)
        assert re.match("error: " + message, err), err
        assert "secret" not in err
    assert cli.file.read_text(encoding="utf-8") == text


def test_same_networks_are_understood(cli):
    """S1-05: what the document calls addresses and networks."""
    nets = ["127.0.0.1", "192.168.0.0/16", "192.168.1.77/24", "::1", "[::1]", "fe80::/10", "::ffff:10.0.0.0/104", "localhost", "LocalHost", "0.0.0.0/0", "::/0"]
    cli.write({"local_networks": nets})
    assert ", ".join(nets) in cli.ok("list")


def test_not_a_file(cli):
    """S1-22: a folder or a FIFO in the file's place is an error, not a hang."""
    (cli.cwd / "folder").mkdir()
    os.mkfifo(cli.cwd / "fifo")
    for name in ("folder", "fifo"):
        assert cli.refused("list", "--file", name) == f"error: {name}: cannot be read: not a regular file\n"
    missing = os.strerror(errno.ENOENT)
    assert cli.refused("add", KEY, "--file", "none/k.json") == f"error: none/k.json: cannot be written: none/k.json.lock: {missing}\n"


# Loads the script as root (an unprivileged user may not reach the interpreter's folder), then runs it as nobody.
AS_NOBODY = f"""
import os, sys
sys.path.insert(0, {str(SCRIPT.parent)!r})
sys.dont_write_bytecode = True
import manage_api_keys
os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
sys.exit(manage_api_keys.main(sys.argv[1:]))
"""


@pytest.fixture
def foreign(cli):
    """The program where and how an unprivileged user runs it, and keyword arguments for its calls: root may read anything."""
    folder = Path(tempfile.mkdtemp(prefix="tollgate-keys-"))
    folder.chmod(0o755)
    cli.cwd = folder / "work"
    cli.cwd.mkdir()
    who = {}
    if os.geteuid() == 0:
        os.chown(cli.cwd, NOBODY, NOBODY)
        if cli.kind == "script":
            cli.argv = [sys.executable, "-c", AS_NOBODY]
        else:
            cli.argv[0] = shutil.copy(BIN, folder)
            who = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    yield cli, who
    cli.cwd.chmod(0o700)
    shutil.rmtree(folder)


def test_unreadable_file(foreign):
    """S1-22: chmod 000 gives a clear error and exit 1."""
    cli, who = foreign
    cli.ok("add", KEY, **who)
    cli.file.chmod(0)
    denied = os.strerror(errno.EACCES)
    for args in (["list"], ["add", "another-key-0123456789"], ["remove", KEY], ["generate"], ["toggle-auth"]):
        assert cli.refused(*args, **who) == f"error: api_keys.json: cannot be read: {denied}\n"
    cli.file.chmod(0o600)
    assert cli.data()["valid_keys"] == [KEY]


def test_unwritable_folder(foreign):
    """S1-22: a folder that cannot be written gives a clear error and exit 1, and the file stays as it was."""
    cli, who = foreign
    cli.ok("add", KEY, **who)
    cli.cwd.chmod(0o555)
    denied = os.strerror(errno.EACCES)
    assert cli.refused("add", "another-key-0123456789", **who) == f"error: api_keys.json: cannot be written: {denied}\n"
    assert cli.ok("list", **who).startswith("API keys in api_keys.json: 1\n")
    if os.geteuid() == 0:  # only root gets the lock's file out of a folder like this
        (cli.cwd / "api_keys.json.lock").unlink()
        assert cli.refused("generate", **who) == f"error: api_keys.json: cannot be written: api_keys.json.lock: {denied}\n"
    cli.cwd.chmod(0o755)
    assert cli.data()["valid_keys"] == [KEY]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_root_keeps_the_owner(cli):
    """S1-22: the service's user can still read the file after root has edited it."""
    cli.write(SAMPLE)
    os.chown(cli.file, NOBODY, NOBODY)
    cli.ok("add", KEY)
    st = cli.file.stat()
    assert (st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)) == (NOBODY, NOBODY, 0o600)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody")
@pytest.mark.parametrize("command", [["generate"], ["add", KEY]], ids=["generate", "add"])
def test_root_makes_it_for_the_folders_owner(cli, command):
    """A file of root's own would stop the next start of the service."""
    os.chown(cli.cwd, NOBODY, NOBODY)
    cli.ok(*command)
    for path in (cli.file, cli.file.with_name("api_keys.json.lock")):
        st = path.stat()
        assert (st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)) == (NOBODY, NOBODY, 0o600), path


def test_parallel_adds_lose_nothing(tmp_path):
    """S1-22: both programs at once on one file: every key is there afterwards, and a reader never sees half a file."""
    clis = [Cli("binary", tmp_path), Cli("script", tmp_path)]
    keys = [f"parallel-key-{i:03d}-abcdef" for i in range(40)]
    clis[0].ok("add", "the-first-key-0123456789")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(clis[i % 2].ok, "add", key) for i, key in enumerate(keys)]
        while not all(job.done() for job in jobs):
            assert clis[0].data()["valid_keys"][0] == "the-first-key-0123456789"
            time.sleep(0.002)
        for job in jobs:
            job.result()
    assert sorted(clis[0].data()["valid_keys"]) == sorted(["the-first-key-0123456789", *keys])
    only_files(tmp_path, "api_keys.json", "api_keys.json.lock")


def test_both_write_the_same_bytes(tmp_path):
    """C-25: the script's file and the binary's are equal to the byte, and each reads what the other wrote."""
    files = []
    for kind in ("binary", "script"):
        (tmp_path / kind).mkdir()
        cli = Cli(kind, tmp_path / kind)
        cli.write('{"note": "ü/\\u2028\\"", "valid_keys": ["k-0123456789-abcdef"], "a": [], "b": {}, "c": [1, -2, 0.5, true, null]}')
        cli.ok("add", KEY)
        cli.ok("toggle-auth")
        cli.ok("remove", "k-0123456789-abcdef")
        files.append(cli.file.read_bytes())
    assert files[0] == files[1]


def test_example_file_is_valid(cli):
    """S1-47: api_keys.example.json loads, and none of its keys looks real."""
    shutil.copy(ROOT / "api_keys.example.json", cli.file)
    assert set(cli.data()) == {"valid_keys", "require_auth_for_external", "local_networks"}
    assert all("example" in key.lower() for key in cli.data()["valid_keys"])
    assert cli.ok("list").startswith("API keys in api_keys.json: 3\n")
