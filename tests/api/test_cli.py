"""The command line as a stranger meets it: help, routes, config, init, version; a broken configuration is told precisely and exits 2."""
import json
import os
import re
import stat
import subprocess
import tomllib

import pytest

from lib.gate import ADMIN, BINARY, READ, clean_env, model, run_cli
from test_seed_000 import NINE, routes_def

COMMANDS = ("serve", "init", "run", "routes", "config", "keyfile")


@pytest.fixture
def here(tmp_path):
    if not BINARY.exists():
        pytest.fail(f"{BINARY} is missing")
    return tmp_path


def test_help(here):
    """The issue, "Sight": `tollgate --help` names every command, on one screen, on stdout."""
    for args in (["--help"], ["-h"], ["help"]):
        p = run_cli(*args, cwd=here)
        assert p.returncode == 0 and not p.stderr, (args, p.stderr)
        assert all(c in p.stdout for c in COMMANDS) and len(p.stdout.splitlines()) <= 60 and max(map(len, p.stdout.splitlines())) <= 140
    for c in COMMANDS:
        p = run_cli(c, "--help", cwd=here)
        assert p.returncode == 0 and c in p.stdout, (c, p.stderr)
    assert not any(here.iterdir()), "asking for help leaves nothing behind"


def test_usage_errors(here):
    """An unknown command, option or a missing value: said on stderr with a hint, exit 2."""
    for args in ([], ["fly"], ["serve", "--fly"], ["serve", "--config"], ["config"], ["config", "fly"], ["routes", "x"], ["--fly"]):
        p = run_cli(*args, cwd=here)
        assert p.returncode == 2 and (p.stderr or not args), (args, p.returncode, p.stdout, p.stderr)
        if args and args[-1].strip("-") == "fly":
            assert "fly" in p.stderr
    assert "serve" in run_cli("serv", cwd=here).stderr, "the nearest command is named"


def test_version(here):
    """`tollgate version` and --version: one line, name and number."""
    got = {run_cli(*a, cwd=here).stdout for a in (["version"], ["--version"])}
    assert len(got) == 1 and re.match(r"tollgate \d+\.\d+", next(iter(got)))


def test_routes(here):
    """The route table is the permission table: every row with its method, path and permission; what is to come is marked."""
    p = run_cli("routes", cwd=here)
    assert p.returncode == 0
    lines = p.stdout.splitlines()

    def find(method, path):
        got = [x for x in lines if re.search(rf"(^|\s){method}\s+{re.escape(path)}(\s|$)", x)]
        assert got, f"{method} {path} is not in the list"
        return got[0]
    for method, path, guard in routes_def():
        row = find("(\\*|ANY|any)" if method == "ANYMETHOD" else method, path)
        perms = re.findall(r"[a-z_]{4,}", guard) or [guard.lower()]
        assert all(x in row.lower() for x in perms), (row, perms)
    for method, path in NINE:
        row = find(method, path)
        marked = re.search(r"(501|later|not built)", row)
        assert bool(marked) == (path != "/models/reload"), row


# --- config ------------------------------------------------------------------------------------------------------------------------
def test_sample_is_a_valid_configuration(here):
    """`config sample`: TOML, commented, and accepted as it stands."""
    p = run_cli("config", "sample", cwd=here)
    assert p.returncode == 0 and p.stdout.count("#") > 20
    tomllib.loads(p.stdout)
    for table in ("[server]", "[auth]", "[limits]", "[log]", "[[model]]"):
        assert table in p.stdout, table
    (here / "s.toml").write_text(p.stdout)
    assert run_cli("config", "check", "--config", "s.toml", cwd=here, env={"INFERENCE_ADMIN_KEY": ADMIN}).returncode == 0
    bare = "\n".join(x[1:].lstrip() if re.match(r"#\s*(\[\[?\w+\]\]?|\w+ = )", x) else x for x in p.stdout.splitlines())
    assert tomllib.loads(bare), "what is commented out is TOML too"


