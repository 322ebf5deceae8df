"""tls_cert, tls_key, tls: and redirect: entries: what is wrong is said before anything is listened on, by `config check` in the same words, and by a reload that then changes nothing (S2-62)."""
import os
import ssl
import time

import pytest

from lib.gate import ADMIN, free_port, model, run_cli
from lib.raw import SLOW, Stream, until
from lib.tls import Door, authority, client, metric, openssl, redirect_port, tls_gate, tls_port


def pem(name, kind="ec", **kw):
    return authority().issue(name, kind, **kw)


def write(here, listen=("tls:127.0.0.1:0",), cert=None, key=None, **server):
    """tollgate.toml with the option tls_cert in line 3 and tls_key in line 4."""
    lines = ["[server]", f"listen = [{', '.join(repr(x) for x in listen)}]".replace("'", '"')]
    lines += [f'{k} = "{v}"' for k, v in (("tls_cert", cert), ("tls_key", key)) if v]
    lines += [f"{k} = {v}" for k, v in server.items()]
    (here / "tollgate.toml").write_text("\n".join(lines) + "\n")


@pytest.fixture
def here(tmp_path):
    """A folder with good files, and bad ones of every kind."""
    cert, key = pem("gate")
    other, other_key = pem("other")
    for name, data in {"good.pem": cert.read_bytes(), "good.key": key.read_bytes(), "other.key": other_key.read_bytes(), "other.pem": other.read_bytes(), "empty": b"",
                       "garbage": os.urandom(3000), "text": b"not a certificate\n", "big": b"a" * 300000, "cut.pem": cert.read_bytes()[:-200], "cut.key": key.read_bytes()[:-80],
                       "second_cut.pem": (authority().dir / "gate.crt").read_bytes() + (authority().dir / "middle.crt").read_bytes()[:300] + b"\n-----END CERTIFICATE-----\n",
                       "many.pem": cert.read_bytes() * 9, "chain_first.pem": (authority().dir / "middle.crt").read_bytes() + (authority().dir / "gate.crt").read_bytes(),
                       "both.pem": key.read_bytes() + cert.read_bytes()}.items():
        (tmp_path / name).write_bytes(data)
        (tmp_path / name).chmod(0o600)
    weak, weak_key = pem("weak", "rsa1024")
    (tmp_path / "weak.pem").write_bytes(weak.read_bytes())
    (tmp_path / "weak.key").write_bytes(weak_key.read_bytes())
    (tmp_path / "weak.key").chmod(0o600)
    openssl("pkey", "-in", "good.key", "-aes256", "-passout", "pass:secret", "-out", "locked.key", cwd=tmp_path)
    (tmp_path / "dir").mkdir()
    return tmp_path


FAULTS = [
    # cert, key, option, line, file, what
    ("absent.pem", "good.key", "tls_cert", 3, "absent.pem", "cannot open: No such file"),
    ("good.pem", "absent.key", "tls_key", 4, "absent.key", "cannot open: No such file"),
    ("dir", "good.key", "tls_cert", 3, "dir", "cannot read: Is a directory"),
    ("empty", "good.key", "tls_cert", 3, "empty", "holds no certificate in PEM form"),
    ("garbage", "good.key", "tls_cert", 3, "garbage", "holds no certificate in PEM form"),
    ("text", "good.key", "tls_cert", 3, "text", "holds no certificate in PEM form"),
    ("good.key", "good.key", "tls_cert", 3, "good.key", "holds no certificate in PEM form"),
    ("big", "good.key", "tls_cert", 3, "big", "over 262144 bytes"),
    ("cut.pem", "good.key", "tls_cert", 3, "cut.pem", "certificate 2 cannot be read"),
    ("second_cut.pem", "good.key", "tls_cert", 3, "second_cut.pem", "certificate 2 cannot be read"),
    ("many.pem", "good.key", "tls_cert", 3, "many.pem", "more than 16 certificates"),
    ("chain_first.pem", "good.key", "tls_cert", 3, "chain_first.pem", "own certificate must be the first"),
    ("weak.pem", "weak.key", "tls_cert", 3, "weak.pem", "key too small"),
    ("good.pem", "other.key", "tls_key", 4, "other.key", "is not the key of the certificate in good.pem"),
    ("good.pem", "empty", "tls_key", 4, "empty", "holds no private key in PEM form"),
    ("good.pem", "garbage", "tls_key", 4, "garbage", "holds no private key in PEM form"),
    ("good.pem", "good.pem", "tls_key", 4, "good.pem", "holds no private key in PEM form"),
    ("good.pem", "cut.key", "tls_key", 4, "cut.key", "private key cannot be read"),
    ("good.pem", "locked.key", "tls_key", 4, "locked.key", "protected by a passphrase"),
]


