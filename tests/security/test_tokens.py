"""
PyJWT as a second opinion on tokens: what we issue it reads, what it makes we judge as it does, or more strictly where this file says so (S2-02, S2-04, S2-08, S2-09; threats T-JWT).
The gate's own code runs in token_tool, which is built with the unit tests.
"""
import base64
import json
import os
import subprocess

import jwt
import pytest

from lib.gate import BINARY, ROOT, clean_env

KINDS = [BINARY.parent, ROOT / "build/asan", ROOT / "build/tsan"]
TOOL = next((d / "token_tool" for d in KINDS if (d / "token_tool").exists()), None)
SECRET = b"0123456789abcdef0123456789abcdef"
OTHER = b"fedcba9876543210fedcba9876543210"
NOW = 1700000000
CLAIMS = {"iss": "tollgate", "sub": "usr_1", "jti": "j1", "iat": NOW, "exp": NOW + 3600}
AT_NOW = {"verify_exp": False, "verify_iat": False, "verify_nbf": False}  # PyJWT has no clock that can be set
pytestmark = pytest.mark.skipif(TOOL is None, reason="token_tool is not built: sh scripts/build.sh asan")


def tool(*args, stdin=""):
    p = subprocess.run([TOOL, *map(str, args)], input=stdin, capture_output=True, text=True, timeout=60, env=clean_env())
    assert p.returncode == 0 and "Sanitizer" not in p.stderr, p.stderr
    return p.stdout.splitlines()


def issue(sub="usr_1", now=NOW, life=86400, secret=SECRET):
    return tool("issue", secret.hex(), sub, now, life)[0]


def verify(*tokens, now=NOW, secret=SECRET, previous=None):
    return tool("verify", secret.hex(), now, *([previous.hex()] if previous else []), stdin="".join(t + "\n" for t in tokens))


def make(claims=None, secret=SECRET, alg="HS256", headers=None, **changes):
    c = {**(CLAIMS if claims is None else claims), **changes}
    return jwt.encode({k: v for k, v in c.items() if v is not ...}, secret, algorithm=alg, headers=headers)


def part(text, i):
    raw = text.split(".")[i]
    return base64.urlsafe_b64decode(raw + "=" * (-len(raw) % 4))


def test_pyjwt_reads_what_we_issue():
    """S2-08, S2-09: three parts, eyJ..., HS256, exp as told; the signature holds under our secret and no other."""
    token = issue("usr_01H", NOW, 3600)
    assert token.startswith("eyJ") and token.count(".") == 2
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "JWT"}
    got = jwt.decode(token, SECRET, algorithms=["HS256"], issuer="tollgate", options={**AT_NOW, "require": ["exp", "iat", "sub", "jti", "iss"]})
    assert got == {"iss": "tollgate", "sub": "usr_01H", "jti": got["jti"], "iat": NOW, "exp": NOW + 3600} and len(got["jti"]) == 22
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(token, OTHER, algorithms=["HS256"], options=AT_NOW)
    for alg in ["HS384", "HS512"]:
        with pytest.raises(jwt.InvalidAlgorithmError):
            jwt.decode(token, SECRET, algorithms=[alg], options=AT_NOW)


def test_a_token_says_nothing_of_permissions():
    """What a user may do is looked up at each request: nothing of it stands in the token, and nothing that stands there counts."""
    assert set(json.loads(part(issue(), 1))) == {"iss", "sub", "jti", "iat", "exp"}
    assert verify(make(role="admin", permissions=["manage_users"])) == ["ok usr_1 j1 %d %d" % (NOW, NOW + 3600)]


def test_token_ids_are_never_the_same():
    assert len({json.loads(part(issue(), 1))["jti"] for _ in range(20)}) == 20


def test_we_read_what_pyjwt_makes():
    """S2-02: any issuer that holds the secret and keeps to the claims."""
    assert verify(make(), make(nbf=NOW), make(more={"a": [1, 2, {"b": None}]}), make(sub="a@b.example"), make(secret=OTHER), make(secret=OTHER)) == [
        "ok usr_1 j1 1700000000 1700003600"] * 3 + ["ok a@b.example j1 1700000000 1700003600"] + ["token signed by somebody else"] * 2


@pytest.mark.parametrize("seconds", [0, -60, 3659])
def test_clocks_may_differ_by_a_minute(seconds):
    assert verify(make(), now=NOW + seconds)[0].startswith("ok ")


@pytest.mark.parametrize("seconds, why", [(-61, "token from the future"), (3660, "expired token"), (10**6, "expired token")])
def test_and_by_no_more(seconds, why):
    """S2-04: past exp."""
    assert verify(make(), now=NOW + seconds) == [why]


