"""CORS from outside: what a browser is told, by whom and about what (S2-52 to S2-57, S4-30 to S4-34, S4-99, C-11; threats T-CORS)."""
import json

import pytest

from lib.gate import ADMIN, READ, model, run_cli

APP, OTHER = "https://your-frontend.com", "https://evil.example"
USER = "user-test-K4x9mD2qW7sL5vN8"
CHAT = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
LEAK = [("Access-Control-Allow-Origin", "*"), ("Access-Control-Allow-Credentials", "true"), ("Access-Control-Expose-Headers", "X-Worker"), ("Vary", "X-Worker"), ("X-Worker", "1")]


def preflight(c, origin=APP, method="POST", headers=None, path="/v1/chat/completions"):
    h = {"Origin": origin, "Access-Control-Request-Method": method}
    if headers is not None:
        h["Access-Control-Request-Headers"] = headers
    return c.options(path, headers=h)


def allow(r):
    """The CORS headers of an answer, by their short names."""
    return {k.removeprefix("access-control-"): v for k, v in r.headers.items() if k.startswith("access-control-")}


def vary(r):
    return {x.strip().lower() for v in r.headers.get_list("vary") for x in v.split(",")}


@pytest.fixture(scope="module")
def w(module_worker):
    return module_worker()


@pytest.fixture(scope="module")
def g(module_gate, w):
    return module_gate(models=[model("m", w), model("dead", "http://127.0.0.1:1")], env={"TOLLGATE_API_KEYS": USER}, toml={"server": {"cors_origins": [APP, "http://localhost:3000"], "max_body_bytes": 1000000}, "limits": {"api": "3/minute"}})


@pytest.fixture(autouse=True)
def fresh(w):
    w.behave()


def test_preflight_needs_no_key(g):
    """S2-53, S2-55, S2-56, S4-32: a preflight is answered before authentication, for a path that exists and for one that does not, in the same words."""
    c = g.client()
    for path in ("/v1/chat/completions", "/gpu", "/settings/x", "/nothing/there", "/health"):
        r = preflight(c, headers="authorization,content-type,x-api-key", path=path)
        assert r.status_code == 204 and r.content == b"" and r.headers.get("content-length") is None, path
        a = allow(r)
        assert a["allow-origin"] == APP and a["allow-credentials"] == "true" and a["max-age"] == "600"
        assert a["allow-methods"] == "GET, POST, PUT, DELETE" and a["allow-headers"] == "Authorization, Content-Type, X-API-Key"
        assert vary(r) >= {"origin", "access-control-request-method", "access-control-request-headers"} and "allow" not in r.headers


@pytest.mark.parametrize("method,headers", [("PATCH", None), ("post", None), ("POST", "x-foo"), ("POST", "authorization, x-foo"), ("*", None)])
def test_preflight_for_more_than_is_allowed(g, method, headers):
    """S2-54, S2-55: 204 without the allow headers, so that the browser does not send."""
    r = preflight(g.client(), method=method, headers=headers)
    assert r.status_code == 204 and allow(r) == {} and "origin" in vary(r)


@pytest.mark.parametrize("origin", [OTHER, "null", APP + ".evil", "https://evil" + APP.removeprefix("https://"), APP.replace("https", "http"), APP + ":8443", APP + ":443", APP.upper(),
                                    APP + "/", "https://www.your-frontend.com", "http://localhost", "http://localhost:30000", "https://your-frontend.co", "*", APP + ", " + APP])
def test_other_origins(g, origin):
    """S2-53, T-CORS: compared whole, never by prefix or suffix; "null" only where it is listed. The answer itself is not kept back: that is for the browser."""
    assert allow(preflight(g.client(), origin)) == {}
    r = g.client(READ).get("/v1/models", headers={"Origin": origin})
    assert r.status_code == 200 and allow(r) == {} and vary(r) == {"origin"}


def test_two_origins(g):
    """Of two Origin headers neither is believed."""
    raw = g.raw(f"GET /health HTTP/1.1\r\nHost: a\r\nOrigin: {APP}\r\nOrigin: {OTHER}\r\nConnection: close\r\n\r\n".encode())
    assert b"access-control" not in raw.lower()