@pytest.mark.parametrize("cert,key,option,line,file,what", FAULTS, ids=[f"{a} {b}" for a, b, *_ in FAULTS])
def test_bad_files(here, cert, key, option, line, file, what):
    """A start with them ends with 2 and one sentence that names option, line, file and fault; `config check` says the same."""
    write(here, cert=cert, key=key)
    for command in (["serve"], ["config", "check"]):
        p = run_cli(*command, cwd=here)
        assert p.returncode == 2, p.stderr
        said = [x.removeprefix("tollgate: ") for x in p.stderr.splitlines()]
        assert len(said) == 1 and f"[server] {option} (tollgate.toml:{line}): {file}: " in said[0] and what in said[0], p.stderr
        assert "secret" not in p.stderr


@pytest.mark.parametrize("listen,cert,key,words", [
    (["tls:127.0.0.1:0"], None, None, ["listen", "tls:127.0.0.1:0", "needs tls_cert and tls_key"]),
    (["tls:127.0.0.1:0"], "good.pem", None, ["tls_cert (tollgate.toml:3) is set, tls_key is not"]),
    (["127.0.0.1:0"], None, "good.key", ["tls_key (tollgate.toml:3) is set, tls_cert is not"]),
    (["127.0.0.1:0", "redirect:127.0.0.1:0"], "good.pem", "good.key", ["redirect:", "there is none"]),
    (["tls:unix:/tmp/x"], "good.pem", "good.key", ["tls:unix:/tmp/x", "not a Unix socket"]),
    (["tls:127.0.0.1"], "good.pem", "good.key", ["tls:127.0.0.1", "must be ADDRESS:PORT"]),
    (["tls:gate.test:443"], "good.pem", "good.key", ["the address must be a number"]),
    (["tls:127.0.0.1:8443", "redirect:127.0.0.1:8443"], "good.pem", "good.key", ["redirect:127.0.0.1:8443", "given twice"]),
    (["tls:tls:127.0.0.1:8443"], "good.pem", "good.key", ["tls:tls:"]),
])
def test_bad_entries(here, listen, cert, key, words):
    write(here, listen, cert, key)
    for command in (["serve"], ["config", "check"]):
        p = run_cli(*command, cwd=here)
        assert p.returncode == 2 and all(w in p.stderr for w in words), p.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_key(here):
    (here / "good.key").chmod(0)
    write(here, cert="good.pem", key="good.key")
    p = run_cli("serve", cwd=here)
    assert p.returncode == 2 and "good.key: cannot open: Permission denied" in p.stderr


def test_check_tells_what_it_found(here):
    """A good one: whose it is and until when; what each entry is for."""
    write(here, ["127.0.0.1:0", "tls:127.0.0.1:0", "redirect:0.0.0.0:0"], "both.pem", "both.pem")
    p = run_cli("config", "check", cwd=here)
    assert p.returncode == 0 and p.stderr == "", p.stderr
    assert "Certificate: both.pem: gate.gate.test, valid until 20" in p.stdout and "sends callers to https://" in p.stdout
    write(here, ["127.0.0.1:0"], "good.pem", "good.key")
    assert "not used: no listen entry begins with tls:" in run_cli("config", "check", cwd=here).stdout


@pytest.mark.parametrize("mode,warned", [(0o600, False), (0o400, False), (0o640, True), (0o644, True), (0o660, True)])
def test_key_that_others_can_read(here, gate, mode, warned):
    """The issue: a warning naming file and mode; in profile production it stops the start."""
    (here / "good.key").chmod(mode)
    write(here, cert="good.pem", key="good.key")
    p = run_cli("config", "check", cwd=here)
    assert p.returncode == 0 and (f"good.key: others can read or write it (mode {mode:04o})" in p.stderr) == warned, p.stderr
    (here / "tollgate.toml").write_text('profile = "production"\n' + (here / "tollgate.toml").read_text() + '\n[artifacts]\nurl = "file:artifacts"\n')
    p = run_cli("config", "check", cwd=here)
    assert (f"tls_key (tollgate.toml:5): good.key: others can read or write it (mode {mode:04o})" in p.stderr) == warned, p.stderr
    assert p.returncode == (2 if warned else 0) or not warned, p.stderr


