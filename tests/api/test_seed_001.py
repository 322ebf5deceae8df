"""
Document 001, "API Authentication Guide": /infer is open to local callers and wants a key from everyone else.
An external caller on one machine is the source address 127.0.0.2, which the document's local_networks do not name.
"""
import concurrent.futures
import json
import os
import re
import shutil
import signal
import subprocess
import time

import pytest

from lib.gate import ADMIN, EXTERNAL, READ, ROOT, clean_env, free_port, has_ipv6, model, run_cli
from test_seed_000 import lan_address

DETAIL = "Invalid or missing API key. Please provide a valid X-API-Key header."
SAMPLE = """{
  "valid_keys": [
    "demo-key-12345",
    "prod-key-67890",
    "iszcx8YNM7xqyo_lj-_iD8vMODMfW7xc"
  ],
  "require_auth_for_external": true,
  "local_networks": [
    "127.0.0.1",
    "localhost",
    "::1"
  ]
}
"""
SAMPLE_KEYS = json.loads(SAMPLE)["valid_keys"]
BODY = {"model_name": "qwen3", "request_body": {"input": "Your input text here", "max_new_tokens": 1000}}
LITERAL = """{
    "model_name": "qwen3",
    "request_body": {
      "input": "Your input text here",
      "max_new_tokens": 1000
    }
  }"""


def infer(client, body=BODY, **kw):
    return client.post("/infer", json=body, **kw)


def settle(call, status, seconds=2.0):
    """Calls until the status comes; the document allows an edit 1 to 2 seconds to be seen."""
    end = time.monotonic() + seconds
    while True:
        r = call()
        if r.status_code == status:
            return r
        assert time.monotonic() < end, (r.status_code, r.text)
        time.sleep(0.05)


@pytest.fixture(scope="module")
def w(module_worker):
    return module_worker()


@pytest.fixture(scope="module")
def g(module_gate, w):
    """The document's own api_keys.json, never edited in these tests; no key in the environment."""
    return module_gate(models=[model("qwen3", w)], keys=False, api_keys=SAMPLE, listen=["127.0.0.1:0"] + (["[::1]:0"] if has_ipv6() else []))


@pytest.fixture
def mine(gate, worker):
    """A gate whose api_keys.json the test may edit."""
    return gate(models=[model("qwen3", worker())], keys=False, api_keys=SAMPLE)


# --- who is local ------------------------------------------------------------------------------------------------------------------
def test_local_needs_no_key(g):
    """S1-01, S1-23, S1-24, S1-31."""
    r = infer(g.client())
    assert r.status_code == 200, r.text
    assert r.json()["response"] == BODY["request_body"]["input"]
    assert r.json()["model_name_processed"] == "qwen3"
    assert {"gpu_id_of_model_worker", "duration_seconds", "api_worker_pid", "load_balancer_worker_id", "lb_latency_ms", "lb_queue_at_dispatch"} <= set(r.json())
    assert infer(g.client(headers={"Host": f"localhost:{g.port}"})).status_code == 200


def test_local_over_ipv6(g):
    """S1-03."""
    if not has_ipv6():
        pytest.skip("no IPv6 loopback here")
    port = g.tcp("::1")[0]
    assert infer(g.client(url=f"http://[::1]:{port}")).status_code == 200
    assert g.curl("-g", "-X", "POST", f"http://[::1]:{port}/infer", "-H", "Content-Type: application/json", "-d", LITERAL)[0] == 200


def test_ipv4_mapped_loopback_is_local(gate, worker):
    """S1-03: on a dual-stack socket 127.0.0.1 arrives as ::ffff:127.0.0.1; it is the same caller, and 127.0.0.2 still is not."""
    if not has_ipv6():
        pytest.skip("no IPv6 here")
    g = gate(models=[model("qwen3", worker())], keys=False, api_keys=SAMPLE, listen=["[::]:0"])
    port = g.port
    try:
        r = infer(g.client(url=f"http://127.0.0.1:{port}"))
    except Exception as e:  # a gate may bind IPv6 only; then there is nothing mapped to test
        pytest.skip(f"[::] does not take IPv4 here: {e}")
    assert r.status_code == 200
    assert infer(g.external(url=f"http://127.0.0.1:{port}")).status_code == 401


