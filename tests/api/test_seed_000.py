"""Document 000, "Lock Down Inference API": who gets in, which 401, which 500. The nine paths are the document's own list of what must not be open."""
import json
import re
import socket

import pytest

from lib.gate import ADMIN, READ, ROOT, model

ADMIN_UNSET = "INFERENCE_ADMIN_KEY not configured"
ADMIN_401 = "Invalid or missing admin API key"
READ_UNSET = "No API keys configured"
READ_401 = "Invalid or missing API key"

NINE = [("POST", "/models/register"), ("POST", "/models/set_active"), ("POST", "/models/reload"), ("POST", "/data_gen/jobs"), ("POST", "/eval/jobs"),
        ("GET", "/jobs"), ("GET", "/gpu"), ("GET", "/system"), ("POST", "/settings/power_profile")]
ADMIN_ROUTES = NINE + [("GET", "/settings/power_profile"), ("GET", "/jobs/1"), ("GET", "/eval/jobs/1"), ("GET", "/data_gen/jobs/1"), ("GET", "/settings/x"),
                       ("DELETE", "/jobs/1"), ("POST", "/jobs")]
READ_ROUTES = [("GET", "/models/info"), ("GET", "/models"), ("GET", "/models/anything"), ("POST", "/v1/chat/completions"), ("GET", "/v1/models")]
CHAT = {"model": "qwen3", "messages": [{"role": "user", "content": "hello"}]}


def routes_def():
    """(method, path, guard) of every row of the route table the binary was built from."""
    text = (ROOT / "src" / "tables" / "routes.def").read_text()
    rows = re.findall(r'^ROUTE\((\w+), "([^"]+)", (PUBLIC|ANY|P\([^)]*\)(?:\s*\|\s*P\([^)]*\))*)', text, re.M)
    assert len(rows) == len(re.findall(r"^ROUTE\(", text, re.M)), "the test does not understand a row of routes.def"
    return rows


def concrete(path):
    return re.sub(r"\{\w+\}", "x1", path).replace("*", "zz")


def protected():
    return [("POST" if m == "ANYMETHOD" else m, concrete(p)) for m, p, guard in routes_def() if guard != "PUBLIC"]


def call(client, method, path, **kw):
    if path == "/v1/chat/completions" and method == "POST":
        kw.setdefault("json", CHAT)
    return client.request(method, path, **kw)


@pytest.fixture(scope="module")
def both(module_gate, module_worker):
    return module_gate(models=[model("qwen3", module_worker())], env={"TOLLGATE_API_KEYS": "list-key-0123456789abcdef"})


@pytest.fixture(scope="module")
def unset(module_gate, module_worker):
    return module_gate(models=[model("qwen3", module_worker())], keys=False)


@pytest.fixture(scope="module")
def only_read(module_gate, module_worker):
    return module_gate(models=[model("qwen3", module_worker())], keys="read")


@pytest.fixture(scope="module")
def only_admin(module_gate, module_worker):
    return module_gate(models=[model("qwen3", module_worker())], keys="admin")


@pytest.mark.parametrize("key", [None, "x", ADMIN])
def test_admin_routes_without_an_admin_key_configured(unset, key):
    """S0-04, S0-48: 500 with the exact text, whatever is sent."""
    c = unset.client(key)
    for method, path in ADMIN_ROUTES:
        r = call(c, method, path)
        assert (r.status_code, r.json()["detail"]) == (500, ADMIN_UNSET), (method, path, r.text)
        assert r.json()["error"]["code"] == "INTERNAL_ERROR"


@pytest.mark.parametrize("key", [None, "x"])
def test_read_routes_without_any_key_configured(unset, key):
    """S0-08, S0-48."""
    c = unset.client(key)
    for method, path in READ_ROUTES:
        r = call(c, method, path)
        assert (r.status_code, r.json()["detail"]) == (500, READ_UNSET), (method, path, r.text)


def test_only_read_configured(only_read):
    """S0-13, S0-03, S0-04: admin routes stay 500 even for the read key; read routes are 401 or 200."""
    for key in (None, "x", READ):
        c = only_read.client(key)
        for method, path in ADMIN_ROUTES:
            r = call(c, method, path)
            assert (r.status_code, r.json()["detail"]) == (500, ADMIN_UNSET), (key, method, path, r.text)
    assert only_read.client().get("/models/info").status_code == 401
    assert only_read.client("x").get("/models/info").json()["detail"] == READ_401
    assert only_read.client(READ).get("/models/info").status_code == 200
    assert only_read.client(READ).post("/v1/chat/completions", json=CHAT).status_code == 200


