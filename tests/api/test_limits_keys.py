"""A key's own limits ([limits] key_*), requests in flight, and what an answer's head tells of limits in three families of fields."""
import json
import time

import httpx
import pytest

from lib.gate import ADMIN, READ, model
from lib.limits import POLICY, STATE, flood, listed, seconds, window
from lib.raw import SLOW, Stream, chat, exchange, until
from lib.wire import request

JSON = {"Content-Type": "application/json"}
PROMPT = {"prompt": "x", "model": "m"}
CHAT = {"model": "m", "messages": [{"role": "user", "content": "x"}]}


def test_three_families_agree(gate, worker):
    """wire.md 4c, S2-32 to S2-34: the documents' three, OpenAI's and the IETF's tell the same, on /v1; elsewhere OpenAI's are left out."""
    g = gate(models=[model("m", worker())], toml={"limits": {"infer": "60/minute", "api": "5/hour"}})
    c = g.client(READ)
    r = c.post("/v1/chat/completions", json=CHAT)
    h = r.headers
    assert r.status_code == 200 and window(r)[:2] == (60, 59)
    assert (h["x-ratelimit-limit-requests"], h["x-ratelimit-remaining-requests"]) == ("60", "59") and 58 < seconds(h["x-ratelimit-reset-requests"]) <= 60
    assert "x-ratelimit-limit-tokens" not in h
    assert listed(h["ratelimit-policy"], POLICY) == {"infer": ("60", "60", None)}
    assert listed(h["ratelimit"], STATE)["infer"][0] == "59" and 58 < int(listed(h["ratelimit"], STATE)["infer"][1]) <= 60
    r = c.post("/api/v1/inference", json=PROMPT)
    assert window(r)[:2] == (5, 4) and "x-ratelimit-limit-requests" not in r.headers
    assert listed(r.headers["ratelimit-policy"], POLICY) == {"api": ("5", "3600", None)}
    r = c.get("/models/info")
    assert r.status_code == 200 and not [k for k in r.headers if "ratelimit" in k]


def test_streams_and_relayed_errors_tell_too(gate, worker):
    """S2-32: a relayed head is written in the same place."""
    w = worker()
    g = gate(models=[model("m", w)], toml={"limits": {"infer": "60/minute"}})
    c = g.client(READ)
    assert window(c.post("/v1/chat/completions", json={**CHAT, "stream": True}))[:2] == (60, 59)
    w.once(status=400, headers=[("X-RateLimit-Remaining", "7"), ("x-ratelimit-limit-requests", "8")])
    r = c.post("/v1/chat/completions", json=CHAT)
    assert r.status_code == 400 and window(r)[:2] == (60, 58) and r.headers["x-ratelimit-limit-requests"] == "60", "a worker's own do not pass"


def test_reset_stays_the_same_through_a_window(gate):
    """S2-34: one moment, told by every answer of either loop."""
    g = gate(toml={"limits": {"infer": "1000/minute"}})
    seen = set()
    for i in range(40):
        seen.add(int(g.client(READ).get("/v1/models").headers["x-ratelimit-reset"]))
        time.sleep(0.03)
    assert len(seen) == 1, seen
    assert time.time() < seen.pop() <= time.time() + 61


def test_what_is_forbidden_counts(gate):
    """S4-39: everything that passed authentication counts, a 403 and a 404 of a model too; what did not, does not."""
    g = gate(toml={"limits": {"infer": "6/minute"}}, env={"TOLLGATE_API_KEYS": "user-key-0123456789"})
    c = g.client("user-key-0123456789")
    assert c.get("/v1/models").status_code == 200
    assert window(c.get("/v1/models/none"))[1] == 4
    assert window(c.post("/v1/chat/completions", content=b"{", headers=JSON))[1] == 3
    assert c.get("/v1/nowhere").status_code == 404
    assert g.client("wrong").get("/v1/models").status_code == 401
    assert window(c.get("/v1/models"))[1] == 2
    g = gate(toml={"limits": {"poll": "3/minute"}}, env={"TOLLGATE_API_KEYS": "user-key-0123456789"})
    c = g.client("user-key-0123456789")
    assert [(r.status_code, window(r)[:2]) for r in (c.get("/jobs") for _ in range(4))] == [(403, (3, 2)), (403, (3, 1)), (403, (3, 0)), (429, (3, 0))]


