"""
The real binary, started in a directory of its own, driven from outside only.

    g = gate(models=[model("qwen3", worker)])      # fixture of conftest.py; every argument is optional
    g.url, g.port, g.dir, g.pid                    # first TCP address; the gate's working directory (pathlib.Path)
    g.client(key=READ)                             # httpx.Client on g.url (trust_env=False); extra keywords go to httpx
    g.external(key=None)                           # the same from source address 127.0.0.2: not local for document 001
    g.raw(b"GET / HTTP/1.1\r\n...")                # bytes out, bytes back until the gate closes or `timeout` passes
    g.log(), g.log_text()                          # logs/app.log: parsed lines, the text
    g.wait_log(lambda r: r["status"] == 401)       # first record that satisfies it, within 3 s
    g.record(response)                             # the access-log record of an httpx response, by X-Request-ID
    g.stderr()                                     # text so far
    g.reload()                                     # SIGHUP, waits for the log line of the reload and returns it
    g.write_config(toml=..., models=...)           # replaces the file (then reload)
    g.stop()                                       # SIGTERM; asserts exit 0 and no sanitizer report; the fixture calls it

Arguments of gate(): toml (dict merged over the defaults below, or str: the whole file), env (dict, on top of PATH), keys (True: both INFERENCE_*_KEYs
are set to ADMIN and READ, "read"/"admin": only one, False: none), models (list of dicts or model(...)), api_keys (dict or text of api_keys.json), args (extra CLI
arguments), listen (list), start (False: only prepare the directory), files (dict of relative path to text), wait (False: do not wait for "ready").
"""
import errno
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("TOLLGATE_BIN") or ROOT / "build" / "tollgate").absolute()
ADMIN = "adm-test-Q7x2mV9sK4pL8wZ3"
READ = "rd-test-H5n8cT1yB6vR2jF9"
EXTERNAL = "127.0.0.2"
SANITIZER_ENV = ("ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS", "TSAN_OPTIONS", "LLVM_PROFILE_FILE")
REPORT = re.compile(r"(ERROR: (Address|Leak|Memory)Sanitizer|WARNING: ThreadSanitizer|runtime error:|SUMMARY: \w+Sanitizer)")
START_S = float(os.environ.get("TOLLGATE_START_S", "20"))


def toml_value(v):
    if isinstance(v, bool):
        return "true" if v else "false"
    if isinstance(v, (int, float)):
        return repr(v)
    if isinstance(v, (list, tuple)):
        return "[" + ", ".join(toml_value(x) for x in v) + "]"
    return json.dumps(str(v), ensure_ascii=False)


def toml_text(tree):
    """A dict as TOML: scalars, lists, tables, and lists of dicts as arrays of tables."""
    out, tables = [], []
    for k, v in tree.items():
        if isinstance(v, dict):
            tables.append(f"\n[{k}]\n" + "".join(f"{a} = {toml_value(b)}\n" for a, b in v.items()))
        elif isinstance(v, list) and v and isinstance(v[0], dict):
            for row in v:
                tables.append(f"\n[[{k}]]\n" + "".join(f"{a} = {toml_value(b)}\n" for a, b in row.items()))
        else:
            out.append(f"{k} = {toml_value(v)}\n")
    return "".join(out + tables)


def model(name, *workers, **options):
    """One [[model]] row: workers are Worker objects or URLs; options are TOML names (slots, protocol, queue, first_byte_ms, aliases ...)."""
    return {"name": name, "urls": [getattr(w, "url", w) for w in workers], **options}


def clean_env(extra=None):
    env = {"PATH": os.environ.get("PATH", "/usr/bin:/bin")}
    env.update({k: os.environ[k] for k in SANITIZER_ENV if k in os.environ})
    env.update({k: str(v) for k, v in (extra or {}).items()})
    return env


def run_cli(*args, cwd, env=None, stdin=None, timeout=30):
    """One run of the binary to its end: CompletedProcess with text. Fails on a sanitizer report."""
    p = subprocess.run([str(BINARY), *map(str, args)], cwd=cwd, env=clean_env(env), input=stdin, capture_output=True, text=True, timeout=timeout)
    assert not REPORT.search(p.stderr), p.stderr
    return p


def free_port(host="127.0.0.1"):
    """A port that was free a moment ago, for what must be known before the gate starts: none of those that the kernel hands out, so that nobody gets it meanwhile by asking for any."""
    for _ in range(100):
        s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        try:
            s.bind((host, random.randrange(12000, 32000)))
            return s.getsockname()[1]
        except OSError as e:
            if e.errno != errno.EADDRINUSE:
                raise
        finally:
            s.close()
    raise OSError(errno.EADDRINUSE, "no free port")


def has_ipv6():
    try:
        free_port("::1")
        return True
    except OSError:
        return False