def test_only_admin_configured(only_admin):
    """S0-12, S0-11: reads work with the admin key; an empty header never equals the unset read key."""
    assert only_admin.client(ADMIN).get("/models/info").status_code == 200
    for headers in ({}, {"X-API-Key": ""}, {"Authorization": ""}, {"Authorization": "Bearer"}, {"Cookie": "api_key="}):
        r = only_admin.client(headers=headers).get("/models/info")
        assert (r.status_code, r.json()["detail"]) == (401, READ_401), headers
    assert only_admin.raw(b"GET /models/info HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer  \r\nConnection: close\r\n\r\n").startswith(b"HTTP/1.1 401 ")
    status, _, body = only_admin.curl("-H", "X-API-Key;", only_admin.url + "/models/info")
    assert status == 401 and READ_401 in body


@pytest.mark.parametrize("key", [None, "", "x", ADMIN[:-1], ADMIN + "x", ADMIN.lower(), READ])
def test_admin_routes_refuse(both, key):
    """S0-05, S0-06, S0-07, S0-14, S0-25, S0-29 to S0-31, S0-34, S0-49: 401 with one text for missing, wrong and read keys."""
    c = both.client(key)
    for method, path in ADMIN_ROUTES:
        r = call(c, method, path)
        assert (r.status_code, r.json()["detail"]) == (401, ADMIN_401), (method, path, r.text)
        assert "Not authenticated" not in r.text
        assert r.headers["www-authenticate"].startswith("Bearer realm=")


@pytest.mark.parametrize("key", [None, "", "x", READ[:-1], READ + "x"])
def test_read_routes_refuse(both, key):
    """S0-09, S0-17, S0-18, S0-49."""
    c = both.client(key)
    for method, path in READ_ROUTES:
        r = call(c, method, path)
        assert (r.status_code, r.json()["detail"]) == (401, READ_401), (method, path, r.text)


@pytest.mark.parametrize("key", [READ, ADMIN])
def test_read_routes_open(both, key):
    """S0-10, S0-11, S0-17, S0-18."""
    c = both.client(key)
    assert c.get("/models/info").status_code == 200 and isinstance(c.get("/models/info").json(), dict)
    assert "qwen3" in c.get("/models").text
    r = c.post("/v1/chat/completions", json=CHAT)
    assert r.status_code == 200 and r.json()["choices"][0]["message"]["content"] == "hello"


def test_every_carrier(both):
    """S0-01, S0-02, C-03: X-API-Key, Bearer, raw Authorization and the cookie; the first present decides."""
    for headers in ({"X-API-Key": ADMIN}, {"x-api-key": ADMIN}, {"Authorization": "Bearer " + ADMIN}, {"Authorization": "bearer " + ADMIN}, {"Authorization": ADMIN}):
        assert both.client(headers=headers).post("/models/reload").status_code == 200, headers
    assert both.client(headers={"Cookie": "a=b; api_key=" + READ}).get("/models/info").status_code == 200
    assert both.client(headers={"Authorization": "Bearer wrong", "X-API-Key": ADMIN}).post("/models/reload").status_code == 401
    assert both.client(headers={"X-API-Key": "wrong", "Cookie": "api_key=" + READ}).get("/models/info").status_code == 401


def test_cookie_needs_same_origin_for_unsafe_methods(both):
    """S4-26's guard as DESIGN.md states it: a cookie on POST counts only with a same-origin Origin or Sec-Fetch-Site."""
    cookie = {"Cookie": "api_key=" + READ}
    own = both.url
    assert both.client(headers=cookie).post("/v1/chat/completions", json=CHAT).status_code in (401, 403)
    assert both.client(headers={**cookie, "Origin": "https://evil.example"}).post("/v1/chat/completions", json=CHAT).status_code in (401, 403)
    assert both.client(headers={**cookie, "Sec-Fetch-Site": "cross-site"}).post("/v1/chat/completions", json=CHAT).status_code in (401, 403)
    assert both.client(headers={**cookie, "Origin": own}).post("/v1/chat/completions", json=CHAT).status_code == 200
    assert both.client(headers={**cookie, "Sec-Fetch-Site": "same-origin"}).post("/v1/chat/completions", json=CHAT).status_code == 200


@pytest.mark.parametrize("origin,good", [("http://127.0.0.1:{port}", True), ("HTTP://127.0.0.1:{port}", True), ("http://127.0.0.1", False), ("http://127.0.0.1:1", False), ("https://127.0.0.1:{port}", False),
                                         ("http://localhost:{port}", False), ("http://127.0.0.1:{port}@evil.example", False), ("http://evil.example@127.0.0.1:{port}", False), ("http://127.0.0.1:{port}/", False),
                                         ("ftp://127.0.0.1:{port}", False), ("null", False), ("*", False), ("", False), ("127.0.0.1:{port}", False)])