def test_key_requests(gate, worker):
    """The issue: requests per window of a key, beside the class's; the tightest decides and fills the head (C-08)."""
    g = gate(models=[model("m", worker())], toml={"limits": {"key_requests": "4/hour", "api": "60/minute"}})
    c = g.client(READ)
    r = c.post("/api/v1/inference", json=PROMPT)
    assert window(r)[:2] == (4, 3) and window(r)[2] > time.time() + 3000, "the key's own is the tightest"
    assert listed(r.headers["ratelimit-policy"], POLICY) == {"api": ("60", "60", None), "key": ("4", "3600", None)}
    assert {k: v[0] for k, v in listed(r.headers["ratelimit"], STATE).items()} == {"api": "59", "key": "3"}
    assert window(c.post("/v1/chat/completions", json=CHAT))[:2] == (4, 2), "one window for all classes"
    assert [c.get("/v1/models").status_code for _ in range(3)] == [200, 200, 429]
    r = c.post("/api/v1/inference", json=PROMPT)
    assert r.status_code == 429 and window(r)[:2] == (4, 0) and int(r.headers["retry-after"]) > 3000
    assert r.headers["x-should-retry"] == "false", "no client waits that long"
    assert {k: v[0] for k, v in listed(r.headers["ratelimit"], STATE).items()} == {"api": "59", "key": "0"}, "what one refuses takes nothing of the others"
    assert g.client(ADMIN).get("/v1/models").status_code == 200, "each key has its own"
    assert g.client(READ).get("/models/info").status_code == 200, "routes without a class are not limited"


def test_retrying_soon_is_not_pointless(gate):
    """wire.md 4b: x-should-retry is said where it is false only."""
    g = gate(toml={"limits": {"infer": "1/minute"}})
    c = g.client(READ)
    r = [c.get("/v1/models") for _ in range(2)][1]
    assert r.status_code == 429 and "x-should-retry" not in r.headers and 1 <= int(r.headers["retry-after"]) <= 60
    state = listed(r.headers["ratelimit"], STATE)["infer"]
    assert state[0] == "0" and int(state[1]) <= int(r.headers["retry-after"])
    doc = r.json()["error"]
    assert (doc["type"], doc["code"]) == ("requests", "rate_limit_exceeded") and "1/minute" in doc["message"]


def test_openai_client(gate, worker):
    """wire.md 4b: the official client waits as told and goes on; without retries it raises RateLimitError and shows the head."""
    openai = pytest.importorskip("openai")
    g = gate(models=[model("m", worker())], toml={"limits": {"key_requests": "2/second"}})

    def client(retries):
        return openai.OpenAI(base_url=g.url + "/v1", api_key=READ, max_retries=retries, http_client=httpx.Client(trust_env=False, timeout=30))
    c, told = client(0), None
    for _ in range(3):
        try:
            c.chat.completions.create(**CHAT)
        except openai.RateLimitError as e:
            told = e
    assert told is not None and told.status_code == 429 and told.code == "rate_limit_exceeded" and told.response.headers["x-ratelimit-remaining-requests"] == "0"
    assert 0 < seconds(told.response.headers["x-ratelimit-reset-requests"]) <= 1
    c = client(5)
    for _ in range(5):
        assert c.chat.completions.create(**CHAT).choices
    assert any(r["status"] == 429 for r in g.requests(0.3))


# ------------------------------------------------------------------------------------------------ requests in flight