def test_external_needs_a_key(g):
    """S1-02, S1-28, S1-29: missing and invalid get one status and one text."""
    for headers in ({}, {"X-API-Key": "nope"}, {"X-API-Key": ""}, {"Authorization": "Bearer nope"}, {"X-API-Key": SAMPLE_KEYS[0] + "x"}, {"X-API-Key": SAMPLE_KEYS[0][:-1]}):
        r = infer(g.external(headers=headers))
        assert (r.status_code, r.json()["detail"]) == (401, DETAIL), (headers, r.text)
        assert r.json()["event"] == ("auth.invalid_key" if any(headers.values()) else "auth.missing_key")
        assert r.headers["www-authenticate"].startswith("Bearer ")


@pytest.mark.parametrize("key", SAMPLE_KEYS)
def test_sample_keys_work(g, key):
    """S1-10, S1-11, S1-14, S1-27, S1-46: the sample is loaded as printed; short keys are keys; header names have no case."""
    for headers in ({"X-API-Key": key}, {"x-api-key": key}, {"X-API-KEY": key}, {"Authorization": "Bearer " + key}, {"Authorization": key}):
        assert infer(g.external(headers=headers)).status_code == 200, headers


@pytest.mark.parametrize("headers", [{"X-Forwarded-For": "127.0.0.1"}, {"Forwarded": "for=127.0.0.1"}, {"X-Real-IP": "127.0.0.1"}, {"X-Forwarded-Host": "localhost"},
                                     {"X-Forwarded-For": "127.0.0.1, 127.0.0.1"}, {"Host": "localhost"}, {"Client-IP": "127.0.0.1"}, {"True-Client-IP": "127.0.0.1"}])
def test_locality_is_the_socket_peer(g, headers):
    """S1-04: what the caller writes never makes it local."""
    assert infer(g.external(headers=headers)).status_code == 401


@pytest.mark.parametrize("headers", [{"X-Forwarded-For": "8.8.8.8"}, {"X-Forwarded-For": "127.0.0.1"}, {"Forwarded": "for=127.0.0.1"}, {"X-Real-IP": "127.0.0.1"},
                                     {"X-Forwarded-Proto": "https"}, {"Host": "gate.example"}, {"Host": "evil.example:9001"}, {"Origin": "https://evil.example"},
                                     {"Origin": "null"}, {"Origin": "http://127.0.0.1:1"}, {"Origin": "http://localhost:1@evil.example"}])
def test_exemption_ends_behind_a_proxy_or_a_browser(g, headers):
    """S1-04, C-04: a forwarding header, a foreign Host (DNS rebinding) or a cross-site Origin ends the exemption; a key still works."""
    assert infer(g.client(headers=headers)).status_code == 401
    assert infer(g.client(SAMPLE_KEYS[0], headers=headers)).status_code == 200


def test_exemption_ends_with_trusted_proxies(gate, worker):
    """C-04: with a trusted proxy configured nobody is local."""
    g = gate(toml={"server": {"trusted_proxies": ["10.0.0.1"]}}, models=[model("qwen3", worker())], keys=False, api_keys=SAMPLE)
    assert infer(g.client()).status_code == 401
    assert infer(g.client(SAMPLE_KEYS[0])).status_code == 200


def test_unix_peers_are_not_local(gate, worker, tmp_path):
    """DESIGN.md, authenticate: a Unix socket is somebody's proxy."""
    import httpx
    path = tmp_path / "g.sock"
    g = gate(models=[model("qwen3", worker())], keys=False, api_keys=SAMPLE, listen=["127.0.0.1:0", f"unix:{path}"])
    c = g.client(transport=httpx.HTTPTransport(uds=str(path)), url="http://localhost")
    assert infer(c).status_code == 401
    assert infer(c, headers={"X-API-Key": SAMPLE_KEYS[0]}).status_code == 200


def test_local_with_a_bad_key(g):
    """S1-07: let in, and the bad key is on record without being shown."""
    bad = "bad-key-" + "z9" * 12
    r = infer(g.client(bad))
    assert r.status_code == 200
    got = g.wait_log(lambda x: x["request_id"] == r.headers["x-request-id"] and x["event"] == "auth.invalid_key")
    assert got["client"] == "127.0.0.1" and bad not in g.log_text()