def test_warning_at_the_start(gate, tmp_path):
    """Said on stderr and in the log, once; it runs."""
    cert, key = pem("gate")
    open_key = tmp_path / "open.key"
    open_key.write_bytes(key.read_bytes())
    open_key.chmod(0o644)
    g = tls_gate(gate, server={"tls_key": str(open_key)})
    assert g.stderr().count(f"{open_key}: others can read or write it (mode 0644)") == 1
    g.wait_log(lambda r: r["event"] == "tls.warning")
    assert Door(g).get()[0].startswith("HTTP/1.1 200 ")


def test_expired(gate):
    """Loudly, but it serves: who replaces a certificate late wants the rest to run. Clients that verify refuse it."""
    cert, key = pem("expired", days=-1)
    g = tls_gate(gate, "expired")
    assert "THE CERTIFICATE HAS EXPIRED on 20" in g.stderr()
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        Door(g).connect()
    assert Door(g, client(verify=False)).get()[0].startswith("HTTP/1.1 200 ")
    p = run_cli("config", "check", cwd=g.dir)
    assert p.returncode == 0 and "THE CERTIFICATE HAS EXPIRED" in p.stderr


@pytest.mark.parametrize("kind", ["ec", "rsa", "ed25519"])
def test_kinds_of_keys(gate, kind):
    g = tls_gate(gate, f"kind-{kind}", kind)
    assert Door(g).get()[0].startswith("HTTP/1.1 200 ")


def test_addresses_are_told(gate):
    """As they are written, the port that 0 became in place."""
    g = tls_gate(gate)
    assert [a.rpartition(":")[0] for a in g.addresses] == ["127.0.0.1", "tls:127.0.0.1", "redirect:127.0.0.1"]
    assert {r["address"] for r in g.log() if r["event"] == "gate.listening"} == set(g.addresses)


def test_also(gate, here):
    """serve --also takes them too; what they need is asked for; one that is taken is passed over."""
    cert, key = pem("gate")
    g = tls_gate(gate, listen=("127.0.0.1:0",), args=["--also", "tls:127.0.0.1:0", "--also", "redirect:127.0.0.1:0"])
    assert Door(g).get()[0].startswith("HTTP/1.1 200 ") and redirect_port(g)
    taken = tls_port(g)
    h = tls_gate(gate, listen=("127.0.0.1:0",), args=["--also", f"tls:127.0.0.1:{taken}"])
    assert f"skipping tls:127.0.0.1:{taken}: it is taken" in h.stderr()
    (here / "tollgate.toml").write_text('[server]\nlisten = ["127.0.0.1:0"]\n')
    p = run_cli("serve", "--also", "tls:127.0.0.1:0", cwd=here)
    assert p.returncode == 1 and "tls_cert and tls_key are not set" in p.stderr, p.stderr
    write(here, ["127.0.0.1:0"], "good.pem", "good.key")
    p = run_cli("serve", "--also", "redirect:127.0.0.1:0", cwd=here)
    assert p.returncode == 1 and "there is no tls: address to send callers to" in p.stderr, p.stderr
    p = run_cli("run", "--listen", "tls:127.0.0.1:0", "--", "sleep", "{port}", cwd=here)
    assert p.returncode == 2 and "`tollgate run` has no certificate" in p.stderr, p.stderr


def test_environment(gate):
    """As every option: TOLLGATE_SERVER_TLS_CERT; LOAD_BALANCER_PORT keeps the prefix."""
    cert, key = pem("gate")
    port = free_port()
    g = gate(listen=("tls:127.0.0.1:0",), env={"TOLLGATE_SERVER_TLS_CERT": str(cert), "TOLLGATE_SERVER_TLS_KEY": str(key), "LOAD_BALANCER_PORT": str(port)})
    assert g.addresses == [f"tls:127.0.0.1:{port}"]
    assert Door(g).get()[0].startswith("HTTP/1.1 200 ")


# ---- reload ----

@pytest.fixture
def own(tmp_path):
    """cert and key of a gate's own, to be replaced; use(name) puts those of that name there."""
    class Own:
        cert, key = tmp_path / "tls.pem", tmp_path / "tls.key"

        def put(self, path, data):
            new = path.with_suffix(".new")
            new.write_bytes(data)
            new.chmod(0o600)
            os.rename(new, path)

        def use(self, name):
            cert, key = pem(name)
            self.put(self.cert, cert.read_bytes()), self.put(self.key, key.read_bytes())
            return ssl.PEM_cert_to_DER_cert(cert.read_text()[:cert.read_text().index("-----END CERTIFICATE-----") + 25])
    return Own()