def test_a_cookie_compares_the_whole_origin(both, origin, good):
    """S4-26: scheme, host and port: another port of this host is another page. Browsers send no Sec-Fetch-Site over plain HTTP to other machines, so Origin is what decides there."""
    r = both.client(headers={"Cookie": "api_key=" + READ, "Origin": origin.format(port=both.port)}).post("/v1/chat/completions", json=CHAT)
    assert r.status_code == (200 if good else 403), r.text


def test_of_two_origins_neither_is_believed(both):
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{p}\r\nCookie: api_key={k}\r\nOrigin: http://127.0.0.1:{p}\r\n{more}Content-Type: application/json\r\nConnection: close\r\nContent-Length: {n}\r\n\r\n{b}"
    body = json.dumps(CHAT)
    for more, status in (("", b" 200 "), ("Origin: https://evil.example\r\n", b" 403 "), ("Origin: http://127.0.0.1:{p}\r\n", b" 403 ")):
        text = head.format(p=both.port, k=READ, n=len(body), b=body, more=more.format(p=both.port))
        assert status in both.raw(text.encode()).split(b"\r\n")[0], more


def test_a_cookie_behind_a_tls_proxy(gate, worker):
    """What the proxy's own connection was, a trusted one says in X-Forwarded-Proto; nobody else may. Default ports are the same as none."""
    def ask(g, origin, *proto):
        headers = [("Host", "gate.example"), ("Cookie", "api_key=" + READ), ("Origin", origin)] + [("X-Forwarded-Proto", p) for p in proto]
        return g.client(headers=headers).post("/v1/chat/completions", json=CHAT).status_code
    g = gate(models=[model(CHAT["model"], worker())], toml={"server": {"trusted_proxies": ["127.0.0.1"]}})
    assert ask(g, "https://gate.example", "https") == ask(g, "https://gate.example:443", "https") == ask(g, "https://gate.example", "http, https") == 200
    assert ask(g, "http://gate.example") == ask(g, "http://gate.example:80", "http") == 200
    for origin, *proto in (("https://gate.example",), ("https://gate.example", "https, http"), ("https://gate.example", "https", "http"), ("http://gate.example", "https"), ("https://gate.example:8443", "https")):
        assert ask(g, origin, *proto) == 403, (origin, proto)
    assert ask(gate(models=[model(CHAT["model"], worker())]), "https://gate.example", "https") == 403, "nobody is trusted here"


def test_managed_keys_get_403_on_admin_routes(both):
    """C-06: only INFERENCE_READ_KEY gets 000's 401 there; any other valid key is told 403."""
    for method, path in NINE:
        r = both.client("list-key-0123456789abcdef").request(method, path)
        assert (r.status_code, r.json()["code"]) == (403, "PERMISSION_DENIED"), (path, r.text)


def test_writes_under_models_need_admin(both):
    """S0-19: every method but reads, on known and unknown sub-paths, before any 404."""
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        for path in ("/models/reload", "/models/x", "/models/x/y", "/models/info"):
            r = both.client(READ).request(method, path)
            assert (r.status_code, r.json()["detail"]) == (401, ADMIN_401), (method, path, r.text)
            assert both.client().request(method, path).status_code == 401
    assert both.client(ADMIN).put("/models/x").status_code == 404
    assert both.client(ADMIN).delete("/models/x").status_code == 404


def test_later_routes_say_so(both):
    """S0-20, S0-21, S0-23 to S0-32 for now: the permission is checked, then one sentence with 501."""
    for method, path in [x for x in NINE if x[1] != "/models/reload"]:
        r = both.client(ADMIN).request(method, path)
        assert (r.status_code, r.json()["code"]) == (501, "NOT_IMPLEMENTED"), (path, r.text)
        assert r.json()["detail"]


def test_reload(both):
    """S0-22, S0-38, C-51: no body and no Content-Type is a 200; so is an empty JSON object."""
    assert both.client(ADMIN).post("/models/reload").status_code == 200
    assert both.client(ADMIN).post("/models/reload", json={}).status_code == 200
    status, headers, body = both.curl("-H", f"X-API-Key: {ADMIN}", both.url + "/models/reload", "-X", "POST")
    assert status == 200 and headers["content-type"].startswith("application/json") and body