def test_in_flight(gate, worker):
    """peers.md 22: at most so many at once, of one key, over all loops; 429 with Retry-After 1; others go on."""
    w = worker().behave(chunks=200, pace=0.05)
    g = gate(models=[model("m", w)], toml={"limits": {"key_in_flight": 2}})
    a, b = Stream(g), Stream(g)
    a.event(), b.event()
    for _ in range(6):  # on either loop
        r = g.client(READ).post("/v1/chat/completions", json=CHAT)
        assert r.status_code == 429 and r.headers["retry-after"] == "1" and r.json()["code"] == "RATE_LIMITED", r.text
        assert listed(r.headers["ratelimit-policy"], POLICY) == {"key-in-flight": ("2", None, ';qu="concurrent-requests"')}
        assert listed(r.headers["ratelimit"], STATE) == {"key-in-flight": ("0", None)}
        assert "x-ratelimit-limit" not in r.headers and "x-should-retry" not in r.headers
    assert g.client(READ).get("/v1/models").status_code == 429
    assert g.client(ADMIN).get("/v1/models").status_code == 200
    a.vanish()
    until(lambda: g.client(READ).get("/v1/models").status_code == 200, 3 * SLOW, "the place of the one that left")
    b.close()
    assert {r["reason"] for r in g.requests(0.3) if r["status"] == 429} == {"too_many_in_flight"}
    assert 'tollgate_refusals_total{reason="too_many_in_flight"}' in g.client(ADMIN).get("/metrics").text


def test_in_flight_tells_the_windows(gate, worker):
    """The 429 for too many at once has the documents' three and OpenAI's of the route's window too, and takes nothing of it."""
    g = gate(models=[model("m", worker().behave(chunks=200, pace=0.05))], toml={"limits": {"key_in_flight": 1, "infer": "50/minute"}})
    a = Stream(g)
    a.event()
    for _ in range(3):
        r = g.client(READ).post("/v1/chat/completions", json=CHAT)
        assert r.status_code == 429 and r.headers["retry-after"] == "1" and "at once" in r.json()["message"]
        assert (r.headers["x-ratelimit-limit"], r.headers["x-ratelimit-remaining"]) == ("50", "49") and 0 < int(r.headers["x-ratelimit-reset"]) - time.time() < 62
        assert r.headers["x-ratelimit-remaining-requests"] == "49"
        assert listed(r.headers["ratelimit"], STATE).keys() == {"key-in-flight", "infer"}
    a.close()


ENDS = {
    "answer": {},
    "answer, closed": dict(close=True),
    "error": dict(status=500),
    "no answer": dict(drop=True),
    "cut head": dict(cut_head=True),
    "cut body": dict(stop_after=3),
    "rubbish": dict(raw=b"hello\r\n"),
}


def free(g):
    """Its one place is free: at once, on whichever loop."""
    for _ in range(4):
        r = g.client(READ).get("/v1/models")
        assert r.status_code == 200, r.text


@pytest.mark.parametrize("end", ENDS)
def test_in_flight_is_given_back(gate, worker, end):
    """Exactly once, however the exchange ends: none is lost, and none given back twice (or two would fit)."""
    w = worker()
    g = gate(models=[model("m", w, first_byte_ms=300, idle_ms=300)], toml={"limits": {"key_in_flight": 1}})
    for stream in (False, True):
        for _ in range(3):
            w.once(**ENDS[end])
            try:
                g.client(READ).post("/v1/chat/completions", json={**CHAT, "stream": stream})
            except httpx.HTTPError:
                pass
            w.behave()
            free(g)
    w.behave(chunks=100, pace=0.05)
    s = Stream(g)
    s.event()
    assert g.client(READ).get("/v1/models").status_code == 429
    s.close()