def test_local_with_a_good_key_is_named(g):
    """DESIGN.md: a valid credential still names a local caller."""
    r = infer(g.client(SAMPLE_KEYS[2]))
    assert g.record(r)["key_name"] == "api_keys.json" and g.record(r)["key_prefix"] == SAMPLE_KEYS[2][:9]


def test_exemption_is_for_infer_alone(g):
    """C-04: document 000's routes know no local callers."""
    assert g.client().post("/v1/chat/completions", json={"model": "qwen3", "messages": []}).status_code == 401
    assert g.client().get("/models").status_code == 401


# --- api_keys.json -----------------------------------------------------------------------------------------------------------------
def test_networks(gate, worker):
    """S1-05: addresses and networks in CIDR form, and the name localhost."""
    w = worker()
    for nets, status in ((["127.0.0.0/8"], 200), (["127.0.0.2"], 200), (["127.0.0.2/32"], 200), (["127.0.0.3/31"], 200), (["::ffff:127.0.0.2"], 200), (["10.0.0.0/8"], 401),
                         (["localhost"], 401), (["127.0.0.3"], 401), ([], 401)):
        g = gate(models=[model("qwen3", w)], keys=False, api_keys={"valid_keys": ["k"], "require_auth_for_external": True, "local_networks": nets})
        assert infer(g.external()).status_code == status, nets
        g.stop()


def test_open_to_externals(mine):
    """S1-06: the flag opens /infer to everyone, says so aloud, and can be taken back."""
    mine.write_keys({**json.loads(SAMPLE), "require_auth_for_external": False})
    settle(lambda: infer(mine.external()), 200)
    mine.wait_log(lambda r: r["level"] == "warn" and "require_auth_for_external" in json.dumps(r))
    assert mine.external().get("/models").status_code == 401, "only /infer opens"
    mine.write_keys(SAMPLE)
    settle(lambda: infer(mine.external()), 401)


def test_file_by_environment(gate, worker, tmp_path):
    """S1-08, S1-09: API_KEYS_FILE, absolute and relative to the working directory; the default file is then not read."""
    w = worker()
    (tmp_path / "abs.json").write_text(json.dumps({"valid_keys": ["absolute-key-1"]}))
    for name, key in ((str(tmp_path / "abs.json"), "absolute-key-1"), ("sub/rel.json", "relative-key-1")):
        g = gate(models=[model("qwen3", w)], keys=False, api_keys=SAMPLE, env={"API_KEYS_FILE": name}, files={"sub/rel.json": json.dumps({"valid_keys": ["relative-key-1"]})})
        assert infer(g.external(key)).status_code == 200
        assert infer(g.external(SAMPLE_KEYS[0])).status_code == 401
        g.stop()


def test_unknown_members_are_ignored(mine):
    """S1-10."""
    mine.write_keys({**json.loads(SAMPLE), "comment": "ours", "valid_keys": ["extra-key-1"], "nested": {"valid_keys": ["not-this"]}})
    settle(lambda: infer(mine.external("extra-key-1")), 200)
    assert infer(mine.external("not-this")).status_code == 401


def test_edits_are_live(mine):
    """S1-12, S1-14: within two seconds, both ways, without a restart; by rename and by writing in place."""
    keys = json.loads(SAMPLE)
    assert infer(mine.external("new-key-1")).status_code == 401
    mine.write_keys({**keys, "valid_keys": keys["valid_keys"] + ["new-key-1"]})
    settle(lambda: infer(mine.external("new-key-1")), 200)
    assert infer(mine.external(SAMPLE_KEYS[0])).status_code == 200
    mine.write_keys({**keys, "valid_keys": ["new-key-1"]})
    settle(lambda: infer(mine.external(SAMPLE_KEYS[0])), 401)
    assert infer(mine.external("new-key-1")).status_code == 200
    (mine.dir / "api_keys.json").write_text(json.dumps({**keys, "valid_keys": ["in-place-1"]}))
    settle(lambda: infer(mine.external("in-place-1")), 200)
    settle(lambda: infer(mine.external("new-key-1")), 401)


