"""
Tokens per minute: reserved before, settled after, whatever becomes of the request. What is left is read from the head of a request that uses none.
Bound of docs/limits.md: what a window's requests use <= limit + N * e (N in flight at once, e: the most that one uses beyond its reservation).
"""
import json
import threading
import time

import httpx
import pytest

from lib.gate import ADMIN, READ, free_port, model
from lib.limits import POLICY, listed, seconds, window
from lib.raw import SLOW, Stream, chat_body, until
from test_relay import in_threads

JSON = {"Content-Type": "application/json"}
LIMIT = 1000
BYTES = 4  # reserve_bytes


def prompt(body):
    return -(-len(body) // BYTES)


def limits(**more):
    return {"limits": {"key_tokens_per_minute": LIMIT, **more}}


def ask(g, key=READ, path="/v1/chat/completions", body=None, **more):
    return g.client(key).post(path, content=body or chat_body(**more), headers=JSON)


PROBE = b'{"model":"m","input":"x"}'


def left(g, w, key=READ):
    """Tokens left in the key's minute, told to a request that reserves a few and uses none."""
    w.once(prompt_tokens=0)
    def one():
        r = g.client(key).post("/v1/embeddings", content=PROBE, headers=JSON)
        return r if r.status_code != 503 else None  # after a fault the worker is looked at first
    r = until(one, 5 * SLOW, "the worker being back")
    assert r.status_code == 200, r.text
    return int(r.headers["x-ratelimit-remaining-tokens"]) + prompt(PROBE)


@pytest.fixture
def w(worker):
    return worker()


@pytest.fixture
def g(gate, w):
    return gate(models=[model("m", w, slots=1, queue=1, queue_ms=200, first_byte_ms=500, idle_ms=500)], toml=limits())


def test_reserved_then_settled(g, w):
    """The reservation is the body's bytes and max_tokens; what remains afterwards is the worker's count: exactly."""
    body = chat_body(max_tokens=100)
    r = ask(g, body=body)
    assert r.status_code == 200
    h = r.headers
    assert (h["x-ratelimit-limit-tokens"], int(h["x-ratelimit-remaining-tokens"])) == ("1000", LIMIT - prompt(body) - 100) and 58 < seconds(h["x-ratelimit-reset-tokens"]) <= 60
    assert window(r)[:2] == (LIMIT, LIMIT - prompt(body) - 100), "no window of requests applies: the documents' three are of tokens"
    assert listed(h["ratelimit-policy"], POLICY) == {"key-tokens": ("1000", "60", ';tollgate-unit="tokens"')}
    assert left(g, w) == LIMIT - 12
    w.once(prompt_tokens=3, completion_tokens=200)
    ask(g, max_tokens=50)
    assert left(g, w) == LIMIT - 12 - 203, "more than was reserved counts all the same"
    assert g.client(READ).get("/v1/models").headers.get("x-ratelimit-limit-tokens") is None
    assert left(g, w, ADMIN) == LIMIT, "each key has its own"
    text = g.client(ADMIN).get("/metrics").text
    assert "\ntollgate_tokens_settled_total 215\n" in text and "\ntollgate_tokens_reserved_total " in text


@pytest.mark.parametrize("more, answer", [
    (dict(max_tokens=7), 7), (dict(max_completion_tokens=9), 9), (dict(max_tokens=7, max_completion_tokens=9), 9), (dict(max_tokens=20, n=3), 60),
    (dict(max_tokens=1e1), 10), (dict(), 250), (dict(max_tokens=-1), 250), (dict(max_tokens=None), 250), (dict(n=2), 500), (dict(max_tokens=0), 250)])
def test_what_a_request_reserves(g, more, answer):
    """A quarter of the limit where no maximum is named; n answers are n times as many."""
    body = chat_body(**more)
    assert int(ask(g, body=body).headers["x-ratelimit-remaining-tokens"]) == LIMIT - prompt(body) - answer


def test_other_routes_reserve_too(g, w):
    """001's max_new_tokens, 002's max_tokens; embeddings have a prompt only; a legacy completion its best_of."""
    for path, doc, answer in (("/infer", {"model_name": "m", "request_body": {"input": "x", "max_new_tokens": 33, "max_tokens": 5}}, 33),
                              ("/infer", {"model_name": "m", "request_body": {"input": "x", "max_tokens": 34}}, 34), ("/infer", {"model_name": "m", "request_body": {"input": "x"}}, 250),
                              ("/api/v1/inference", {"model": "m", "prompt": "x", "max_tokens": 35, "n": 9}, 35), ("/v1/completions", {"model": "m", "prompt": "x", "max_tokens": 10, "n": 1, "best_of": 3}, 30),
                              ("/v1/embeddings", {"model": "m", "input": "x", "max_tokens": 99}, 0)):
        body, before = json.dumps(doc).encode(), left(g, w)
        r = ask(g, path=path, body=body)
        assert r.status_code == 200
        # Of several limits the documents' three show requests; the IETF field shows all.
        state = dict(x.split(";")[:2] for x in r.headers["ratelimit"].split(", "))
        assert int(state['"key-tokens"'][2:]) == before - prompt(body) - answer, path
        used = 7 if path == "/v1/embeddings" else 12
        assert left(g, w) == before - used, path


def test_given_twice_is_refused(g, w):
    """Two maxima of one name: which of them the worker takes is nobody's guess."""
    r = ask(g, body=b'{"model":"m","messages":[],"max_tokens":1,"max_tokens":900}')
    assert r.status_code == 400 and "max_tokens" in r.text and not w.requests


@pytest.mark.parametrize("path, doc, field", [("/v1/chat/completions", {"messages": [], "n": "100", "max_tokens": 10}, "n"), ("/v1/chat/completions", {"messages": [], "max_tokens": "10"}, "max_tokens"),
                                              ("/v1/chat/completions", {"messages": [], "max_completion_tokens": [10]}, "max_completion_tokens"),
                                              ("/v1/completions", {"prompt": "x", "best_of": True}, "best_of"), ("/api/v1/inference", {"prompt": "x", "max_tokens": {}}, "max_tokens"),
                                              ("/infer", {"request_body": {"input": "x", "max_new_tokens": "33"}}, "max_new_tokens")])
def test_a_count_that_is_no_number_is_refused(g, w, path, doc, field):
    """Workers take "100" for 100, and so would have answered a hundred times what one answer reserves. null is none."""
    doc = {"model_name" if path == "/infer" else "model": "m", **doc}
    r = ask(g, path=path, body=json.dumps(doc).encode())
    assert r.status_code == 400 and field in r.text and "must be a number" in r.text and not w.requests, r.text
    if path != "/infer":  # which takes no null for a number either
        assert ask(g, path=path, body=json.dumps({**doc, field: None}).encode()).status_code == 200
    assert ask(g, path="/v1/embeddings", body=b'{"model":"m","input":"x","n":"2"}').status_code == 200, "embeddings have no answer to bound"


# ------------------------------------------------------------------------------------------------ the ways a request ends

def test_stream_is_settled_by_its_usage(g, w):
    w.behave(prompt_tokens=20, completion_tokens=30)
    s = Stream(g)
    assert int(s.head().headers["x-ratelimit-remaining-tokens"]) < LIMIT - 250
    s.rest()
    w.behave()
    assert left(g, w) == LIMIT - 50


def test_without_usage_what_passed_is_counted(g, w):
    """A stream: its events and the reckoned prompt. Another answer: its bytes, never more than reserved."""
    body = chat_body(stream=True)
    w.once(usage=False, chunks=6)
    ask(g, body=body)
    assert left(g, w) == LIMIT - prompt(body) - 7
    body, before = chat_body(text="z" * 100), left(g, w)
    w.once(usage=False)
    r = ask(g, body=body)
    assert left(g, w) == before - prompt(body) - len(r.content) // BYTES
    body, before = chat_body(max_tokens=3), left(g, w)
    w.once(usage=False, text="y" * 500)
    ask(g, body=body)
    assert left(g, w) == before - prompt(body) - 3


@pytest.mark.parametrize("fault, status", [(dict(drop=True), 502), (dict(status=500), 500), (dict(status=400), 400), (dict(raw=b"rubbish\r\n\r\n"), 502), (dict(cut_head=True), 502), (dict(hang=True), 504),
                                           (dict(body=b'{"error":{}}', status=404), 404)])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_failures_cost_nothing(g, w, fault, status, stream):
    """A worker that does not answer, or answers with an error, gives everything back."""
    w.behave(**fault)
    assert ask(g, stream=stream).status_code == status
    w.behave()
    assert left(g, w) == LIMIT


def test_refusals_cost_nothing(gate, g, w):
    """What never reached a worker: no worker, a queue that is full or too slow, bad bodies after the key was known."""
    w.behave(hang=True)
    blocked = Stream(g, key=ADMIN, stream=False)
    w.wait(1)
    assert ask(g).status_code == 503
    w.behave()
    blocked.vanish()
    until(lambda: not w.running, 5 * SLOW, "the worker being free")
    assert ask(g, body=b'{"model":"m","messages":7}').status_code == 400
    assert left(g, w) == LIMIT
    away = gate(models=[model("m", f"http://127.0.0.1:{free_port()}")], toml=limits())
    assert [ask(away, max_tokens=900).status_code for _ in range(3)] == [503] * 3


def test_client_leaves_in_the_middle(g, w):
    """Disconnects settle what was relayed: the prompt as reckoned, and the events that passed."""
    w.behave(chunks=100, pace=0.02)
    s = Stream(g, text="tell me", max_tokens=200)
    for _ in range(3):
        s.event()
    s.vanish()
    rec = g.wait_log(lambda r: r["reason"] == "client_gone")
    w.behave()
    assert 3 <= rec["completion_tokens"] < 100
    body = chat_body(text="tell me", stream=True, max_tokens=200)
    assert left(g, w) == LIMIT - prompt(body) - rec["completion_tokens"]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_client_leaves_before_the_answer(g, w, stream):
    """The worker was at it: the prompt is paid."""
    w.behave(delay=10)
    s = Stream(g, stream=stream, max_tokens=200)
    w.wait(1)
    s.vanish()
    g.wait_log(lambda r: r["reason"] == "client_gone")
    w.behave()
    assert left(g, w) == LIMIT - prompt(chat_body(stream=stream, max_tokens=200))


def test_worker_breaks_off_a_stream(g, w):
    w.once(chunks=50, stop_after=4)
    body = chat_body(stream=True)
    r = ask(g, body=body)
    assert r.status_code == 200 and "error" in r.text
    rec = g.record(r)
    assert rec["partial"] and left(g, w) == LIMIT - prompt(body) - rec["completion_tokens"]


# ------------------------------------------------------------------------------------------------ refusals

def test_refused_until_the_window_ends(g, w):
    """429 with what is missing; Retry-After is the window's end; type and code as OpenAI's."""
    w.once(prompt_tokens=400, completion_tokens=400)
    assert ask(g, max_tokens=500).status_code == 200
    r = ask(g, max_tokens=300)
    assert r.status_code == 429 and r.json()["code"] == "RATE_LIMITED" and (r.json()["error"]["type"], r.json()["error"]["code"]) == ("tokens", "rate_limit_exceeded")
    assert 50 < int(r.headers["retry-after"]) <= 60 and "x-should-retry" not in r.headers and r.headers["x-ratelimit-remaining-tokens"] == "200"
    assert "200 of 1000" in r.json()["detail"]
    assert g.record(r)["reason"] == "tokens_limited" and len(w.requests) == 1, "the worker heard nothing of it"
    assert ask(g, max_tokens=100).status_code == 200, "a smaller one fits"


@pytest.mark.parametrize("more", [dict(max_tokens=1000), dict(text="x" * 5000), dict(max_tokens=10 ** 25), dict(max_tokens=1e9), dict(max_tokens=100, n=11)])
def test_what_never_fits_is_not_tried_again(g, w, more):
    """wire.md 4b: x-should-retry: false; the official client raises at once."""
    r = ask(g, **more)
    assert r.status_code == 429 and r.headers["x-should-retry"] == "false" and int(r.headers["retry-after"]) >= 1
    assert r.json()["error"]["type"] == "tokens" and g.record(r)["reason"] == "tokens_never_fit"
    assert left(g, w) == LIMIT and len(w.requests) == 1
    openai = pytest.importorskip("openai")
    c = openai.OpenAI(base_url=g.url + "/v1", api_key=READ, max_retries=3, http_client=httpx.Client(trust_env=False, timeout=30))
    with pytest.raises(openai.RateLimitError):
        c.chat.completions.create(model="m", messages=[{"role": "user", "content": more.get("text", "hello")}], **{k: v for k, v in more.items() if k != "text"})
    assert sum(r["reason"] == "tokens_never_fit" for r in g.requests(0.3)) == 2


# ------------------------------------------------------------------------------------------------ the bound

def used(g):
    return sum((r["prompt_tokens"] or 0) + (r["completion_tokens"] or 0) for r in g.requests(0.4) if r["status"] == 200)


@pytest.mark.parametrize("named", [True, False], ids=["max_tokens named", "not named"])
def test_overshoot_is_bounded(gate, worker, named):
    """peers.md 4, 21: 16 callers at once, over both loops, for as long as anything passes; the sum of what they used keeps to the stated bound, and to the limit itself where
    max_tokens is named and the prompt is never reckoned too low."""
    callers, says = 16, 60
    w = worker().behave(delay=0.02, prompt_tokens=20, completion_tokens=says)
    g = gate(models=[model("m", w)], toml=limits(key_tokens_per_minute=3000, reserve_bytes=1 if named else 4, reserve_tokens=5))
    body = chat_body(**(dict(max_tokens=says) if named else {}))
    reserved = len(body) + says if named else prompt(body) + 5
    e = max(0, 20 + says - reserved)
    assert (e == 0) == named

    def one():
        got = []
        while got.count(429) < 30 and len(got) < 300:  # what others hold may come back
            got.append(ask(g, body=body).status_code)
            time.sleep(0.01 if got[-1] == 429 else 0)
        return got
    got = sum(in_threads([one] * callers), [])
    assert set(got) == {200, 429}
    assert 3000 - reserved - 80 <= used(g) <= 3000 + callers * e, (used(g), reserved, e)
    if named:
        assert used(g) <= 3000
    else:
        assert used(g) > 3000 - reserved


def test_overshoot_is_bounded_with_faults(gate, worker):
    """The same with streams that their clients leave, workers that fail and answers without usage: nothing leaks (or the limit would shrink), nothing is charged twice."""
    w = worker()
    g = gate(models=[model("m", w)], toml=limits(key_tokens_per_minute=20000, reserve_bytes=1))
    kinds, lock, sums = ["ok", "stream", "leave", "fail", "silent"], threading.Lock(), {"paid": 0, "events": 0}
    w.behave(by=lambda r: {"leave": dict(chunks=60, pace=0.01), "fail": dict(status=500), "silent": dict(usage=False), "stream": dict(chunks=3)}.get(
        r.json()["messages"][0]["content"], {}))

    def one(k):
        def run():
            for i in range(15):
                kind = kinds[(i + k) % 5]
                body = chat_body(text=kind, max_tokens=64, **({"stream": True} if kind in ("stream", "leave") else {}))
                if kind == "leave":
                    s = Stream(g, data=b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (READ.encode(), len(body)) + body)
                    if s.head().status == 200:
                        s.event(), s.event()
                        with lock:
                            sums["paid"] += len(body)
                    s.vanish()
                    continue
                r = ask(g, body=body)
                with lock:
                    if r.status_code == 200:
                        sums["paid"] += {"ok": 12, "stream": 12, "silent": min(len(body) + 64, len(body) + len(r.content))}[kind]
                    else:
                        assert r.status_code == (500 if kind == "fail" else 429), r.text
        return run
    in_threads([one(k) for k in range(12)])
    until(lambda: not w.running, 5 * SLOW, "the worker being free")
    time.sleep(0.3)
    events = sum(r["completion_tokens"] or 0 for r in g.requests(0.3) if r["reason"] == "client_gone")
    w.behave(prompt_tokens=0)
    r = g.client(READ).post("/v1/embeddings", content=PROBE, headers=JSON)
    assert int(r.headers["x-ratelimit-remaining-tokens"]) + len(PROBE) == 20000 - sums["paid"] - events
