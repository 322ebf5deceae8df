"""
The description of the interface: /openapi.json, and the pages /docs and /redoc, which are made of it (seed ledger S3-32 to S3-36, S4-80 to S4-83). It is compared with the table that the gate itself
goes by (`tollgate routes`), in both directions, and with what the gate answers to the very examples it shows.
"""
import json
import re

import jsonschema
import pytest
from lib.gate import ADMIN, ROOT, model, run_cli
from lib.ml import SLOW_CONFIG, TRAIN_KEY, config, ended, ml_gate, slow_frame, train
from lib.raw import SLOW, until
from openapi_spec_validator import OpenAPIV31SpecValidator

PUBLIC = {"GET /", "GET /health", "GET /livez", "GET /readyz", "GET /docs", "GET /redoc", "GET /openapi.json", "GET /assets/*", "POST /api/v1/auth/login"}
EXAMPLES = "src/tables/examples.json"
CSP = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
PAGES = ("/docs", "/redoc")
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def routes():
    return json.loads(run_cli("routes", "--json", cwd="/").stdout)


def documented():
    """{"GET /x/{rest}": row} of every row that answers."""
    out = {}
    for r in routes():
        if r["state"] not in ("later", "closed"):
            for m in METHODS if r["method"] == "*" else [r["method"]]:
                out[f"{m} {r['path'][:-1] + '{rest}' if r['path'].endswith('*') else r['path']}"] = r
    return out


def key_of(name):
    """As it stands in examples.json."""
    return name.replace("/{rest}", "/*")


@pytest.fixture(scope="module")
def g(module_gate, module_worker):
    return module_gate(models=[model("qwen3", module_worker())], toml={"server": {"name": "Gate <of> \"trials\" & co"}, "limits": {"api": "off"}, "auth": {"guesses": "off"}},
                       env={"INFERNO_ADMIN_PASSWORD": "correct horse battery"})


@pytest.fixture(scope="module")
def doc(g):
    r = g.external().get("/openapi.json")
    assert r.status_code == 200 and r.headers["content-type"] == "application/json"
    return r.json()


@pytest.fixture(scope="module")
def operations(doc):
    return {f"{m.upper()} {p}": op for p, methods in doc["paths"].items() for m, op in methods.items()}


def answer_of(doc, answer):
    return doc["components"]["responses"][answer["$ref"].rsplit("/", 1)[1]] if "$ref" in answer else answer


def test_it_is_valid_openapi(doc):
    """S3-34: 3.1, by the specification's own schema and rules; its name is the operator's."""
    errors = [f"{list(e.absolute_path)}: {e.message}" for e in OpenAPIV31SpecValidator(doc).iter_errors()]
    assert not errors, errors[:5]
    assert doc["openapi"].startswith("3.1") and doc["info"]["title"] == "Gate <of> \"trials\" & co" and doc["info"]["version"]


def test_every_route_is_in_it_and_nothing_else(operations):
    """S3-34, S4-80."""
    assert set(operations) == set(documented())
    ids = [op["operationId"] for op in operations.values()]
    assert len(set(ids)) == len(ids) and all(re.fullmatch(r"[a-zA-Z0-9_]+", i) for i in ids), ids


def test_words_belong_to_routes():
    """What stands in examples.json for a route that is not (or not any more) in the table would never be seen."""
    entries = json.loads((ROOT / EXAMPLES).read_text())
    missing = sorted(set(map(key_of, documented())) - set(entries))
    assert not missing, f"these routes have no example: add an entry for each to {EXAMPLES}: {missing}"
    known = {f"{m} {r['path']}" for r in routes() for m in (METHODS if r["method"] == "*" else [r["method"]])}
    assert not set(entries) - known, f"{EXAMPLES} has entries for routes that are not in src/tables/routes.def: {sorted(set(entries) - known)}"


def test_each_is_described(operations):
    """S4-81: what it does, what it needs, and each of its parameters and members."""
    rows, silent = documented(), []
    for name, op in operations.items():
        r = rows[name]
        assert op["summary"] == r["description"] and op["description"].startswith(r["description"]) and op["tags"], name
        assert (op["security"] == []) == (r["guard"] == "public"), name
        assert all(p in op["description"] for p in r["permissions"]), name
        silent += [f"{name}: parameter {p['name']}" for p in op.get("parameters", []) if not p.get("description") or "example" not in p and p["in"] == "path"]
        for media in op.get("requestBody", {}).get("content", {}).values():
            silent += [f"{name}: member {n}" for n, s in media["schema"].get("properties", {}).items() if not s.get("description")]
    assert not silent, f"say what they are in {EXAMPLES} (\"path\", \"query\", \"fields\"): {silent}"