def test_rotation_without_downtime(mine):
    """S1-49: add the new key, move the client, drop the old one; the good key is never refused in between."""
    old, new = SAMPLE_KEYS[0], "rotated-key-2"
    keys = json.loads(SAMPLE)
    refused, stop, current = [], [], [old]

    def client():
        c = mine.external()
        while not stop:
            key = current[0]
            if infer(c, headers={"X-API-Key": key}).status_code != 200:
                refused.append(key)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        running = [pool.submit(client) for _ in range(2)]
        mine.write_keys({**keys, "valid_keys": keys["valid_keys"] + [new]})
        settle(lambda: infer(mine.external(new)), 200)
        current[0] = new
        time.sleep(0.1)
        mine.write_keys({**keys, "valid_keys": [new]})
        settle(lambda: infer(mine.external(old)), 401)
        time.sleep(0.2)
        stop.append(1)
        for f in running:
            f.result()
    assert not refused


@pytest.mark.parametrize("text,where", [('{\n  "valid_keys": ["demo-key-12345",\n  oops\n}\n', r"api_keys\.json:3:[3-7]\b"), ('{\n  "valid_keys": ["demo-key-12345"', r"api_keys\.json:2:\d+"), ("", r"api_keys\.json")])
def test_corrupt_file_fails_closed(mine, text, where):
    """S1-13: externals 401 even with a key that was good, locals 200, the log names the file, the line and the column; mending it heals."""
    assert infer(mine.external(SAMPLE_KEYS[0])).status_code == 200
    mine.write_keys(text)
    settle(lambda: infer(mine.external(SAMPLE_KEYS[0])), 401)
    assert infer(mine.client()).status_code == 200
    got = mine.wait_log(lambda r: re.search(where, json.dumps(r)) and r["level"] in ("warn", "error"))
    assert SAMPLE_KEYS[0] not in json.dumps(got)
    mine.write_keys(SAMPLE)
    settle(lambda: infer(mine.external(SAMPLE_KEYS[0])), 200)


@pytest.mark.parametrize("doc", [{"valid_keys": "demo-key-12345"}, {"valid_keys": [1]}, {"valid_keys": ["demo-key-12345"], "require_auth_for_external": "no"},
                                 {"valid_keys": ["demo-key-12345"], "local_networks": ["not a network"]}, ["demo-key-12345"]])
def test_wrong_types_fail_closed(mine, doc):
    """S1-13: a value of the wrong type never opens anything; the log names the member."""
    mine.write_keys(doc)
    settle(lambda: infer(mine.external("demo-key-12345")), 401)
    assert infer(mine.external()).status_code == 401 and infer(mine.client()).status_code == 200
    member = next(iter(reversed(doc))) if isinstance(doc, dict) else "api_keys.json"
    mine.wait_log(lambda r: member in json.dumps(r) and r["level"] in ("warn", "error"))


def test_corrupt_file_narrows_local_to_loopback(gate, worker):
    """DESIGN.md and the issue: void file, void networks; loopback remains."""
    g = gate(models=[model("qwen3", worker())], keys=False, api_keys={"valid_keys": ["k-1"], "local_networks": ["127.0.0.0/8"]})
    assert infer(g.external()).status_code == 200
    g.write_keys("{")
    settle(lambda: infer(g.external()), 401)
    assert infer(g.client()).status_code == 200


def test_missing_file_fails_closed(mine, gate, worker):
    """S1-13: removed while running, and absent from the start."""
    os.unlink(mine.dir / "api_keys.json")
    settle(lambda: infer(mine.external(SAMPLE_KEYS[0])), 401)
    assert infer(mine.client()).status_code == 200
    g = gate(models=[model("qwen3", worker())], keys=False)
    assert infer(g.external()).status_code == 401 and infer(g.client()).status_code == 200
    assert "api_keys.json" in g.log_text() + g.stderr()


