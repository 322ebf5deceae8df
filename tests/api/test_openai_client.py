"""The official OpenAI client against the gate, as a user would have it: base_url, api_key, nothing else. No retries: each answer is the gate's first."""
import json

import httpx
import pytest

openai = pytest.importorskip("openai")

from lib.gate import ADMIN, READ, free_port, model  # noqa: E402
from lib.wire import sse  # noqa: E402

HELLO = [{"role": "user", "content": "Héllo 😀 \"quoted\" \\ back"}]
TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "w", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]
CALLS = '[{"id": "call_1","type":"function" ,"function":{"name":"get_weather","arguments":"{\\"city\\": \\"Z\\u00fcrich\\",  \\"n\\": 1.0}"}}]'


@pytest.fixture(scope="module")
def w(module_worker):
    return module_worker()


@pytest.fixture(scope="module")
def g(module_gate, w):
    return module_gate(models=[model("qwen3", w, aliases=["qwen"]), model("away", f"http://127.0.0.1:{free_port()}")])


def sdk(g, key=READ):
    return openai.OpenAI(base_url=g.url + "/v1", api_key=key, max_retries=0, http_client=httpx.Client(trust_env=False, timeout=30))


@pytest.fixture(scope="module")
def c(g):
    return sdk(g)


def test_plain(c, w):
    """S0-17 with the real client."""
    r = c.chat.completions.create(model="qwen3", messages=HELLO, temperature=0.3, max_tokens=20)
    assert r.choices[0].message.content == HELLO[0]["content"] and r.usage.total_tokens == 12
    sent = w.last.json()
    assert sent["temperature"] == 0.3 and sent["max_tokens"] == 20 and sent["messages"] == HELLO
    assert r._request_id == w.last.header("x-request-id")


def test_worker_never_sees_the_callers_key(c, g, w):
    """The upstream request is rebuilt: our caller's credentials, cookies and accept-encoding stay here."""
    c.chat.completions.create(model="qwen3", messages=HELLO, extra_headers={"X-API-Key": READ, "Cookie": "api_key=" + READ, "X-Custom": "1"})
    names = {k.lower() for k, _ in w.last.headers}
    assert not names & {"authorization", "x-api-key", "cookie", "accept-encoding", "proxy-authorization"}
    assert READ.encode() not in w.last.head + w.last.body


def test_worker_gets_its_own_key(gate, worker):
    """The model's api_key is what the worker sees."""
    w = worker()
    g = gate(models=[model("qwen3", w, api_key="worker-secret-1")])
    sdk(g).chat.completions.create(model="qwen3", messages=HELLO)
    assert w.last.all("authorization") == ["Bearer worker-secret-1"]


def test_streaming(c, w):
    """S0-17 streamed: usage is asked of the worker and cut from a client who did not ask."""
    w.once(chunks=7)
    got = list(c.chat.completions.create(model="qwen3", messages=HELLO, stream=True))
    assert "".join(x.choices[0].delta.content or "" for x in got) == HELLO[0]["content"]
    assert all(x.choices for x in got) and all(not x.usage for x in got) and got[-1].choices[0].finish_reason == "stop"
    assert w.last.json()["stream_options"]["include_usage"] is True


def test_streaming_with_usage(c):
    """wire.md 4d: the last chunk has no choices and the usage."""
    got = list(c.chat.completions.create(model="qwen3", messages=HELLO, stream=True, stream_options={"include_usage": True}))
    assert got[-1].choices == [] and got[-1].usage.total_tokens == 12 and all(x.choices for x in got[:-1])


def test_stream_reaches_the_client_as_it_is_made(c, w):
    """First event before the last one is made: nothing is held back."""
    import time
    w.once(chunks=5, pace=0.2)
    start, times = time.monotonic(), []
    for _ in c.chat.completions.create(model="qwen3", messages=HELLO, stream=True):
        times.append(time.monotonic() - start)
    assert times[0] < 0.2 and times[-1] > 0.8, times
    assert all(abs(t - i * 0.2) < 0.15 for i, t in enumerate(times[:5])), times


def test_tool_calls_plain(c, g, w):
    """Tool calls pass byte for byte: what the worker wrote is what the client reads, and what the client wrote is what the worker reads."""
    w.once(tool_calls=CALLS)
    r = c.chat.completions.create(model="qwen3", messages=HELLO, tools=TOOLS, tool_choice="auto")
    call = r.choices[0].message.tool_calls[0]
    assert call.function.name == "get_weather" and call.function.arguments == '{"city": "Zürich",  "n": 1.0}' and r.choices[0].finish_reason == "tool_calls"
    assert w.last.json()["tools"] == TOOLS
    body = b'{"tools" : [ {"type":"function","function":{"name":"f\\u0041","parameters":{"x":1.50e0}}} ],\n\t"messages":[],"model":"qwen3" ,"n":1}'
    w.once(tool_calls=CALLS)
    r = g.client(READ).post("/v1/chat/completions", content=body, headers={"Content-Type": "application/json"})
    assert w.last.body == body and CALLS in r.text