def test_show(here):
    """`config show`: values with where each came from; secrets by prefix only."""
    (here / "tollgate.toml").write_text('[limits]\napi = "7/minute"\n\n[[model]]\nname = "qwen3"\nurls = ["http://127.0.0.1:5"]\napi_key = "worker-secret-0123456789"\n')
    (here / ".env").write_text("TOLLGATE_LOG_LEVEL=debug\n")
    p = run_cli("config", "show", cwd=here, env={"INFERENCE_ADMIN_KEY": ADMIN, "TOLLGATE_LIMITS_INFER": "9/second", "TOLLGATE_API_KEYS": "list-key-0123456789abcdef"})
    assert p.returncode == 0, p.stderr
    out = p.stdout

    def row(name, value):
        got = [x for x in out.splitlines() if name in x and value in x]
        assert got, (name, value, out)
        return got[0]
    assert "tollgate.toml:2" in row("api", "7/minute")
    assert "TOLLGATE_LIMITS_INFER" in row("infer", "9/second")
    assert ".env" in row("level", "debug")
    assert "default" in row("max_body_bytes", "10485760")
    assert "INFERENCE_ADMIN_KEY" in out and ADMIN[:9] in out and "qwen3" in out
    for secret in (ADMIN, "worker-secret-0123456789", "list-key-0123456789abcdef"):
        assert secret not in out and secret not in p.stderr


def test_check(here):
    """`config check`: 0 and a word for a good file; the four causes of document 001's troubleshooting are printed (S1-52)."""
    (here / "tollgate.toml").write_text('[server]\nlisten = ["127.0.0.1:0"]\n')
    (here / "api_keys.json").write_text('{"valid_keys": ["demo-key-12345"], "require_auth_for_external": true, "local_networks": ["127.0.0.1"]}')
    p = run_cli("config", "check", cwd=here, env={"INFERENCE_ADMIN_KEY": ADMIN})
    said = p.stdout + p.stderr
    assert p.returncode == 0, said
    for cause in ("api_keys.json", "valid_keys", "require_auth_for_external", "local_networks"):
        assert cause in said, (cause, said)
    assert "demo-key-12345" not in said and ADMIN not in said
    (here / "api_keys.json").write_text('{"valid_keys": [\n  oops]}')
    p = run_cli("config", "check", cwd=here, env={"INFERENCE_ADMIN_KEY": ADMIN})
    assert "api_keys.json:2:" in p.stdout + p.stderr


BROKEN = [
    ('[server]\nlissten = ["127.0.0.1:1"]\n', 2, "lissten", "listen"),
    ('[server]\nthreads = 1\n\n[limitz]\napi = "off"\n', 4, "limitz", "limits"),
    ('[limits]\napi = "off"\ninfr = "off"\n', 3, "infr", "infer"),
    ('[[model]]\nname = "m"\nurls = ["http://127.0.0.1:1"]\nslotz = 1\n', 4, "slotz", "slots"),
    ('[server]\nthreads = "two"\n', 2, "threads", None),
    ('[server]\nlisten = ["127.0.0.1:1"]\nmax_body_bytes = -5\n', 3, "max_body_bytes", None),
    ('[server]\nmax_headers = 5000\n', 2, "max_headers", "100"),
    ('[server]\nlisten = ["nonsense"]\n', 2, "listen", None),
    ('[server]\nlisten = ["127.0.0.1:99999"]\n', 2, "listen", None),
    ('[server]\ntrusted_proxies = ["10.0.0.0/99"]\n', 2, "trusted_proxies", None),
    ('[limits]\napi = "sixty a minute"\n', 2, "api", "minute"),
    ('[limits]\napi = "0/minute"\n', 2, "api", None),
    ('[log]\nlevel = "loud"\n', 2, "level", "warn"),
    ('[[model]]\nname = "m"\nurls = ["ftp://x"]\n', 3, "urls", "http"),
    ('[[model]]\nname = "m"\nurls = ["http://127.0.0.1:1"]\n\n[[model]]\nname = "m"\nurls = ["http://127.0.0.1:2"]\n', None, '"m"', None),
    ('[[model]]\nname = "reload"\nurls = ["http://127.0.0.1:1"]\n', 2, "reload", None),
    ('[[model]]\nurls = ["http://127.0.0.1:1"]\n', None, "name", None),
    ('[[model]]\nname = "m"\nurls = ["http://127.0.0.1:1"]\nprotocol = "grpc"\n', 4, "protocol", "openai"),
    ('[server]\nthreads = 1\nthreads = 2\n', 3, "threads", None),
    ('[server\nthreads = 1\n', 1, "", None),
    ('[audit]\nrequired = true\n', None, "audit", "not a condition of answers yet"),
    ('[server]\ncors_origins = ["https://app.example/"]\n', 2, "cors_origins", "without the last /"),
]