def test_each_has_examples_that_fit(doc, operations):
    """S4-82: of the request, by its own schema, and of the answer."""
    bare = []
    for name, op in operations.items():
        for media in op.get("requestBody", {}).get("content", {}).values():
            if "example" not in media:
                bare.append(f"{name}: request")
                continue
            if not isinstance(media["example"], str):
                jsonschema.validate(media["example"], media["schema"])
        good = {s: a for s, a in op["responses"].items() if s[0] in "23"}
        assert good, name
        for status, a in good.items():
            if status not in ("204", "304") and not all("example" in m for m in a.get("content", {"none": {}}).values()):
                bare.append(f"{name}: answer {status}")
            for media in a.get("content", {}).values():
                jsonschema.validate(media["example"], media["schema"])
    assert not bare, f"give them an example in {EXAMPLES} (\"request\", \"response\"): {bare}"


def test_each_says_how_it_may_fail(doc, operations):
    """S4-83: the errors that its guard, its body, its limit and its path bring, each in the shape that the gate gives them."""
    rows = documented()
    for name, op in operations.items():
        r, got, body = rows[name], set(op["responses"]), "requestBody" in op
        want = {"500", "503"} | ({"401", "429"} if r["guard"] != "public" else set()) | ({"403"} if r["permissions"] else set()) | ({"429"} if r["limit"] != "none" else set())
        want |= ({"400", "413"} if body else set()) | ({"404"} if "{" in name else set()) | ({"502", "504"} if name.startswith("POST /v1/") else set())
        assert want <= got, (name, want - got)
        for status in got - {"200", "201", "202", "204", "304"}:
            a = answer_of(doc, op["responses"][status])
            assert a["description"], (name, status)
            for media in a["content"].values():
                schema = doc["components"]["schemas"][media["schema"]["$ref"].rsplit("/", 1)[1]]
                jsonschema.validate(media["example"], schema)
                assert media["example"]["status"] == int(status)


@pytest.mark.parametrize("path, family", [("/v1/models", "openai"), ("/api/v1/users", "api"), ("/auth/verify", "credit"), ("/models", "read"), ("/metrics", "plain"), ("/models/reload", "admin"), ("/infer", "infer")])
def test_errors_are_as_they_are_described(g, doc, path, family):
    """A real 401 of each family is what the schema says."""
    r = g.external().request("POST" if path in ("/models/reload", "/infer") else "GET", path)
    a = doc["components"]["responses"][f"401-{family}"]["content"][r.headers["content-type"]]
    assert r.status_code == 401
    jsonschema.validate(r.json(), doc["components"]["schemas"][a["schema"]["$ref"].rsplit("/", 1)[1]])
    assert set(r.json()) == set(a["example"]) and r.json()["detail"] == a["example"]["detail"]


def members(v):
    """The names in it; what limits a key has is its maker's."""
    if isinstance(v, list):
        return members(v[0]) if v else None
    return {k: members(x) if k != "limits" else None for k, x in v.items()} if isinstance(v, dict) else None


# In the order of a life: made, read, changed, removed. The example's user logs in before the example's change takes that away.
LIFE = ["GET /", "GET /health", "GET /livez", "GET /readyz", "GET /metrics", "GET /dashboard", "GET /docs", "GET /redoc", "GET /assets/{rest}", "GET /v1/models", "GET /v1/models/{model}", "GET /api/v1/models",
        "GET /api/v1/models/{model}", "GET /models", "GET /models/info", "POST /models/reload", "GET /auth/verify", "POST /auth/verify", "POST /v1/chat/completions", "POST /v1/completions", "POST /v1/embeddings",
        "POST /infer", "POST /api/v1/inference", "POST /api/v1/auth/api-keys", "GET /api/v1/auth/api-keys", "GET /api/v1/auth/api-keys/{id}", "POST /api/v1/auth/api-keys/{id}/rotate",
        "DELETE /api/v1/auth/api-keys/{id}", "POST /api/v1/users", "POST /api/v1/auth/login", "GET /api/v1/users/{id}", "GET /api/v1/users", "PATCH /api/v1/users/{id}", "POST /api/v1/auth/logout",
        "DELETE /api/v1/users/{id}", "PATCH /api/v1/config", "GET /api/v1/config"]


def test_examples_are_what_the_gate_answers(g, operations):
    """The documented request, sent; the answer has the documented status, type and members."""
    c, wrong, ids, token = g.client(ADMIN), [], {}, None
    for name in LIFE:
        op, (method, path) = operations[name], name.split(" ")
        kind = path.split("/")[4 if "api-keys" in path else 3] if path.startswith("/api/v1/") else None
        for p in op.get("parameters", []):
            if p["in"] == "path":
                path = path.replace("{%s}" % p["name"], ids.get(kind, str(p["example"])))
        media = next(iter(op.get("requestBody", {}).get("content", {}).values()), {})
        who = g.client(None, headers={"Authorization": f"Bearer {token}"}) if name.endswith("logout") else c
        r = who.request(method, path, json=media.get("example"), timeout=10 * SLOW)
        if r.status_code == 201:
            ids[kind] = r.json()["id"]
        want = op["responses"].get(str(r.status_code))
        if not want or r.status_code >= 300:
            wrong.append((name, r.status_code, r.text[:200]))
            continue
        token = r.json()["token"] if name.endswith("login") else token
        content, kind = want.get("content", {}), r.headers.get("content-type", "").split(";")[0]
        if bool(content) != bool(r.content) or (content and kind not in content):
            wrong.append((name, "content", kind, list(content)))
        elif kind == "application/json" and members(r.json()) != members(content[kind]["example"]):
            wrong.append((name, members(r.json()), members(content[kind]["example"])))
    assert not wrong, "\n".join(map(str, wrong))


