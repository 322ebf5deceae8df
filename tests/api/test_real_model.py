"""
The main job on real input: a real small language model behind the gate, driven by the official OpenAI client. Needs what lib/llm.py names.
"""
import os
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import httpx
import openai
import pytest

from lib.gate import READ, free_port, model
from lib.llm import LOAD_S, command, missing

TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "The weather of a city",
                                           "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]


@pytest.fixture(scope="module")
def llm(tmp_path_factory):
    """A model server that has loaded its model: its URL and process id; its process group ends with the module."""
    port = free_port()
    if missing():
        pytest.skip(missing())
    out = tmp_path_factory.mktemp("llm") / "worker.log"
    with out.open("w") as log:
        proc = subprocess.Popen(command(port), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    try:
        url, end = f"http://127.0.0.1:{port}", time.monotonic() + LOAD_S
        while True:
            assert proc.poll() is None and time.monotonic() < end, f"the model server did not come up:\n{out.read_text()[-4000:]}"
            try:
                if httpx.get(url + "/health", timeout=5, trust_env=False).status_code == 200:
                    break
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        yield SimpleNamespace(url=url, pid=proc.pid)
    finally:
        os.killpg(proc.pid, signal.SIGTERM)
        try:
            proc.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(proc.pid, signal.SIGKILL)
            proc.wait()


@pytest.fixture(scope="module")
def door(module_gate, llm):
    return module_gate(models=[model("gemma3", llm.url, slots=2)])


@pytest.fixture(scope="module")
def ai(door):
    with httpx.Client(trust_env=False, timeout=120) as http:
        yield openai.OpenAI(base_url=door.url + "/v1", api_key=READ, max_retries=0, http_client=http)


def test_plain_completion(ai, door):
    got = ai.chat.completions.with_raw_response.create(model="gemma3", messages=[{"role": "user", "content": "The capital of France is"}], max_tokens=16)
    answer = got.parse()
    assert answer.object == "chat.completion" and answer.model == "gemma3"
    assert answer.choices[0].message.content.strip()
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert 0 < answer.usage.completion_tokens <= 16 and answer.usage.prompt_tokens > 0
    record = door.record(got.headers["x-request-id"])
    assert (record["prompt_tokens"], record["completion_tokens"]) == (answer.usage.prompt_tokens, answer.usage.completion_tokens)
    assert record["model"] == "gemma3" and record["status"] == 200 and record["stream"] is False and not record["partial"]


def test_the_same_words_plain_and_streamed(ai):
    """At temperature 0 a stream's pieces joined are the plain answer."""
    ask = dict(model="gemma3", messages=[{"role": "user", "content": "Tell me a story about the sea."}], max_tokens=24, temperature=0)
    plain = ai.chat.completions.create(**ask)
    began, came, pieces, finish = time.monotonic(), [], [], None
    for chunk in ai.chat.completions.create(stream=True, **ask):
        assert chunk.usage is None, "usage was not asked for"
        if chunk.choices and chunk.choices[0].delta.content:
            came.append(time.monotonic())
            pieces.append(chunk.choices[0].delta.content)
        if chunk.choices and chunk.choices[0].finish_reason:
            finish = chunk.choices[0].finish_reason
    assert "".join(pieces) == plain.choices[0].message.content
    assert finish == plain.choices[0].finish_reason
    assert len(pieces) > 3 and came[-1] - came[0] > (came[-1] - began) / 5, "it came in one go, at the end"


def test_usage_of_a_stream_reaches_who_asked_and_the_log(ai, door):
    got = ai.chat.completions.with_raw_response.create(model="gemma3", messages=[{"role": "user", "content": "Count: one, two,"}], max_tokens=12, stream=True,
                                                       stream_options={"include_usage": True})
    chunks = list(got.parse())
    usage = chunks[-1].usage
    assert usage and chunks[-1].choices == [] and 0 < usage.completion_tokens <= 12
    record = door.record(got.headers["x-request-id"])
    assert (record["prompt_tokens"], record["completion_tokens"]) == (usage.prompt_tokens, usage.completion_tokens)
    assert record["stream"] is True


def test_tokens_of_a_stream_are_logged_unasked(ai, door):
    got = ai.chat.completions.with_raw_response.create(model="gemma3", messages=[{"role": "user", "content": "Hello"}], max_tokens=6, stream=True)
    list(got.parse())
    assert 0 < door.record(got.headers["x-request-id"])["completion_tokens"] <= 6


def test_tools_pass(ai):
    """A small model calls nothing; what counts is that a request with tools goes through, plain and streamed, and its answer is well-formed."""
    ask = dict(model="gemma3", messages=[{"role": "user", "content": "What is the weather in Paris?"}], tools=TOOLS, tool_choice="auto", max_tokens=16)
    answer = ai.chat.completions.create(**ask)
    assert answer.choices[0].message.role == "assistant" and answer.choices[0].finish_reason in ("stop", "length", "tool_calls")
    chunks = list(ai.chat.completions.create(stream=True, **ask))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] in ("stop", "length", "tool_calls")


def busy(pid, seconds):
    """The share of one core that the model server takes."""
    def ticks():
        return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]))
    before = ticks()
    time.sleep(seconds)
    return (ticks() - before) / os.sysconf("SC_CLK_TCK") / seconds


def test_a_client_that_leaves_frees_the_model(ai, door, llm):
    """Both slots are taken by answers of a thousand tokens whose clients leave: the model stops its work and the next request does not wait for them."""
    ask = dict(model="gemma3", prompt="1, 2, 3, 4, 5, 6, 7, 8, 9,", max_tokens=1500, temperature=0, stream=True)
    streams = []
    for _ in range(2):
        got = ai.completions.with_raw_response.create(**ask)
        streams.append((got.headers["x-request-id"], got.parse()))
        next(iter(streams[-1][1]))
    assert busy(llm.pid, 0.5) > 0.1, "it is at work on both"
    for _, stream in streams:
        stream.close()
    for request_id, _ in streams:
        record = door.record(request_id)
        assert record["partial"] is True and record["reason"] == "client_gone"
    assert busy(llm.pid, 1) < 0.1, "it went on for nobody"
    assert ai.completions.create(model="gemma3", prompt="Hi", max_tokens=2).usage.completion_tokens <= 2


def test_through_001s_route(door):
    """Document 001's /infer, translated to the same model."""
    r = door.client(READ, timeout=120).post("/infer", json={"model_name": "gemma3", "request_body": {"input": "The capital of France is", "max_new_tokens": 8}})
    assert r.status_code == 200, r.text
    assert r.json()["response"].strip() and r.json()["model_name_processed"] == "gemma3"


def test_refused_without_a_key_and_the_model_hears_nothing(door):
    with httpx.Client(trust_env=False) as http, pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=door.url + "/v1", api_key="wrong-key-000000000000", max_retries=0, http_client=http).chat.completions.create(
            model="gemma3", messages=[{"role": "user", "content": "Hi"}])