def test_nothing_is_open_by_default(both, unset):
    """S0-33: a path nobody named is 401 without a key, 404 with one, and never 200 or 404 to strangers, in any spelling."""
    for path in ("/anything", "/v1", "/v1/", "/v1/chat/completions/x", "/models%2Finfo", "/health/x", "/HEALTH", "//health", "/docs/x", "/api/v1/zzz", "/health/../models/info",
                 "/%68ealth/../gpu", "/health;x", "/health%00"):
        wire = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()
        assert both.raw(wire).split()[1] in (b"401", b"400"), path
        assert unset.raw(wire).split()[1] in (b"401", b"400", b"500"), path
    assert both.client().get("/anything").status_code == 401
    assert both.client(READ).get("/anything").status_code == 404
    assert both.client(READ).get("/anything").json()["code"] == "NOT_FOUND"


def test_every_protected_route_of_the_table(both, unset):
    """S0-46, S0-48, S0-49: walks the table the binary was built from; without a key no row answers, whatever its state."""
    rows = protected()
    assert len(rows) >= 30
    for method, path in rows:
        wire = f"{method} {path} HTTP/1.1\r\nHost: gate.example\r\nConnection: close\r\n\r\n".encode()  # a foreign Host: /infer has no local exemption then
        assert both.raw(wire).startswith(b"HTTP/1.1 401 "), (method, path)
        assert unset.raw(wire).split()[1] in (b"401", b"500"), (method, path)


def test_public_routes_are_exactly_the_stated_ones():
    """S3-36 as DESIGN.md widens it: no row becomes public unseen."""
    stated = {"/", "/health", "/livez", "/readyz", "/docs", "/redoc", "/openapi.json", "/login", "/api/v1/auth/login", "/assets/*"}
    assert {p for _, p, guard in routes_def() if guard == "PUBLIC"} <= stated


def test_health_is_always_200(both, unset, only_read):
    """S0-16, S0-39, C-02."""
    for g in (both, unset, only_read):
        for key in (None, "x", "", READ):
            r = g.client(key).get("/health")
            assert r.status_code == 200, r.text
            assert r.json()["status"] in ("healthy", "degraded", "unhealthy") and isinstance(r.json()["checks"]["database"], str)
        assert g.client().get("/livez").status_code == 200
    assert both.client().get("/readyz").status_code == 200
    assert both.client().get("/").status_code == 200


def test_health_tells_strangers_nothing(both):
    """C-02: GPU and model names are what document 000 wants hidden."""
    assert "qwen3" not in both.client().get("/health").text and "qwen3" not in both.client().get("/").text


def test_local_callers_have_no_exemption_here(both):
    """S0-36, C-04: 127.0.0.1 is nobody on these routes."""
    for method, path in NINE:
        assert both.client().request(method, path).status_code == 401
        assert both.external().request(method, path).status_code == 401


def test_literal_curls(both):
    """S0-35, S0-37, S0-38, S0-39: the document's three commands; --connect-to stands for its LAN host."""
    to = ["--connect-to", f"::127.0.0.1:{both.port}"]
    assert both.curl(*to, "http://192.168.x.x:8765/models/reload", "-X", "POST")[0] == 401
    assert both.curl(*to, "-H", f"X-API-Key: {ADMIN}", "http://192.168.x.x:8765/models/reload", "-X", "POST")[0] == 200
    assert both.curl(*to, "http://192.168.x.x:8765/health")[0] == 200


def lan_address():
    """This host's own address on a network, without a packet sent; None where there is only loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.connect(("192.0.2.1", 9))
        except OSError:
            return None
        a = s.getsockname()[0]
        return None if a.startswith("127.") else a


def test_listener_on_a_lan_address(gate):
    """S0-35: bound to every address, reached on the host's own, key needed."""
    lan = lan_address()
    if lan is None:
        pytest.skip("this host has no address but loopback")
    g = gate(listen=["0.0.0.0:0"])
    url = f"http://{lan}:{g.port}"
    assert g.client(url=url).get("/health").status_code == 200
    assert g.client(url=url).post("/models/reload").status_code == 401
    assert g.client(ADMIN, url=url).post("/models/reload").status_code in (200, 503)


def test_keys_are_never_shown(both, unset):
    """S0-15: not in bodies, not in headers, not in the log, not on stderr."""
    for g in (both, unset):
        for key in (ADMIN, READ, "canary-" + "k3y9" * 6):
            for method, path in ADMIN_ROUTES + READ_ROUTES + [("GET", "/anything"), ("GET", "/health")]:
                r = call(g.client(key), method, path)
                assert key not in r.text and all(key not in v for v in r.headers.values()), (path, r.text)
        said = "\n".join(r if isinstance(r, str) else str(r) for r in g.log(0.3)) + g.stderr()
        assert said and not any(k in said for k in (ADMIN, READ, "canary-" + "k3y9" * 6))