# ---- the pages ----

@pytest.mark.parametrize("path", [*PAGES, "/openapi.json", "/assets/docs.css", "/assets/docs.js"])
def test_pages_are_public_and_self_contained(g, path):
    """S3-32, S3-33: without a key; nothing of another host; what a browser may load is said."""
    r = g.external().get(path)
    assert r.status_code == 200 and r.headers["content-security-policy"] == CSP
    assert r.headers["x-content-type-options"] == "nosniff" and r.headers["cache-control"] == "no-cache"
    if path != "/openapi.json":
        code = re.sub(r"<pre>.*?</pre>", "", r.text, flags=re.S)  # examples are text
        assert not re.findall(r"(?:https?:)?//[a-z0-9-]+\.[a-z]", code), "an address of another host"
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:|<script(?![^>]*src=\"/assets/)", r.text) or path.endswith((".js", ".css"))
    again = g.external().get(path, headers={"If-None-Match": f'W/"x", {r.headers["etag"]}'})
    assert again.status_code == 304 and not again.content and again.headers["etag"] == r.headers["etag"] and "content-length" not in again.headers
    assert g.external().get(path, headers={"If-None-Match": '"another"'}).status_code == 200
    head = g.external().head(path)
    assert head.status_code == 200 and not head.content and head.headers["content-length"] == r.headers["content-length"]


def test_what_pages_name_is_there(g):
    for page in PAGES:
        text = g.external().get(page).text
        for target in re.findall(r'(?:src|href)="(/[^"]*)"', text):
            assert g.external().get(target).status_code == 200, (page, target)
    script = g.external().get("/assets/docs.js").text
    assert 'fetch("/openapi.json"' in script and "innerHTML" not in script and "localStorage" not in script and "eval(" not in script
    assert 'type="password"' in g.external().get("/docs").text


def test_redoc_reads_without_scripts(g, operations):
    """S3-33: every route with its words, the table of contents leads to each; the operator's title is text, not markup."""
    text = g.external().get("/redoc").text
    assert "<script" not in text and "Gate &lt;of&gt;" in text and "Gate <of>" not in text
    for name, op in operations.items():
        assert f'href="#{op["operationId"]}"' in text and f'<article id="{op["operationId"]}">' in text, name
        assert f"<code>{name.split(' ')[1]}</code>" in text, name
    assert text.count("<article ") == text.count("</article>") == len(operations)


def test_assets_are_only_ours(g):
    for path in ("/assets/nothing.css", "/assets/docs.html", "/assets/examples.json", "/assets/docs.css/x", "/assets/.css"):
        assert g.external().get(path).status_code == 404, path


def test_exactly_these_paths_are_public(g):
    """S3-36, S3-35: the rows, and what merely looks like them."""
    rows = {f"{r['method']} {r['path']}" for r in routes() if r["guard"] == "public"}
    assert rows == PUBLIC
    spellings = []
    for p in ("/docs", "/redoc", "/openapi.json", "/health", "/livez", "/readyz"):
        spellings += [f"{p}/", f"{p}/x", f"/{p}", f"/.{p}", f"/x/..{p}", p.upper(), f"{p}%2f", f"{p};x", f"{p}%20", f"{p}.json"]
    spellings += ["/assets", "/assets/", "/assets//docs.css", "/assets/../api/v1/users", "/assets/%2e%2e/api/v1/users", "/assets/..%2fapi/v1/users", "/assets/./docs.css", "//api/v1/users", "/./api/v1/users",
                  "/%2e/api/v1/users", "/docs/../api/v1/users", "/api/v1/auth/login/", "//"]
    for path in spellings:
        answer = g.raw(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert answer.split(b" ")[1] in (b"401", b"400"), (path, answer[:200])
    for path in ("/docs", "/redoc", "/openapi.json", "/assets/docs.css"):
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            assert g.external().request(method, path).status_code == 401, (method, path)


def test_the_first_page_leads_on(g):
    """S3-35: JSON, or HTML for browsers; both say where the description is."""
    assert g.external().get("/").json().items() >= {"docs": "/docs", "openapi": "/openapi.json"}.items()
    html = g.external().get("/", headers={"Accept": "text/html"}).text
    assert all(f'href="{p}"' in html for p in ("/docs", "/redoc", "/openapi.json"))


def test_a_new_name_is_a_new_document(gate):
    """Made once a configuration: after a reload it says the new name, under another tag."""
    g = gate(toml={"server": {"name": "before"}})
    first = g.external().get("/openapi.json")
    g.write_config(toml={"server": {"name": "after"}})
    g.reload()
    second = g.external().get("/openapi.json")
    assert (first.json()["info"]["title"], second.json()["info"]["title"]) == ("before", "after") and first.headers["etag"] != second.headers["etag"]
    assert "<title>after</title>" in g.external().get("/redoc").text