class Gate:
    def __init__(self, toml=None, env=None, keys=True, models=None, api_keys=None, args=(), listen=("127.0.0.1:0",), start=True, files=None, wait=True):
        self.dir = Path(tempfile.mkdtemp(prefix="tollgate-test-"))
        self.config = self.dir / "tollgate.toml"
        self.listen, self.args, self.models, self.toml = list(listen), list(args), list(models or []), toml
        self.env = {}
        if keys in (True, "admin"):
            self.env["INFERENCE_ADMIN_KEY"] = ADMIN
        if keys in (True, "read"):
            self.env["INFERENCE_READ_KEY"] = READ
        self.env.update(env or {})
        for name, text in (files or {}).items():
            p = self.dir / name
            p.parent.mkdir(parents=True, exist_ok=True)
            p.write_text(text)
            if name.endswith(".env"):
                p.chmod(0o600)
        if api_keys is not None:
            self.write_keys(api_keys)
        self.write_config()
        self.proc, self._stderr, self._clients, self.addresses = None, [], [], []
        if start:
            self.start(wait)

    # --- files -----------------------------------------------------------------------------------------------------------------
    def write_config(self, toml=None, models=None):
        self.toml = self.toml if toml is None else toml
        self.models = self.models if models is None else models
        if isinstance(self.toml, str):
            text = self.toml
        else:
            tree = {"server": {"listen": self.listen, "threads": 2}}
            for table, row in (self.toml or {}).items():
                if isinstance(row, dict):
                    tree.setdefault(table, {}).update(row)
                else:
                    tree = {table: row, **tree}
            if self.models:
                tree["model"] = self.models
            text = toml_text(tree)
        self.replace("tollgate.toml", text)

    def write_keys(self, keys):
        self.replace("api_keys.json", keys if isinstance(keys, (str, bytes)) else json.dumps(keys, indent=2))

    def replace(self, name, text):
        """A file by temp file and rename, as an editor or the CLI does it: the gate never sees half of it."""
        new = self.dir / (name + ".new")
        new.write_bytes(text.encode() if isinstance(text, str) else text)
        if name == "api_keys.json":
            new.chmod(0o600)
        os.rename(new, self.dir / name)

    # --- life ------------------------------------------------------------------------------------------------------------------
    def start(self, wait=True):
        self.proc = subprocess.Popen([str(BINARY), "serve", "--config", str(self.config), *self.args], cwd=self.dir, env=clean_env(self.env),
                                     stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace")
        self._stdout, self.addresses = [], []  # a second start has other ports
        self._ready = threading.Event()
        self._readers = [threading.Thread(target=self._read, args=a, daemon=True) for a in
                         ((self.proc.stderr, self._stderr, True), (self.proc.stdout, self._stdout, False))]
        for t in self._readers:
            t.start()
        if wait:
            self.wait_ready()

    def _read(self, pipe, into, errors):
        for line in pipe:
            into.append(line)
            if line.startswith("tollgate: listening on "):
                self.addresses.append(line[len("tollgate: listening on "):].strip())
            if line.strip() == "tollgate: ready":
                self._ready.set()
        if errors:
            self._ready.set()  # it ended: nobody need wait any longer

    def wait_ready(self):
        if not self._ready.wait(START_S) or "tollgate: ready" not in self.stderr():
            self.kill()
            raise AssertionError(f"the gate did not become ready; its stderr:\n{self.stderr()}")

    @property
    def pid(self):
        return self.proc.pid

    def alive(self):
        return self.proc is not None and self.proc.poll() is None

    def tcp(self, host="127.0.0.1"):
        """Ports listened on for that host, in the order of their lines."""
        return [int(a.rpartition(":")[2]) for a in self.addresses if a.rpartition(":")[0].strip("[]") == host]

    @property
    def port(self):
        return next(int(a.rpartition(":")[2]) for a in self.addresses if not a.startswith("unix:"))

    @property
    def url(self):
        a = next(a for a in self.addresses if not a.startswith("unix:"))
        return "http://" + a.replace("0.0.0.0", "127.0.0.1")

    def reload(self, timeout=5):
        """SIGHUP; the log record whose event names the reload (config.reloaded or config.reload_failed)."""
        before = sum("reload" in r.get("event", "") for r in self.log())
        os.kill(self.pid, signal.SIGHUP)
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            seen = [r for r in self.log() if "reload" in r.get("event", "")]
            if len(seen) > before:
                return seen[-1]
            time.sleep(0.02)
        raise AssertionError("no log line about the reload came")

    def stop(self, sig=signal.SIGTERM, timeout=30, expect=0):
        """Ends the gate and proves that it ended well. Harmless when it is stopped already."""
        if self.proc is None:
            return
        for c in self._clients:
            c.close()
        self._clients.clear()
        if self.proc.poll() is None:
            os.kill(self.proc.pid, sig)
        try:
            rc = self.proc.wait(timeout)
        except subprocess.TimeoutExpired:
            self.proc.kill()
            self.proc.wait()
            rc = "still running %d s after the signal" % timeout
        for t in self._readers:
            t.join(5)
        self.proc.stdout.close()
        self.proc.stderr.close()
        self.proc = None
        assert not REPORT.search(self.stderr()), self.stderr()
        assert rc == expect, f"exit status {rc}; stderr:\n{self.stderr()}"

    def kill(self):
        if self.proc is not None:
            if self.proc.poll() is None:
                self.proc.kill()
            self.proc.wait()
            for t in self._readers:
                t.join(5)
            self.proc.stdout.close()
            self.proc.stderr.close()
            self.proc = None

    def remove(self):
        if os.environ.get("TOLLGATE_KEEP") is None:
            shutil.rmtree(self.dir, ignore_errors=True)

    # --- talking to it ---------------------------------------------------------------------------------------------------------
    def client(self, key=None, source=None, url=None, headers=None, **kw):
        h = httpx.Headers(headers or {})  # a list of pairs may name one twice
        if key is not None:
            h["X-API-Key"] = key
        kw.setdefault("timeout", 30)
        if "transport" not in kw:  # verify=False: nothing here is TLS, and loading the CA bundle costs 20 ms a client
            kw["transport"] = httpx.HTTPTransport(local_address=source, retries=0, verify=False)
        c = httpx.Client(base_url=url or self.url, headers=h, trust_env=False, **kw)
        self._clients.append(c)
        return c

    def external(self, key=None, **kw):
        return self.client(key, source=EXTERNAL, **kw)

    def connect(self, source=None, timeout=10, unix=None):
        """A bare connected socket."""
        if unix:
            s = socket.socket(socket.AF_UNIX)
            s.settimeout(timeout)
            s.connect(str(unix))
            return s
        return socket.create_connection(("127.0.0.1", self.port), timeout, (source, 0) if source else None)

    def raw(self, data, timeout=5, source=None, unix=None, shut=False):
        """Sends bytes as they are; returns all bytes until the gate closes or `timeout` seconds pass. shut: half-close after sending."""
        with self.connect(source, timeout, unix) as s:
            try:
                s.sendall(data)
                if shut:
                    s.shutdown(socket.SHUT_WR)
            except (BrokenPipeError, ConnectionResetError):
                pass
            out, end = b"", time.monotonic() + timeout
            while (left := end - time.monotonic()) > 0:
                s.settimeout(left)
                try:
                    got = s.recv(65536)
                except (TimeoutError, ConnectionResetError):
                    break
                if not got:
                    break
                out += got
            return out

    def curl(self, *args, timeout=30, stdin=None):
        """curl with these arguments; (status, header dict with lower-case names, body text). No proxy, no rc file."""
        p = subprocess.run(["curl", "-q", "-s", "-S", "--noproxy", "*", "-i", *map(str, args)], capture_output=True, timeout=timeout, env=clean_env(), cwd=self.dir,
                           input=stdin)
        assert p.returncode == 0, f"curl {args}: {p.returncode} {p.stderr.decode()}"
        rest = p.stdout
        while True:
            head, _, rest = rest.partition(b"\r\n\r\n")
            lines = head.decode().split("\r\n")
            status = int(lines[0].split()[1])
            if status >= 200:
                break
        return status, {k.strip().lower(): v.strip() for k, _, v in (x.partition(":") for x in lines[1:])}, rest.decode()

    # --- what it wrote ---------------------------------------------------------------------------------------------------------
    def stderr(self):
        return "".join(self._stderr)

    def log_path(self):
        return self.dir / "logs" / "app.log"

    def log_text(self):
        try:
            return self.log_path().read_text(errors="strict")
        except FileNotFoundError:
            return ""

    def log(self, wait=0.0):
        """All whole lines so far, each a dict. wait: seconds to sleep first, for lines still in a batch (flushed within 0.1 s)."""
        if wait:
            time.sleep(wait)
        text = self.log_text()
        return [json.loads(x) for x in text[:text.rfind("\n") + 1].splitlines()]

    def requests(self, wait=0.0):
        """The access-log records alone."""
        return [r for r in self.log(wait) if "endpoint" in r and "request_id" in r]

    def wait_log(self, wanted, timeout=3):
        end = time.monotonic() + timeout
        while True:
            for r in self.log():
                try:
                    if wanted(r):
                        return r
                except KeyError:
                    pass
            if time.monotonic() > end:
                raise AssertionError("no such log record; the log is:\n" + self.log_text()[-4000:])
            time.sleep(0.02)

    def record(self, response, timeout=3):
        rid = response if isinstance(response, str) else response.headers["x-request-id"]
        return self.wait_log(lambda r: r["request_id"] == rid and "endpoint" in r, timeout)