@pytest.mark.parametrize("alg", ["HS384", "HS512"])
def test_other_algorithms_with_our_secret(alg):
    assert verify(make(alg=alg, secret=SECRET * 4)) == ["not a token"]  # the signature's length says so already


def test_none_and_confusion():
    """S2-04: alg none, with and without a signature; a public key as the secret; our secret under another algorithm's name."""
    none = make(secret=None, alg="none")
    signed_none = none.rsplit(".", 1)[0] + "." + make().rsplit(".", 1)[1]
    assert verify(none, signed_none) == ["not a token", "token signed by somebody else"]
    import hashlib
    import hmac
    for alg in ["none", "RS256", "ES256", "HS512", "hs256", "HS256 "]:
        head = base64.urlsafe_b64encode(json.dumps({"alg": alg, "typ": "JWT"}).encode()).rstrip(b"=") + b"." + make().split(".")[1].encode()
        mac = hmac.new(SECRET, head, hashlib.sha256).digest()
        text = (head + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()
        assert verify(text) == ["token with another algorithm or header"], alg
        with pytest.raises(jwt.PyJWTError):
            jwt.decode(text, SECRET, algorithms=["HS256"], options=AT_NOW)


@pytest.mark.parametrize("headers", [{"kid": "1"}, {"jku": "https://evil.example/"}, {"x5u": "https://evil.example/"}, {"crit": ["exp"]}, {"cty": "JWT"}, {"typ": "JWE"}],
                         ids=lambda h: next(iter(h)))
def test_headers_that_ask_for_more(headers):
    """Stricter than PyJWT: a header is {alg, typ} and nothing else."""
    assert verify(make(headers=headers)) == ["token with another algorithm or header"]


@pytest.mark.parametrize("changes, why", [
    ({"exp": ...}, "token with wrong claims"), ({"iat": ...}, "token with wrong claims"), ({"sub": ...}, "token with wrong claims"), ({"jti": ...}, "token with wrong claims"),
    ({"iss": ...}, "token with wrong claims"), ({"iss": "somebody"}, "token of another issuer"), ({"exp": NOW + 0.5}, "token with wrong claims"),
    ({"exp": 2**62}, "token with wrong claims"), ({"exp": 2**64}, "malformed token"), ({"exp": -1}, "token with wrong claims"), ({"exp": 1e308}, "token with wrong claims"),
    ({"exp": NOW + 2592001}, "token with wrong claims"), ({"aud": "tollgate"}, "token with wrong claims"), ({"nbf": NOW + 61}, "token from the future"),
    ({"sub": "a b"}, "token with wrong claims"), ({"sub": "x" * 65}, "token with wrong claims"), ({"sub": "\0"}, "malformed token"),
], ids=str)
def test_claims(changes, why):
    assert verify(make(**changes)) == [why]


def test_every_bit_counts():
    """S2-04: flip one character, anywhere: PyJWT and we refuse it."""
    token = make()
    bad = [token[:i] + ("A" if c != "A" else "B") + token[i + 1:] for i, c in enumerate(token)]
    assert all(r in ("token signed by somebody else", "not a token") for r in verify(*bad))
    accepted = 0
    for b in bad:
        try:
            jwt.decode(b, SECRET, algorithms=["HS256"], options=AT_NOW)
            accepted += 1
        except jwt.PyJWTError:
            pass
    assert accepted == 0


def test_a_secret_of_any_bytes_and_a_rotation():
    odd = bytes(range(1, 65))
    assert verify(make(secret=odd), secret=odd)[0].startswith("ok ")
    assert verify(make(), make(secret=OTHER), secret=OTHER, previous=SECRET) == ["ok usr_1 j1 1700000000 1700003600"] * 2
    assert verify(make(), secret=OTHER) == ["token signed by somebody else"]


def test_eight_kibibytes_and_no_more():
    size = 5900
    while len(make(pad="x" * size)) <= 8192:
        size += 1
    assert verify(make(pad="x" * (size - 1)), make(pad="x" * size)) == ["ok usr_1 j1 1700000000 1700003600", "token over 8 KiB"]


@pytest.mark.release_only
def test_what_a_verification_costs():
    """The header's figures, with room: known 1.6 us, new 35, forged 1.3. The tool is an instrumented build here, so the bound is wide; `token_tool time` prints them."""
    known, fresh, forged = map(float, tool("time", SECRET.hex(), NOW, 200, stdin=make() + "\n")[0].split())
    assert known < 100 and fresh < 2000 and forged < 100 and os.cpu_count()