@pytest.mark.parametrize("how", ["removed", "another"])
def test_a_reload_at_the_moment_the_file_goes(gate, worker, how):
    """The reload told the clock that looks at the file to look anew by turning round whether it had been there: together with its end that was a file that had never been there, and its keys stayed."""
    g = gate(models=[model("qwen3", worker())], keys=False, api_keys={**json.loads(SAMPLE), "require_auth_for_external": False})
    assert infer(g.external()).status_code == 200
    if how == "removed":
        os.unlink(g.dir / "api_keys.json")
    else:
        text = (g.dir / "tollgate.toml").read_text()
        (g.dir / "tollgate.toml").write_text(text.replace("[auth]", '[auth]\napi_keys_file = "other.json"') if "[auth]" in text else text + '\n[auth]\napi_keys_file = "other.json"\n')
    os.kill(g.pid, signal.SIGHUP)
    settle(lambda: infer(g.external()), 401)
    assert infer(g.external(SAMPLE_KEYS[0])).status_code == 401 and infer(g.client()).status_code == 200
    g.wait_log(lambda r: r["event"] == "keys.void")


def test_file_is_no_oracle_for_other_keys(gate, worker):
    """C-05: keys of the environment do not depend on the file's state."""
    g = gate(models=[model("qwen3", worker())], api_keys="{")
    assert infer(g.external(READ)).status_code == 200 and infer(g.external(ADMIN)).status_code == 200


# --- /infer ------------------------------------------------------------------------------------------------------------------------
def test_worker_sees_a_chat(g, w):
    """S1-24, S1-33: translated for an OpenAI worker; other members pass as they came."""
    r = infer(g.client(), {"model_name": "qwen3", "request_body": {"input": "hi", "max_new_tokens": 12, "temperature": 0.25, "seed": 7}})
    assert r.status_code == 200
    sent = w.last.json()
    assert w.last.path == "/v1/chat/completions" and sent["model"] == "qwen3"
    assert sent["messages"] == [{"role": "user", "content": "hi"}] and sent["max_tokens"] == 12 and sent["temperature"] == 0.25 and sent["seed"] == 7
    assert "max_new_tokens" not in sent and "input" not in sent


def test_infer_worker_gets_it_as_is(gate, worker):
    """S1-24: an `infer` worker sees the caller's own bytes, unknown members too, and its answer comes back."""
    w = worker()
    g = gate(models=[model("qwen3", w, protocol="infer")], keys=False, api_keys=SAMPLE)
    body = b'{ "model_name":"qwen3", "request_body":{"input":"h\\u00e9 \xf0\x9f\x98\x80","max_new_tokens":10,"session_id":"s1","images":["a"]}, "more":[1.50] }'
    r = g.client().post("/infer", content=body, headers={"Content-Type": "application/json"})
    assert r.status_code == 200 and r.json()["response"] == "hé 😀"
    assert w.last.path == "/infer" and w.last.body == body


SPECIAL = 'Complex input with special characters... "quotes" \\back\\slash\\ /slash \t tab \n newline \r\n é ß 漢字 😀 \u2028 \u0000 \x7f {"json":["in","side"]} <b>&amp;</b> %s %00 $(x) `y`'


def test_special_characters_survive(g):
    """S1-25: what goes in comes out, escaped or not."""
    for text in (SPECIAL, "😀" * 5000, "x" * 1_000_000):
        for ascii_only in (True, False):
            data = json.dumps({"model_name": "qwen3", "request_body": {"input": text, "max_new_tokens": 1000}}, ensure_ascii=ascii_only).encode()
            r = g.client().post("/infer", content=data, headers={"Content-Type": "application/json"})
            assert r.status_code == 200 and r.json()["response"] == text


def test_json_file_curl(g):
    """S1-25: the document's two commands, echo into a file and -d @file, as they stand."""
    script = """echo '{
  "model_name": "qwen3",
  "request_body": {
    "input": "Complex input with special characters...",
    "max_new_tokens": 1000
  }
}' > my_request.json
exec curl -q -s -S --noproxy '*' --interface %s --connect-to ::127.0.0.1:%d -X POST http://your-server-ip:9001/infer \\
  -H "Content-Type: application/json" \\
  -H "X-API-Key: demo-key-12345" \\
  -d @my_request.json
""" % (EXTERNAL, g.port)
    p = subprocess.run(["sh", "-c", script], cwd=g.dir, env=clean_env(), capture_output=True, timeout=30)
    assert json.loads(p.stdout)["response"] == "Complex input with special characters..."