def test_in_flight_is_given_back_when_the_gate_refuses(gate, worker):
    """Bodies that are no JSON, unknown models, bodies that are never sent, queues that are full or too slow, clients that leave in each phase."""
    w = worker()
    g = gate(models=[model("m", w, slots=1, queue=1, queue_ms=200, first_byte_ms=400)], toml={"limits": {"key_in_flight": 1}, "server": {"body_idle_ms": 200}})
    c = g.client(READ)
    for body in (b"{", b'{"model":"none","messages":[]}', b'{"model":"m"}', b'{"model":"m","messages":[],"stream":7}'):
        assert c.post("/v1/chat/completions", content=body, headers=JSON).status_code in (400, 404)
        free(g)
    assert c.post("/v1/chat/completions", content=b"x", headers={"Content-Type": "text/plain"}).status_code == 415
    free(g)
    begun = request("POST", "/v1/chat/completions", [("X-API-Key", READ), ("Content-Type", "application/json"), ("Content-Length", "5000")]) + b"{"
    exchange(g, begun, timeout=3 * SLOW)  # the gate's clock ends it
    free(g)
    with g.connect() as s:  # the client does
        s.sendall(begun)
        until(lambda: g.client(READ).get("/v1/models").status_code == 429, 3 * SLOW, "the body being awaited")
    until(lambda: g.client(READ).get("/v1/models").status_code == 200, 3 * SLOW, "the place of the one that left")
    w.behave(hang=True)
    assert c.post("/v1/chat/completions", json=CHAT).status_code == 504
    free(g)
    s = Stream(g, stream=False)
    w.wait(2)
    s.vanish()
    until(lambda: g.client(READ).get("/v1/models").status_code == 200, 3 * SLOW, "the place of the one that left")
    # Another key has the only slot: ours waits in the queue, and gives up.
    other = Stream(g, key=ADMIN)
    w.wait(3)
    assert c.post("/v1/chat/completions", json=CHAT).status_code == 503
    free(g)
    other.vanish()


def test_in_flight_ends_with_done(gate, worker):
    """A client takes a stream for over at [DONE], and may ask again at once, whatever its worker still has to send."""
    w = worker().once(events=[b'data: {"choices":[]}\n\n', b"data: [DONE]\n\n", b": more\n\n"], hang_after=2)
    g = gate(models=[model("m", w)], toml={"limits": {"key_in_flight": 1}})
    with Stream(g) as s:
        assert s.event() and s.event() == b"data: [DONE]"
        free(g)


def test_in_flight_of_many(gate, worker):
    """200 at once, five may: the worker never sees more, and afterwards all five places are there."""
    w = worker().behave(delay=0.05)
    g = gate(models=[model("m", w)], toml={"limits": {"key_in_flight": 5}})
    wire = request("POST", "/v1/chat/completions", [("X-API-Key", READ), ("Content-Type", "application/json"), ("Connection", "close")], json.dumps(CHAT))
    got = flood(g, 200, wire)
    assert set(got) == {200, 429} and got.count(200) >= 5 and w.max_running <= 5, (got.count(200), w.max_running)
    w.behave(chunks=100, pace=0.05)
    streams = [Stream(g) for _ in range(5)]
    assert all(s.head().status == 200 for s in streams)
    assert exchange(g, chat(headers=[("Connection", "close")])).statuses == [429]
    for s in streams:
        s.close()


def test_key_limits_change_with_a_reload(gate, worker):
    g = gate(models=[model("m", worker())], toml={"limits": {"key_requests": "1/hour"}})
    assert [g.client(READ).get("/v1/models").status_code for _ in range(2)] == [200, 429]
    g.write_config(toml={"limits": {"key_requests": "3/hour"}})
    g.reload()
    assert [g.client(READ).get("/v1/models").status_code for _ in range(3)] == [200, 200, 429], "what the window has counted stays"
    g.write_config(toml={})
    g.reload()
    r = g.client(READ).get("/v1/models")
    assert r.status_code == 200 and not [k for k in r.headers if "ratelimit" in k]