def test_tool_calls_streamed(c, w):
    """The same in a stream."""
    w.once(tool_calls=CALLS)
    got = list(c.chat.completions.create(model="qwen3", messages=HELLO, tools=TOOLS, stream=True))
    assert got[0].choices[0].delta.tool_calls[0].function.arguments == '{"city": "Zürich",  "n": 1.0}' and got[-1].choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize("stream", [False, True])
def test_answer_bytes_are_the_workers(g, w, stream):
    """What the gate answers is what the worker answers, byte for byte, when the client asked for the usage itself."""
    doc = {"model": "qwen3", "messages": HELLO, "stream": stream, **({"stream_options": {"include_usage": True}} if stream else {})}
    with httpx.Client(trust_env=False) as direct:
        want = direct.post(w.url + "/v1/chat/completions", json=doc)
    got = g.client(READ).post("/v1/chat/completions", json=doc)
    assert got.content == want.content and got.headers["content-type"] == want.headers["content-type"]


@pytest.mark.parametrize("sizes", [[1], [3], [7], [64], [5000]])
def test_usage_cut_whatever_the_reads(g, w, sizes):
    """The usage event is cut wherever the worker's writes fall; everything else passes unchanged; CRLF and comments too."""
    keep = [b": ping\r\n\r\n", b'data: {"id":"1","choices":[{"index":0,"delta":{"content":"a"}}],"usage":null}\n\n', b'data: {"choices":[{"index":0,"delta":{"content":"\\"usage\\": {\\"choices\\":[]}"}}]}\r\n\r\n']
    cut = b'data: {"id":"1","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}\n\n'
    whole = keep[0] + keep[1] + keep[2] + cut + b"data: [DONE]\n\n"
    n = sizes[0]
    w.once(events=[whole[i:i + n] for i in range(0, len(whole), n)])
    r = g.client(READ).post("/v1/chat/completions", json={"model": "qwen3", "messages": HELLO, "stream": True})
    assert r.content == whole.replace(cut, b"")
    assert g.record(r)["completion_tokens"] == 4
    w.once(events=[whole[i:i + n] for i in range(0, len(whole), n)])
    r = g.client(READ).post("/v1/chat/completions", json={"model": "qwen3", "messages": HELLO, "stream": True, "stream_options": {"include_usage": True}})
    assert r.content == whole


def test_completions(c, w):
    """/v1/completions, plain and streamed."""
    assert c.completions.create(model="qwen3", prompt="once upon").choices[0].text == "once upon" and w.last.path == "/v1/completions"
    assert "".join(x.choices[0].text for x in c.completions.create(model="qwen3", prompt="once upon", stream=True) if x.choices) == "once upon"


def test_embeddings(c, g, w):
    """/v1/embeddings; its usage has no completion tokens."""
    r = c.embeddings.with_raw_response.create(model="qwen3", input=["a", "bc"], encoding_format="float")
    assert [x.embedding for x in r.parse().data] == [[0.25, -0.5, 1.0], [0.25, -0.5, 2.0]] and w.last.path == "/v1/embeddings"
    got = g.record(r.headers["x-request-id"])
    assert got["prompt_tokens"] == 7 and got["endpoint"] == "/v1/embeddings"


def test_models(c):
    """wire.md 4f: list and one."""
    got = c.models.list().data
    assert {"qwen3", "away"} <= {m.id for m in got} and all(m.object == "model" and isinstance(m.created, int) and m.owned_by for m in got)
    assert c.models.retrieve("qwen3").id == "qwen3"
    with pytest.raises(openai.NotFoundError):
        c.models.retrieve("nope")


def test_alias(c, w):
    """C-27."""
    assert c.chat.completions.create(model="qwen", messages=HELLO).choices[0].message.content == HELLO[0]["content"]
    assert w.last.json()["model"] == "qwen3"


def fault(exc, status, code, kind, param=None):
    e = exc.value
    assert e.status_code == status and e.code == code and e.type == kind and e.param == param, (e.status_code, e.code, e.type, e.param, e.body)
    assert e.request_id and isinstance(e.body["message"], str) and e.body["message"]


def test_authentication_error(g):
    """wire.md 4a, S0-09: with a wrong key."""
    for call in (lambda k: sdk(g, k).chat.completions.create(model="qwen3", messages=HELLO), lambda k: sdk(g, k).models.list(),
                 lambda k: sdk(g, k).chat.completions.create(model="qwen3", messages=HELLO, stream=True)):
        with pytest.raises(openai.AuthenticationError) as e:
            call("wrong-key")
        fault(e, 401, "invalid_api_key", "invalid_request_error")