@pytest.mark.parametrize("command", [("serve",), ("config", "check")], ids=["serve", "check"])
@pytest.mark.parametrize("text,line,key,hint", BROKEN, ids=[str(i) for i in range(len(BROKEN))])
def test_broken_configuration(here, command, text, line, key, hint):
    """The issue, "Bad input gets": file, line, key and the nearest known name (or what would be right); exit 2; nothing is started or written."""
    (here / "broken.toml").write_text(text)
    p = run_cli(*command, "--config", "broken.toml", cwd=here, env={"INFERENCE_ADMIN_KEY": ADMIN})
    assert p.returncode == 2, (p.returncode, p.stdout, p.stderr)
    assert "broken.toml" in p.stderr and key in p.stderr
    if line:
        assert re.search(rf"broken\.toml:{line}\b|line {line}\b", p.stderr), p.stderr
    if hint:
        assert hint in p.stderr, p.stderr
    assert len(p.stderr.strip().splitlines()) <= 3 and "listening" not in p.stderr
    assert [x.name for x in here.iterdir()] == ["broken.toml"]


@pytest.mark.parametrize("env,name", [({"TOLLGATE_SERVER_THREADS": "many"}, "TOLLGATE_SERVER_THREADS"), ({"LOAD_BALANCER_PORT": "http"}, "LOAD_BALANCER_PORT"),
                                      ({"TOLLGATE_LIMITS_API": "x"}, "TOLLGATE_LIMITS_API"), ({"CHAPKIT_API_KEYS": '["a"'}, "CHAPKIT_API_KEYS")])
def test_broken_environment(here, env, name):
    """S4-108's rule: a bad value stops the start with the variable's name; a key's value is not shown."""
    p = run_cli("config", "check", cwd=here, env=env)
    assert p.returncode == 2 and name in p.stderr, p.stderr


def test_missing_file(here):
    """A named file that is not there is a fault; no file at all is not."""
    p = run_cli("serve", "--config", "nothere.toml", cwd=here)
    assert p.returncode == 2 and "nothere.toml" in p.stderr
    assert run_cli("config", "check", cwd=here, env={"INFERENCE_ADMIN_KEY": ADMIN}).returncode == 0


def test_taken_port(gate, here):
    """DESIGN.md: a listen entry that is taken stops the start; --also may be taken."""
    g = gate()
    (here / "t.toml").write_text(f'[server]\nlisten = ["127.0.0.1:{g.port}"]\n')
    p = run_cli("serve", "--config", "t.toml", cwd=here)
    assert p.returncode not in (0, 2) and str(g.port) in p.stderr and "tollgate: ready" not in p.stderr
    h = gate(args=["--also", f"127.0.0.1:{g.port}", "--also", "127.0.0.1:0"])
    assert len(h.addresses) == 2 and str(g.port) in h.stderr() and g.port not in h.tcp()
    for port in h.tcp():
        assert h.client(url=f"http://127.0.0.1:{port}").get("/health").status_code == 200


# --- sources -----------------------------------------------------------------------------------------------------------------------
def test_order_of_sources(gate, worker):
    """DESIGN.md: environment, then the TOML file, then .env, then data/keys.env."""
    w = worker()
    files = {".env": f"# a comment\nexport INFERENCE_READ_KEY=\"{READ}\"\nTOLLGATE_LIMITS_API=3/minute\nTOLLGATE_LIMITS_INFER='5/minute'\n",
             "data/keys.env": f"INFERENCE_ADMIN_KEY={ADMIN}\nINFERENCE_READ_KEY=from-keys-env-000000\n"}
    g = gate(models=[model("m", w)], keys=False, files=files, toml={"limits": {"api": "7/minute"}}, env={"TOLLGATE_LIMITS_INFER": "9/minute"})
    assert g.client(ADMIN).post("/models/reload").status_code == 200
    r = g.client(READ).get("/v1/models")
    assert r.status_code == 200 and r.headers["x-ratelimit-limit"] == "9", "the environment wins over .env"
    assert g.client("from-keys-env-000000").get("/v1/models").status_code == 401, ".env wins over data/keys.env"
    assert g.client(READ).post("/api/v1/inference", json={"prompt": "x", "model": "m"}).headers["x-ratelimit-limit"] == "7", "the file wins over .env"