def test_literal_curls(g):
    """S1-23, S1-24, S1-27 to S1-29: the document's commands, with its host names."""
    to = ["--connect-to", f"::127.0.0.1:{g.port}"]
    away = to + ["--interface", EXTERNAL]
    body = ["-H", "Content-Type: application/json", "-d", LITERAL]
    status, _, text = g.curl(*to, "-X", "POST", "http://127.0.0.1:9001/infer", *body)
    assert status == 200 and json.loads(text)["response"] == "Your input text here"
    assert g.curl(*away, "-X", "POST", "http://your-server-ip:9001/infer", *body, "-H", "X-API-Key: demo-key-12345")[0] == 200
    for key in ([], ["-H", "X-API-Key: your-api-key-here"]):
        status, headers, text = g.curl(*away, "-X", "POST", "http://your-server-ip:9001/infer", *body, *key)
        assert status == 401 and json.loads(text)["detail"] == DETAIL and headers["content-type"].startswith("application/json")


def test_content_type(g):
    """S1-26: /infer reads JSON whatever the content type says; what is no JSON is 400."""
    assert g.curl("-X", "POST", g.url + "/infer", "-d", LITERAL)[0] == 200
    assert g.client().post("/infer", content=LITERAL.encode()).status_code == 200
    assert g.client().post("/infer", content=LITERAL.encode(), headers={"Content-Type": "application/json; charset=utf-8"}).status_code == 200
    assert g.client().post("/infer", content=b"input=hello").status_code == 400


@pytest.mark.parametrize("body,status,field", [
    (b"", 400, None), (b"{", 400, None), (b"[]", 400, None), (b"null", 400, None), (b"\xff\xfe", 400, None), (b'{"model_name":"qwen3"}x', 400, None),
    ({"request_body": {"input": "x"}}, 400, "model_name"), ({"model_name": 5, "request_body": {"input": "x"}}, 400, "model_name"),
    ({"model_name": "qwen3"}, 400, "request_body"),
    ({"model_name": "qwen3", "request_body": "x"}, 400, "request_body"), ({"model_name": "qwen3", "request_body": {}}, 400, "request_body.input"),
    ({"model_name": "qwen3", "request_body": {"input": 5}}, 400, "request_body.input"),
    (b'{"model_name":"qwen3","model_name":"x","request_body":{"input":"x"}}', 400, "model_name")])
def test_bad_bodies(g, w, body, status, field):
    """S1-30: 4xx in JSON, with the field in the text and as error.param; the worker never sees it."""
    before = len(w.requests)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    r = g.client().post("/infer", content=data, headers={"Content-Type": "application/json"})
    assert r.status_code == status and r.json()["code"] == "VALIDATION_ERROR", r.text
    assert r.json()["detail"]
    if field:
        assert field in r.json()["detail"] and r.json()["error"]["param"] == field, r.text
    assert len(w.requests) == before


@pytest.mark.parametrize("value", [0, -1, 1.5, "10", None, [], True, 10**30])
def test_max_new_tokens(g, value):
    """S1-33: a bound that is none is told, not guessed."""
    r = infer(g.client(), {"model_name": "qwen3", "request_body": {"input": "x", "max_new_tokens": value}})
    assert r.status_code == 400 and "request_body.max_new_tokens" in r.json()["detail"], r.text


def test_unknown_model(g):
    """S1-30, C-27: 404 with the known names, for callers without a key too."""
    body = {"model_name": "nope", "request_body": {"input": "x"}}
    r = infer(g.client(SAMPLE_KEYS[0]), body)
    assert (r.status_code, r.json()["code"]) == (404, "MODEL_NOT_FOUND") and "qwen3" in r.text
    r = infer(g.client(), body)
    assert r.status_code == 404 and "qwen3" in r.json()["detail"]


def test_no_worker(gate):
    """S1-30: 503 with Retry-After when nothing listens there, and with no model at all."""
    g = gate(models=[model("qwen3", f"http://127.0.0.1:{free_port()}")], keys=False, api_keys=SAMPLE)
    r = infer(g.client())
    assert r.status_code == 503 and r.json()["code"] == "UNAVAILABLE" and int(r.headers["retry-after"]) >= 1, r.text
    assert "127.0.0.1" not in r.text, "the caller is not told where the worker lives"
    r = infer(gate(keys=False, api_keys=SAMPLE).client())
    assert r.status_code == 503 and "[[model]]" in r.text and "tollgate run" in r.text, r.text