def test_not_found_error(c):
    """wire.md 4a: unknown model, with the known names for a caller who may list them."""
    with pytest.raises(openai.NotFoundError) as e:
        c.chat.completions.create(model="gpt-nope", messages=HELLO)
    fault(e, 404, "model_not_found", "invalid_request_error")
    assert "qwen3" in e.value.body["message"]


@pytest.mark.parametrize("extra,param", [({"model": 5}, "model"), ({"model": None}, "model"), ({"stream": "yes"}, "stream"), ({"stream": 1}, "stream"), ({"stream_options": 7, "stream": True}, "stream_options")])
def test_bad_request_error(c, extra, param):
    """The issue, "Bad input gets": a wrong type names its field."""
    with pytest.raises(openai.BadRequestError) as e:
        c.chat.completions.create(model="qwen3", messages=HELLO, extra_body=extra)
    assert e.value.param == param and e.value.type == "invalid_request_error" and param in e.value.body["message"], e.value.body


def test_rate_limit_error(gate, worker):
    """wire.md 4a, S2-36: the third of "2/minute"."""
    g = gate(models=[model("qwen3", worker())], toml={"limits": {"infer": "2/minute"}})
    c = sdk(g)
    for _ in range(2):
        c.chat.completions.create(model="qwen3", messages=HELLO)
    with pytest.raises(openai.RateLimitError) as e:
        c.chat.completions.create(model="qwen3", messages=HELLO)
    fault(e, 429, "rate_limit_exceeded", "requests")
    assert 1 <= int(e.value.response.headers["retry-after"]) <= 60


def test_no_worker_error(c):
    """503 with Retry-After when the model's only worker is down."""
    with pytest.raises(openai.InternalServerError) as e:
        c.chat.completions.create(model="away", messages=HELLO)
    fault(e, 503, "service_unavailable", "server_error")
    assert int(e.value.response.headers["retry-after"]) >= 1


def test_no_model_says_how_to_add_one(gate):
    """The issue, "First run": 503 with the command that adds a model."""
    with pytest.raises(openai.InternalServerError) as e:
        sdk(gate()).chat.completions.create(model="qwen3", messages=HELLO)
    assert e.value.status_code == 503 and ("[[model]]" in e.value.body["message"] or "tollgate " in e.value.body["message"])


@pytest.mark.parametrize("status,cls", [(400, openai.BadRequestError), (404, openai.NotFoundError), (422, openai.UnprocessableEntityError), (429, openai.RateLimitError)])
def test_worker_errors_pass(c, g, w, status, cls):
    """A worker's own refusal is the caller's to read: same status, same body."""
    w.once(status=status, headers=[("Retry-After", "7")] if status == 429 else [])
    with pytest.raises(cls) as e:
        c.chat.completions.create(model="qwen3", messages=HELLO)
    assert e.value.code == "worker_code" and e.value.body["message"] == "the worker says no"


def test_error_inside_a_stream(c, g, w):
    """wire.md 4d: a worker that dies in mid-stream: one error frame, never [DONE]; the client raises."""
    w.once(chunks=6, stop_after=2)
    with pytest.raises((openai.APIError, httpx.HTTPError)):
        for _ in c.chat.completions.create(model="qwen3", messages=HELLO, stream=True):
            pass
    w.once(chunks=6, stop_after=2)
    text = b""
    with g.client(READ).stream("POST", "/v1/chat/completions", json={"model": "qwen3", "messages": HELLO, "stream": True}) as r:
        try:
            for part in r.iter_raw():
                text += part
        except httpx.HTTPError:
            pass
        rid = r.headers["x-request-id"]
    events = sse(text)
    assert "[DONE]" not in events and set(json.loads(events[-1])) >= {"error"} and len(events) == 3, events
    assert {"message", "type", "param", "code"} <= set(json.loads(events[-1])["error"])
    got = g.record(rid)
    assert got["reason"] == "worker_gone" and got["partial"] is True


def test_sse_headers(g):
    """wire.md 4d."""
    r = g.client(READ).post("/v1/chat/completions", json={"model": "qwen3", "messages": HELLO, "stream": True})
    assert r.headers["content-type"].startswith("text/event-stream") and r.headers["cache-control"] == "no-cache" and r.headers["x-accel-buffering"] == "no"
    assert r.text.endswith("data: [DONE]\n\n")


def test_admin_key_may_infer_too(g):
    """S0-11."""
    assert sdk(g, ADMIN).chat.completions.create(model="qwen3", messages=HELLO).choices


def test_async_client(g):
    """30 calls at once on one loop, each with its own answer."""
    import asyncio

    async def run():
        async with openai.AsyncOpenAI(base_url=g.url + "/v1", api_key=READ, max_retries=0, http_client=httpx.AsyncClient(trust_env=False, timeout=30)) as c:
            return await asyncio.gather(*(c.chat.completions.create(model="qwen3", messages=[{"role": "user", "content": f"n{i}"}]) for i in range(30)))
    assert [r.choices[0].message.content for r in asyncio.run(run())] == [f"n{i}" for i in range(30)]