def test_config_in_the_working_directory(here):
    """The issue: without --config it takes tollgate.toml here if there is one."""
    (here / "tollgate.toml").write_text('[limits]\napi = "11/hour"\n')
    assert "11/hour" in run_cli("config", "show", cwd=here).stdout


# --- init --------------------------------------------------------------------------------------------------------------------------
def keys_env(here):
    text = (here / "data" / "keys.env").read_text()
    return {k.removeprefix("export "): v.strip("\"'") for k, _, v in (x.partition("=") for x in text.splitlines() if "=" in x and not x.startswith("#"))}


def test_init_twice(here):
    """The issue, "First run": makes data/keys.env (0600) and a commented tollgate.toml, prints the keys once; the second run changes and shows nothing."""
    p = run_cli("init", cwd=here)
    assert p.returncode == 0, p.stderr
    keys = keys_env(here)
    admin, read = keys["INFERENCE_ADMIN_KEY"], keys["INFERENCE_READ_KEY"]
    assert admin != read and min(len(admin), len(read)) >= 32 and admin in p.stdout and read in p.stdout
    assert "http://127.0.0.1:9001" in p.stdout and "[[model]]" in p.stdout and len(p.stdout.splitlines()) <= 40
    assert stat.S_IMODE(os.stat(here / "data" / "keys.env").st_mode) == 0o600
    text = (here / "tollgate.toml").read_text()
    assert text.count("#") > 20
    tomllib.loads(text)
    before = {f: (here / f).read_bytes() for f in ("data/keys.env", "tollgate.toml")}
    p = run_cli("init", cwd=here)
    assert p.returncode == 0 and admin not in p.stdout + p.stderr and read not in p.stdout + p.stderr
    assert before == {f: (here / f).read_bytes() for f in before}


def test_init_keeps_keys_that_are_set(here):
    """DESIGN.md: init never replaces a set INFERENCE_*_KEY, nor a configuration that is there."""
    (here / "tollgate.toml").write_text("# mine\n")
    p = run_cli("init", cwd=here, env={"INFERENCE_ADMIN_KEY": ADMIN})
    assert p.returncode == 0 and (here / "tollgate.toml").read_text() == "# mine\n"
    keys = keys_env(here)
    assert "INFERENCE_ADMIN_KEY" not in keys and len(keys["INFERENCE_READ_KEY"]) >= 32
    assert ADMIN not in (here / "data" / "keys.env").read_text() + p.stdout


def test_init_makes_new_keys_each_time(tmp_path):
    """Two fresh directories, four different keys."""
    got = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        assert run_cli("init", cwd=tmp_path / name).returncode == 0
        got += keys_env(tmp_path / name).values()
    assert len(set(got)) == 4


def test_serve_creates_no_key(gate):
    """DESIGN.md: `serve` never creates a key."""
    g = gate(keys=False)
    assert not (g.dir / "data" / "keys.env").exists() and g.client().get("/models").status_code == 500


def test_first_run_curl_lines_work(here, gate):
    """The issue, "First run": the three printed curl lines work as they are, against the gate that init prepared; chat without a model is the told 503."""
    p = run_cli("init", cwd=here)
    lines = re.findall(r"^\s*(curl .*)$", re.sub(r"\\\n\s*", " ", p.stdout), re.M)
    assert len(lines) == 3, p.stdout
    g = gate(toml=(here / "tollgate.toml").read_text(), keys=False, env={"LOAD_BALANCER_PORT": "0"}, files={"data/keys.env": (here / "data" / "keys.env").read_text()})
    got = []
    for line in lines:
        sh = "curl() { command curl -q -s -S --noproxy '*' --connect-to ::127.0.0.1:%d -o body -w '%%{http_code}' \"$@\"; }\n%s" % (g.port, line)
        q = subprocess.run(["bash", "-c", sh], cwd=here, env=clean_env(), capture_output=True, text=True, timeout=20)
        assert q.returncode == 0, (line, q.stderr)
        got.append((line, q.stdout[-3:], (here / "body").read_text()))
    assert all(status == "200" or (status == "503" and "[[model]]" in body + p.stdout) for _, status, body in got), got
    assert sum(status == "200" for _, status, _ in got) >= 2, got