def test_balancing(gate, worker):
    """S1-32: one at a time per worker, spread over all of them, the rest waits its turn."""
    ws = [worker().behave(delay=0.25) for _ in range(4)]
    g = gate(models=[model("qwen", *ws, slots=1, queue=16, queue_ms=8000)], keys=False, api_keys=SAMPLE)
    c = g.client()

    def one(i):
        return infer(c, {"model_name": "qwen", "request_body": {"input": str(i)}})
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        got = list(pool.map(one, range(8)))
    assert [r.status_code for r in got] == [200] * 8, [r.text for r in got]
    assert [r.json()["response"] for r in got] == [str(i) for i in range(8)]
    assert len({r.json()["load_balancer_worker_id"] for r in got}) == 4
    assert all(w.max_running == 1 and len(w.requests) == 2 for w in ws), [(w.max_running, len(w.requests)) for w in ws]


def test_aliases(gate, worker):
    """C-27: a model answers to its other names; the worker hears its own."""
    w = worker()
    g = gate(models=[model("qwen3", w, aliases=["qwen", "q3"], upstream_model="Qwen/Qwen3-0.6B")], keys=False, api_keys=SAMPLE)
    for name in ("qwen3", "qwen", "q3"):
        assert infer(g.client(), {"model_name": name, "request_body": {"input": "x"}}).status_code == 200
        assert w.last.json()["model"] == "Qwen/Qwen3-0.6B"


# --- server settings ---------------------------------------------------------------------------------------------------------------
def test_default_and_env_address(tmp_path):
    """S1-34 to S1-36: what is listened on with nothing set, with the host alone, with both."""
    for env, want in (({}, "127.0.0.1:9001"), ({"LOAD_BALANCER_HOST": "0.0.0.0"}, "0.0.0.0:9001"), ({"LOAD_BALANCER_PORT": "9777"}, "127.0.0.1:9777"),
                      ({"LOAD_BALANCER_HOST": "0.0.0.0", "LOAD_BALANCER_PORT": "9778"}, "0.0.0.0:9778")):
        p = run_cli("config", "show", cwd=tmp_path, env=env)
        assert p.returncode == 0 and want in p.stdout, (env, p.stdout, p.stderr)


def test_host_by_environment(gate, worker):
    """S1-02, S1-35: LOAD_BALANCER_HOST=0.0.0.0 really listens there, and a LAN caller needs a key."""
    g = gate(models=[model("qwen3", worker())], keys=False, api_keys=SAMPLE, env={"LOAD_BALANCER_HOST": "0.0.0.0"})
    assert any(a.startswith("0.0.0.0:") for a in g.addresses), g.addresses
    assert infer(g.client()).status_code == 200
    lan = lan_address()
    if lan is None:
        pytest.skip("this host has no address but loopback")
    assert infer(g.client(url=f"http://{lan}:{g.port}")).status_code == 401
    assert infer(g.client(SAMPLE_KEYS[0], url=f"http://{lan}:{g.port}")).status_code == 200


def test_default_port_really(gate):
    """S1-34: an empty configuration listens on 127.0.0.1:9001 and nowhere else."""
    import socket
    try:
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(("127.0.0.1", 9001))
    except OSError:
        pytest.skip("port 9001 is in use on this machine")
    g = gate(toml="")
    assert g.addresses == ["127.0.0.1:9001"]


# --- client examples ---------------------------------------------------------------------------------------------------------------
PYTHON_LOCAL = '''
import requests

# Local request (no API key needed)
response = requests.post(
    "http://127.0.0.1:9001/infer",
    json={
        "model_name": "qwen3",
        "request_body": {
            "input": "Your input here",
            "max_new_tokens": 1000
        }
    }
)
'''
PYTHON_EXTERNAL = '''
import requests

# External request (API key required)
response = requests.post(
    "http://your-server-ip:9001/infer",
    headers={"X-API-Key": "your-api-key-here"},
    json={
        "model_name": "qwen3",
        "request_body": {
            "input": "Your input here",
            "max_new_tokens": 1000
        }
    }
)
'''


