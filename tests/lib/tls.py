"""
TLS from outside: certificates made by the openssl command, and Python's ssl as the client.

    ca = authority()                         # one a run: a root, an intermediate below it, and what they issue; files in ca.dir
    ca.issue("gate")                         # gate.pem (own certificate, then the intermediate) and gate.key; kind="ec" | "rsa" | "rsa1024" | "ed25519", days=-1: expired
    tls_gate(gate, "gate", ...)              # a gate with "127.0.0.1:0", "tls:127.0.0.1:0" and "redirect:127.0.0.1:0"
    tls_port(g), redirect_port(g)
    Door(g)                                  # stands in for a Gate in lib.raw: connect() gives a TLS socket; Door(g, ctx=client(...), session=...)
    client(version=..., ciphers=...)         # a verifying client context
"""
import functools
import socket
import ssl
import subprocess
import tempfile
import warnings
from pathlib import Path

NAME = "gate.test"


def openssl(*args, cwd=None, stdin=None, timeout=30, check=True):
    p = subprocess.run(["openssl", *map(str, args)], cwd=cwd, input=stdin, capture_output=True, timeout=timeout)
    assert not check or p.returncode == 0, f"openssl {args}: {p.stderr.decode()}"
    return p


class Authority:
    KINDS = {"ec": ["EC", "-pkeyopt", "ec_paramgen_curve:P-256"], "rsa": ["RSA", "-pkeyopt", "rsa_keygen_bits:2048"], "rsa1024": ["RSA", "-pkeyopt", "rsa_keygen_bits:1024"],
             "ed25519": ["ED25519"]}

    def __init__(self):
        self._tmp = tempfile.TemporaryDirectory(prefix="tollgate-tls-")
        self.dir = Path(self._tmp.name)
        self.key("root"), self.key("middle")
        openssl("req", "-x509", "-new", "-key", "root.key", "-subj", "/CN=test root", "-days", 30, "-out", "root.crt", "-addext", "keyUsage=critical,keyCertSign,cRLSign", cwd=self.dir)
        self.sign("middle", "/CN=test intermediate", "basicConstraints=critical,CA:true,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\n", "root", 30)
        self.root = self.dir / "root.crt"

    def key(self, name, kind="ec"):
        openssl("genpkey", "-algorithm", *self.KINDS[kind], "-out", f"{name}.key", cwd=self.dir)
        (self.dir / f"{name}.key").chmod(0o600)

    def sign(self, name, subject, extensions, by, days):
        (self.dir / f"{name}.ext").write_text(extensions)
        openssl("req", "-new", "-key", f"{name}.key", "-subj", subject, "-out", f"{name}.csr", cwd=self.dir)
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{by}.crt", "-CAkey", f"{by}.key", "-CAcreateserial", "-days", days, "-extfile", f"{name}.ext", "-out", f"{name}.crt",
                cwd=self.dir)

    def issue(self, name, kind="ec", days=20, chain=True):
        """NAME.pem and NAME.key; (certificate, key) as paths."""
        pem, key = self.dir / f"{name}.pem", self.dir / f"{name}.key"
        if not pem.exists():
            self.key(name, kind)
            self.sign(name, f"/CN={name}.{NAME}", f"subjectAltName=DNS:{NAME},DNS:localhost,IP:127.0.0.1,IP:::1\nextendedKeyUsage=serverAuth\n", "middle", days)
            pem.write_text((self.dir / f"{name}.crt").read_text() + ((self.dir / "middle.crt").read_text() if chain else ""))
        return pem, key


@functools.cache
def authority():
    return Authority()


def tls_gate(gate, name="gate", kind="ec", listen=("127.0.0.1:0", "tls:127.0.0.1:0", "redirect:127.0.0.1:0"), server=None, **kw):
    cert, key = authority().issue(name, kind)
    toml = {"server": {"tls_cert": str(cert), "tls_key": str(key), **(server or {})}, **kw.pop("toml", {})}
    return gate(listen=listen, toml=toml, **kw)


def port_of(g, kind):
    return next(int(a.rpartition(":")[2]) for a in g.addresses if a.startswith(kind + ":"))


def tls_port(g):
    return port_of(g, "tls")


def redirect_port(g):
    return port_of(g, "redirect")


def client(version=None, ciphers=None, alpn=None, verify=True):
    """version: an ssl.TLSVersion, the only one offered. Weak ones are offered too if asked for: what is tested is who refuses them."""
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ctx.options &= ~0x80  # SSL_OP_IGNORE_UNEXPECTED_EOF, which Python sets: an end without close_notify would look like one with it
    if verify:
        ctx.load_verify_locations(authority().root)
    else:
        ctx.check_hostname, ctx.verify_mode = False, ssl.CERT_NONE
    if version:
        if version < ssl.TLSVersion.TLSv1_2:
            ctx.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # that 1.0 and 1.1 are old is the point
            ctx.minimum_version = ctx.maximum_version = version
    if ciphers:
        ctx.set_ciphers(ciphers + ":@SECLEVEL=0")
    if alpn:
        ctx.set_alpn_protocols(alpn)
    return ctx


def bare(g, timeout=10, rcvbuf=None, port=None):
    """A TCP connection to the TLS port."""
    s = socket.socket()
    if rcvbuf:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
    s.settimeout(timeout)
    s.connect(("127.0.0.1", port or tls_port(g)))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


class Door:
    def __init__(self, g, ctx=None, session=None, rcvbuf=None, ragged=True, port=None):
        self.g, self.ctx, self.session, self.rcvbuf, self.ragged, self.port = g, ctx or client(), session, rcvbuf, ragged, port

    def connect(self, source=None, timeout=10, unix=None):
        """ragged=False: an end without close_notify raises ssl.SSLEOFError."""
        s = bare(self.g, timeout, self.rcvbuf, self.port)
        try:
            return self.ctx.wrap_socket(s, server_hostname=NAME, session=self.session, suppress_ragged_eofs=self.ragged)
        except BaseException:
            s.close()
            raise

    def get(self, path="/livez", timeout=10):
        """One request on a connection of its own: (text of the whole answer, the socket, closed by now: its version(), session, ... stay)."""
        with self.connect(timeout=timeout) as s:
            s.sendall(f"GET {path} HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n".encode())
            out = b""
            while got := s.recv(65536):
                out += got
            return out.decode(), Facts(s)


class Facts:
    def __init__(self, s):
        self.version, self.cipher, self.session, self.reused = s.version(), s.cipher()[0], s.session, s.session_reused
        self.certificate = s.getpeercert(True)


def metric(g, key, name):
    text = g.client(key).get("/metrics").text
    return next(float(x.rpartition(" ")[2]) for x in text.splitlines() if x.startswith(name + " "))