def test_reload(gate, worker, own):
    """S2-62: replaced files and SIGHUP: new connections get the new certificate on every loop, a stream and an idle connection that began before go on."""
    old = own.use("gate")
    w = worker()
    w.behave(chunks=40, pace=0.05)
    g = tls_gate(gate, server={"tls_cert": str(own.cert), "tls_key": str(own.key)}, models=[model("m", w)])
    door = Door(g)
    with Stream(door) as stream, door.connect() as idle:
        stream.event()
        assert idle.getpeercert(True) == old
        new = own.use("other")
        assert Door(g).get()[1].certificate == old  # not before the signal
        assert g.reload()["event"] == "config.reloaded"
        for _ in range(12):
            assert Door(g).get()[1].certificate == new
        idle.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert idle.recv(65536).startswith(b"HTTP/1.1 200 ")
        events = stream.rest()
        assert stream.whole and events[-1] == b"data: [DONE]" and len(events) >= 40
    loaded = [r for r in g.log() if r["event"] == "tls.loaded"]
    assert [r["certificate"].split(",")[0] for r in loaded] == ["gate.gate.test", "other.gate.test"]


@pytest.mark.parametrize("bad,what", [("cert garbage", "holds no certificate"), ("key of another", "is not the key of the certificate"), ("cert gone", "cannot open"), ("key half written", "cannot be read")])
def test_bad_reload(gate, own, bad, what):
    """S2-62, threats 22: nothing changes, and it is said why; the next good one is taken."""
    old = own.use("gate")
    g = tls_gate(gate, server={"tls_cert": str(own.cert), "tls_key": str(own.key)})
    if bad == "cert garbage":
        own.put(own.cert, b"garbage")
    elif bad == "key of another":
        own.put(own.key, pem("other")[1].read_bytes())
    elif bad == "cert gone":
        own.cert.unlink()
    else:
        own.put(own.key, own.key.read_bytes()[:100] + b"\n-----END PRIVATE KEY-----\n")
    r = g.reload()
    assert r["event"] == "config.reload_failed" and what in r["why"] and "[server] tls_" in r["why"]
    until(lambda: "the configuration stays as it was" in g.stderr() and what in g.stderr(), 3)
    assert metric(g, ADMIN, "tollgate_reloads_failed_total") == 1
    for _ in range(6):
        assert Door(g).get()[1].certificate == old
    new = own.use("other")
    assert g.reload()["event"] == "config.reloaded"
    assert Door(g).get()[1].certificate == new


def test_reload_without_a_certificate(gate, own):
    """A configuration that has none any more: its addresses need a restart to go, so they keep what they have; said."""
    old = own.use("gate")
    g = tls_gate(gate, server={"tls_cert": str(own.cert), "tls_key": str(own.key)})
    g.listen = ["127.0.0.1:0"]
    g.write_config(toml={})
    assert g.reload()["event"] == "config.reloaded"
    until(lambda: "keep the certificate they have until a restart" in g.stderr(), 3)
    g.wait_log(lambda r: r["event"] == "config.needs_restart" and "server.listen" in r["options"])
    for _ in range(4):
        assert Door(g).get()[1].certificate == old
        assert g.reload()["event"] == "config.reloaded"


def test_reload_under_load(gate, own):
    """S2-62: 20 reloads while clients come and go: no connection is lost, each sees a whole certificate of the two."""
    import threading
    ders = {own.use("gate"), own.use("other")}
    g = tls_gate(gate, server={"tls_cert": str(own.cert), "tls_key": str(own.key)})
    stop, seen, faults = threading.Event(), set(), []

    def come_and_go():
        while not stop.is_set():
            try:
                text, facts = Door(g).get()
                seen.add(facts.certificate)
                if not text.startswith("HTTP/1.1 200 "):
                    faults.append(text)
            except OSError as e:
                faults.append(repr(e))
    threads = [threading.Thread(target=come_and_go, daemon=True) for _ in range(4)]
    for t in threads:
        t.start()
    for i in range(20):
        own.use(("gate", "other")[i % 2])
        assert g.reload(timeout=10 * SLOW)["event"] == "config.reloaded"
        time.sleep(0.02)
    stop.set()
    for t in threads:
        t.join(20)
    assert not faults and seen == ders, faults[:3]


def test_key_file_edit_keeps_the_certificate(gate, own):
    """A changed api_keys.json makes a new snapshot, not a new certificate: the files may be gone by then."""
    old = own.use("gate")
    g = tls_gate(gate, server={"tls_cert": str(own.cert), "tls_key": str(own.key)}, api_keys={"valid_keys": []})
    own.cert.unlink(), own.key.unlink()
    g.write_keys({"valid_keys": ["a-key-that-is-long-enough-1"]})
    g.wait_log(lambda r: r["event"] == "keys.loaded")
    assert Door(g).get()[1].certificate == old