def test_addresses_are_announced(gate, tmp_path):
    """The issue: port 0 allowed, the addresses listened on are told, in order, before "ready"."""
    g = gate(listen=["127.0.0.1:0", "127.0.0.2:0", f"unix:{tmp_path}/g.sock"])
    said = [x for x in g.stderr().splitlines() if x.startswith("tollgate: ")]
    at = [i for i, x in enumerate(said) if x.startswith("tollgate: listening on ")]
    assert len(at) == 3 and max(at) < said.index("tollgate: ready") and g.addresses[2] == f"unix:{tmp_path}/g.sock"
    for host in ("127.0.0.1", "127.0.0.2"):
        assert g.client(url=f"http://{host}:{g.tcp(host)[0]}").get("/health").status_code == 200
    assert g.raw(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", unix=tmp_path / "g.sock").startswith(b"HTTP/1.1 200")
    g.stop()
    assert not (tmp_path / "g.sock").exists(), "the socket's file goes with the gate"


def test_reload_keeps_the_old_configuration_when_the_new_one_is_broken(gate, worker):
    """The issue: SIGHUP reloads the whole configuration, or keeps the old one and says why."""
    w = worker()
    g = gate(models=[model("m", w)])
    g.replace("tollgate.toml", '[server]\nlissten = 1\n')
    got = json.dumps(g.reload())
    assert "lissten" in got and "listen" in got and "tollgate.toml" in got
    assert g.client(READ).post("/v1/chat/completions", json={"model": "m", "messages": []}).status_code == 200
    g.write_config(models=[model("m", w), model("second", w)])
    g.reload()
    assert "second" in g.client(READ).get("/v1/models").text


def test_run_needs_a_command(here):
    """`tollgate run` without `-- COMMAND` is a usage error that shows the form."""
    p = run_cli("run", cwd=here)
    assert p.returncode == 2 and "--" in p.stderr and "{port}" in p.stderr


@pytest.mark.parametrize("url", ["foo", "sqlite:", "postgresql://db/tollgate", "data/tollgate.db"])
def test_store_url_is_checked(here, url):
    """What serve cannot use, config check refuses, with the option's name and place."""
    for args in (["config", "check"], ["serve"], ["keys", "list"]):
        (here / "tollgate.toml").write_text(f'[store]\nurl = "{url}"\n')
        p = run_cli(*args, cwd=here, env={"LOAD_BALANCER_PORT": "0"})
        assert p.returncode == 2 and "[store] url" in p.stderr and "tollgate.toml:2" in p.stderr and "sqlite:PATH" in p.stderr, p.stderr
    assert not (here / "data").exists()


@pytest.mark.parametrize("args, text", [
    (["--protocol", "x"], '--protocol must be openai or infer, not "x"'),
    (["--ready-seconds", "0"], '--ready-seconds must be a number of seconds from 1 to 86400, not "0"'),
    (["--ready-seconds", "86401"], '--ready-seconds must be a number of seconds from 1 to 86400, not "86401"'),
    (["--ready-seconds", "10s"], '--ready-seconds must be a number of seconds from 1 to 86400, not "10s"'),
    (["--name"], "--name must be followed by the name of a model"),
    (["--listen"], "--listen must be followed by an address"),
])
def test_options_of_run(here, args, text):
    """A value that will not do is not called an option that is not known."""
    for tail in (["--", "true", "{port}"], []):
        p = run_cli("run", *args, *tail, cwd=here)
        assert p.returncode == 2 and p.stderr.splitlines()[0] == f"tollgate run: {text}", p.stderr


def test_every_command_explains_itself(here):
    for command in re.findall(r"^  (\w+) +", run_cli("help", cwd=here).stdout.split("The first minute")[0], re.M):
        for args in ([command, "--help"], [command, "-h"], ["help", command]):
            p = run_cli(*args, cwd=here)
            assert p.returncode == 0 and f"usage: tollgate {command}" in p.stdout and not p.stderr, (args, p)


def test_a_full_disk_is_told_in_one_line(here):
    """A bound of files' sizes stands for it, which the database's log meets. What the gate logs as JSON is nothing for a terminal."""
    create = ["keys", "create", "a", "--permissions", "read_models"]
    assert run_cli(*create, cwd=here).returncode == 0
    for _ in range(5):
        p = subprocess.run(["sh", "-c", f"trap '' XFSZ; ulimit -f 80; exec {BINARY} {' '.join(create)}"], cwd=here, env=clean_env(), capture_output=True, text=True, timeout=30)
        if p.returncode:
            break
    assert p.returncode == 1 and p.stderr.startswith("error: ") and len(p.stderr.splitlines()) == 1, p.stderr