def test_python_local_snippet(g, monkeypatch):
    """S1-43: the document's code with the port replaced."""
    pytest.importorskip("requests")
    monkeypatch.setenv("NO_PROXY", "*")
    ns = {}
    exec(PYTHON_LOCAL.replace("127.0.0.1:9001", f"127.0.0.1:{g.port}"), ns)
    assert ns["response"].status_code == 200 and ns["response"].json()["response"] == "Your input here"


def test_python_external_snippet(gate, worker, monkeypatch):
    """S1-44: the document's code against this host's LAN address."""
    pytest.importorskip("requests")
    lan = lan_address()
    if lan is None:
        pytest.skip("this host has no address but loopback")
    monkeypatch.setenv("NO_PROXY", "*")
    g = gate(models=[model("qwen3", worker())], keys=False, api_keys=SAMPLE, listen=["0.0.0.0:0"])
    for key, status in (("demo-key-12345", 200), ("your-api-key-here", 401)):
        ns = {}
        exec(PYTHON_EXTERNAL.replace("your-server-ip:9001", f"{lan}:{g.port}").replace("your-api-key-here", key), ns)
        assert ns["response"].status_code == status
    assert ns["response"].json()["detail"] == DETAIL


AXIOS = """
const axios = require('axios');
(async () => {
  const send = (key) => axios.post(process.argv[2] + '/infer', {
    model_name: 'qwen3',
    request_body: {
      input: 'Your input here',
      max_new_tokens: 1000
    }
  }, {
    headers: {
      'Content-Type': 'application/json',
      'X-API-Key': key
    }, proxy: false, localAddress: '127.0.0.2',
    httpAgent: new (require('http').Agent)({ localAddress: '127.0.0.2' })
  });
  const response = await send('demo-key-12345');
  let detail = null, status = null;
  try { await send('wrong'); } catch (error) { detail = error.response.data.detail; status = error.response.status; }
  console.log(JSON.stringify({ status: response.status, data: response.data, refused: status, detail }));
})();
"""


def axios_home():
    """A node_modules folder with axios in it, fetched once into build/; None with a reason."""
    if not shutil.which("node"):
        return None, "node is not installed"
    home = ROOT / "build" / "node"
    if not (home / "node_modules" / "axios").exists():
        if not shutil.which("npm"):
            return None, "npm is not installed and build/node has no axios"
        home.mkdir(parents=True, exist_ok=True)
        try:
            p = subprocess.run(["npm", "install", "--prefix", str(home), "--no-audit", "--no-fund", "--loglevel=error", "axios"], capture_output=True, text=True, timeout=90)
        except subprocess.TimeoutExpired:
            return None, "npm could not fetch axios in time"
        if p.returncode != 0:
            return None, "npm could not fetch axios: " + p.stderr[-200:]
    return home / "node_modules", None


def test_axios(g, tmp_path):
    """S1-45: the document's JavaScript; a refusal is readable at error.response.data.detail."""
    home, why = axios_home()
    if home is None:
        pytest.skip(why)
    (tmp_path / "t.cjs").write_text(AXIOS)
    p = subprocess.run(["node", str(tmp_path / "t.cjs"), g.url], capture_output=True, text=True, timeout=60, env={**clean_env(), "NODE_PATH": str(home)})
    assert p.returncode == 0, p.stderr
    got = json.loads(p.stdout)
    assert got["status"] == 200 and got["data"]["response"] == "Your input here"
    assert (got["refused"], got["detail"]) == (401, DETAIL)


def test_unauthorized_attempts_are_logged(g):
    """S1-50: who, when, where; never the key."""
    bad = "stolen-key-" + "q7" * 12
    r = infer(g.external(bad))
    got = g.wait_log(lambda x: x["request_id"] == r.headers["x-request-id"] and x["event"] == "auth.invalid_key")
    assert got["client"] == EXTERNAL and got["endpoint"] == "/infer" and got["method"] == "POST" and got["status"] == 401 and got["ts"]
    assert got["key_prefix"] == bad[:9] and bad not in g.log_text() and bad not in g.stderr()
    r = infer(g.external())
    assert g.wait_log(lambda x: x["request_id"] == r.headers["x-request-id"] and x["event"] == "auth.missing_key")["client"] == EXTERNAL