def test_every_answer_carries_them(g):
    """S2-56, S2-57: 200, 401, 403, 404, 429, 5xx and streams; else a browser hides them from the page. Rate-limit headers are readable by scripts."""
    at = {"Origin": APP}
    c, bare = g.client(READ, headers=at), g.client(headers=at)
    got = {200: c.get("/v1/models"), 401: bare.get("/v1/models"), 403: g.client(USER, headers=at).post("/models/reload"), 404: c.get("/v1/models/none"),
           503: c.post("/v1/chat/completions", json={**CHAT, "model": "dead"}), 204: c.options("/v1/models"), 405: c.put("/v1/models"),
           501: g.client(ADMIN, headers=at).get("/gpu"), 415: c.post("/v1/chat/completions", content=b"{"), 413: c.post("/v1/chat/completions", content=b"x" * 2000000, headers={"Content-Type": "application/json"})}
    for _ in range(4):
        got[429] = c.post("/api/v1/inference", json={"prompt": "x", "model": "m"})
    for status, r in got.items():
        assert r.status_code == status, (status, r.status_code, r.text)
        a = allow(r)
        assert a["allow-origin"] == APP and a["allow-credentials"] == "true" and "origin" in vary(r), status
        exposed = {x.strip().lower() for x in a["expose-headers"].split(",")}
        assert exposed >= {"x-request-id", "retry-after", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"}, status
    assert "retry-after" in got[429].headers
    with c.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as r:
        assert allow(r)["allow-origin"] == APP and r.headers["content-type"].startswith("text/event-stream")
        assert b"[DONE]" in r.read()


def test_without_an_origin(g):
    """A program is told nothing but that caches must tell origins apart."""
    r = g.client(READ).get("/v1/models")
    assert allow(r) == {} and vary(r) == {"origin"}
    r = g.client().get("/")
    assert vary(r) == {"origin", "accept"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("origin", [APP, OTHER, None])
def test_a_workers_own_headers_do_not_pass(g, w, stream, origin):
    """A worker that allows everybody (as vLLM and llama-server do) must not allow more than the gate does."""
    w.behave(headers=LEAK)
    r = g.client(READ, headers={"Origin": origin} if origin else None).post("/v1/chat/completions", json={**CHAT, "stream": stream})
    assert r.status_code == 200 and "x-worker" not in r.headers and vary(r) == {"origin"} and "X-Worker" not in str(r.headers)
    assert allow(r).get("allow-origin") == (APP if origin == APP else None)
    assert len(r.headers.get_list("access-control-allow-origin")) <= 1
    assert w.last.header("origin") is None, "and the worker is not told where the page is from"


def test_off_by_default(gate, worker):
    """Without cors_origins nothing is said: no allow headers, no Vary, whatever the worker says."""
    w = worker()
    w.behave(headers=LEAK)
    g = gate(models=[model("m", w)])
    for r in (g.client(READ, headers={"Origin": APP}).post("/v1/chat/completions", json=CHAT), preflight(g.client())):
        assert r.status_code in (200, 204) and allow(r) == {} and "vary" not in r.headers


def test_any_origin(gate, worker):
    """C-11, S4-30, S4-32: "*" is answered as "*", never with credentials and never by echo."""
    g = gate(models=[model("m", worker())], env={"CREDIT_RISK_CORS_ORIGINS": '["*"]'})
    for origin in (APP, OTHER, "null"):
        for r in (g.client(READ, headers={"Origin": origin}).get("/v1/models"), preflight(g.client(), origin)):
            a = allow(r)
            assert a["allow-origin"] == "*" and "allow-credentials" not in a
    assert allow(preflight(g.client(), method="PATCH")) == {}
    assert 'cors_origins' in g.stderr() and '"*"' in g.stderr(), "S4-99: said at the start"


def test_documents_lists_are_taken_exactly(gate):
    """S2-52 to S2-55, S4-33, S4-34: the lists of 002 and of 004, from TOML and by environment; credentials can be switched off; live on SIGHUP."""
    g = gate(toml={"server": {"cors_origins": [APP], "cors_methods": ["GET", "POST", "DELETE"], "cors_headers": ["Authorization", "Content-Type", "X-API-Key"]}})
    c = g.client()
    assert allow(preflight(c, method="PUT")) == {} and allow(preflight(c, method="DELETE"))["allow-methods"] == "GET, POST, DELETE"
    g.write_config(toml={"server": {"cors_origins": [OTHER], "cors_methods": ["GET", "POST"], "cors_headers": ["Authorization", "Content-Type"], "cors_credentials": False,
                                    "cors_max_age_s": 0}})
    g.reload()
    assert allow(preflight(c)) == {}
    a = allow(preflight(c, OTHER, headers="authorization"))
    assert a == {"allow-origin": OTHER, "allow-methods": "GET, POST", "allow-headers": "Authorization, Content-Type", "max-age": "0", "expose-headers": a["expose-headers"]}
    assert allow(preflight(c, OTHER, headers="x-api-key")) == {} and allow(preflight(c, OTHER, method="DELETE")) == {}


def test_origins_from_the_environment(gate):
    """S4-31, S4-99: production's three origins, as a list and as JSON, written in any way that means the same."""
    three = ["https://your-domain.com", "https://www.your-domain.com", "https://your-app.vercel.app"]
    for text in (", ".join(three), json.dumps(three), "HTTPS://Your-Domain.com:443,https://www.your-domain.com,https://your-app.vercel.app"):
        g = gate(env={"CREDIT_RISK_CORS_ORIGINS": text})
        for origin in three:
            assert allow(preflight(g.client(), origin))["allow-origin"] == origin
        assert allow(preflight(g.client(), "https://your-domain.com.evil.example")) == {}


@pytest.mark.parametrize("toml,words", [('cors_origins = ["*"]\ncors_credentials = true', ["cors_credentials", "cors_origins", '"*"']), ('cors_origins = ["*", "https://a.example"]', ["cors_origins", "alone"]),
                                        ('cors_origins = ["https://*.example"]', ["cors_origins", "wildcards"]), ('cors_origins = ["https://a.example/"]', ["cors_origins", "last /"]),
                                        ('cors_headers = ["*"]', ["cors_headers", "wildcards"])])
def test_refused_at_the_start(tmp_path, toml, words):
    """The issue: "*" with credentials is refused, and so is what a browser would never match; serve and check alike."""
    (tmp_path / "c.toml").write_text("[server]\n" + toml + "\n")
    for command in (("serve",), ("config", "check")):
        p = run_cli(*command, "--config", "c.toml", cwd=tmp_path)
        assert p.returncode == 2 and all(x in p.stderr for x in words), p.stderr


def test_cookies_of_listed_origins(g, w):
    """S4-32 and DESIGN's rule for cookies: a listed page reads by cookie; what changes something must come from this site all the same."""
    c = g.client(headers={"Origin": APP, "Cookie": f"api_key={READ}"})
    assert c.get("/v1/models").status_code == 200
    r = c.post("/v1/chat/completions", json=CHAT)
    assert r.status_code == 403 and allow(r)["allow-origin"] == APP and not [x for x in w.requests if x.header("origin")]
