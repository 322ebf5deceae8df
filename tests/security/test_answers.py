"""
A worker is not trusted either (threats T-UPRES, T-REDIR): an answer that could be read in two ways, never ends, or leads elsewhere becomes a 502 with a request
id, and that connection is closed, never used again. What has begun and then goes wrong is cut in a way that the client can see.
"""
import gzip
import time

import pytest

from lib.gate import READ, model
from lib.raw import GOOD_ANSWER, JSON_ANSWER, SLOW, SSE_HEAD, Gone, RawWorker, Stream, chat, exchange, rss_kb, sse_event, until
from lib.wire import request

J = JSON_ANSWER
N = len(J)
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CL = b"Content-Length: %d\r\n" % N
CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (N, J)
TE = b"Transfer-Encoding: chunked\r\n"


def status_line(line, end=b"\r\n"):
    return line + end + b"Content-Type: application/json\r\n" + CL + b"\r\n" + J


RUBBISH = {
    "cl_and_te": OK + CL + TE + b"\r\n" + CHUNKED,
    "te_and_cl": OK + TE + CL + b"\r\n" + CHUNKED,
    "cl_twice": OK + CL + CL + b"\r\n" + J,
    "cl_two_different": OK + CL + b"Content-Length: 2\r\n\r\n" + J,
    "cl_list": OK + b"Content-Length: 2, 2\r\n\r\n{}",
    "cl_plus": OK + b"Content-Length: +2\r\n\r\n{}",
    "cl_minus": OK + b"Content-Length: -2\r\n\r\n{}",
    "cl_hex": OK + b"Content-Length: 0x2\r\n\r\n{}",
    "cl_empty": OK + b"Content-Length:\r\n\r\n{}",
    "cl_2_64": OK + b"Content-Length: 18446744073709551616\r\n\r\n{}",
    "cl_2_63": OK + b"Content-Length: 9223372036854775808\r\n\r\n{}",
    "te_xchunked": OK + b"Transfer-Encoding: xchunked\r\n\r\n" + CHUNKED,
    "te_gzip_chunked": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKED,
    "te_identity": OK + b"Transfer-Encoding: identity\r\n\r\n" + J,
    "te_twice": OK + TE + TE + b"\r\n" + CHUNKED,
    "te_http10": (OK + TE + b"\r\n" + CHUNKED).replace(b"HTTP/1.1", b"HTTP/1.0"),
    "bare_lf_after_header": OK + b"X-A: b\n" + CL + b"\r\n" + J,
    "bare_lf_after_status": status_line(b"HTTP/1.1 200 OK", b"\n"),
    "bare_lf_blank_line": OK + CL + b"\n" + J,
    "obs_fold": OK + b"X-A: b\r\n c\r\n" + CL + b"\r\n" + J,
    "obs_fold_cl": OK + b"Content-Length:\r\n %d\r\n\r\n" % N + J,
    "nul_in_value": OK + b"X-A: b\0c\r\n" + CL + b"\r\n" + J,
    "cr_in_value": OK + b"X-A: b\rc\r\n" + CL + b"\r\n" + J,
    "latin1_in_value": OK + b"X-A: \xe9\r\n" + CL + b"\r\n" + J,
    "space_before_colon": OK + b"X-A : b\r\n" + CL + b"\r\n" + J,
    "space_in_name": OK + b"X A: b\r\n" + CL + b"\r\n" + J,
    "empty_name": OK + b": b\r\n" + CL + b"\r\n" + J,
    "no_colon": OK + b"X-A\r\n" + CL + b"\r\n" + J,
    "status_4_digits": status_line(b"HTTP/1.1 2000 OK"),
    "status_2_digits": status_line(b"HTTP/1.1 20 OK"),
    "status_099": status_line(b"HTTP/1.1 099 OK"),
    "status_999": status_line(b"HTTP/1.1 999 OK"),
    "status_word": status_line(b"HTTP/1.1 abc OK"),
    "status_missing": status_line(b"HTTP/1.1"),
    "cr_in_reason": status_line(b"HTTP/1.1 200 O\rK"),
    "nul_in_reason": status_line(b"HTTP/1.1 200 O\0K"),
    "version_0_9": status_line(b"HTTP/0.9 200 OK"),
    "version_2_0": status_line(b"HTTP/2.0 200 OK"),
    "version_1_2": status_line(b"HTTP/1.2 200 OK"),
    "version_lower": status_line(b"http/1.1 200 OK"),
    "rtsp": status_line(b"RTSP/1.0 200 OK"),
    "icy": status_line(b"ICY 200 OK"),
    "two_spaces": status_line(b"HTTP/1.1  200 OK"),
    "not_http": b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n\r\n",
    "json_only": J + b"\r\n\r\n",
    "a_request": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "switching_protocols": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    "interim_without_end": b"HTTP/1.1 100 Continue\r\n\r\n" * 200,
    "headers_200": OK + b"".join(b"X-%d: b\r\n" % i for i in range(200)) + CL + b"\r\n" + J,
    "header_1_mib": OK + b"X-A: " + b"b" * (1 << 20) + b"\r\n" + CL + b"\r\n" + J,
    "head_without_end": OK + b"X-A: b\r\n" * 100_000,
    "line_without_end": b"HTTP/1.1 200 " + b"O" * (1 << 20),
    "redirect_302": b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest/meta-data/\r\nContent-Length: 0\r\n\r\n",
    "redirect_307": b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n",
    "redirect_301_with_body": b"HTTP/1.1 301 Moved\r\nLocation: /x\r\nContent-Type: application/json\r\n" + CL + b"\r\n" + J,
    "not_modified": b"HTTP/1.1 304 Not Modified\r\nContent-Type: application/json\r\n" + CL + b"\r\n",
    "unauthorized": b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nContent-Type: application/json\r\n" + CL + b"\r\n" + J,
    "gzip_unasked": OK + b"Content-Encoding: gzip\r\n" + b"Content-Length: %d\r\n\r\n" % len(gzip.compress(J)) + gzip.compress(J),
    "gzip_bomb": OK + b"Content-Encoding: gzip\r\n" + b"Content-Length: %d\r\n\r\n" % len(gzip.compress(b"\0" * 10_000_000)) + gzip.compress(b"\0" * 10_000_000),
    "deflate_unasked": OK + b"Content-Encoding: deflate\r\nContent-Length: 4\r\n\r\nabcd",
}
CLOCKS = dict(first_byte_ms=600 * SLOW, idle_ms=500 * SLOW, total_ms=5000 * SLOW, connect_ms=1000 * SLOW)


@pytest.fixture(scope="module")
def worker_(module_worker):
    return module_worker()


@pytest.fixture(scope="module")
def g(module_gate, worker_):
    return module_gate(models=[model("m", worker_, **CLOCKS)])


@pytest.fixture(autouse=True)
def clean(worker_):
    worker_.behave()
    worker_.requests, worker_.probes = [], []  # not clear(): connections keep their numbers


def last(**more):
    return chat("hello", headers=[("Connection", "close")], **more)


def assert_502(a):
    doc = a.json()
    assert a.status == 502 and a.whole, a.raw[:400]
    assert doc["code"] == "BAD_GATEWAY" and doc["request_id"] == a.header("x-request-id")
    assert doc["error"]["message"] and doc["error"]["type"]
    return doc


@pytest.mark.parametrize("raw", [pytest.param(v, id=k) for k, v in RUBBISH.items()])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_rubbish(g, worker_, raw, stream):
    worker_.once(raw=raw, raw_close=False)  # the worker leaves its side open: it is the gate that must close
    r = exchange(g, last(stream=stream), timeout=5 * SLOW)
    assert r.statuses == [502], r.raw[:400]
    doc = assert_502(r.answers[0])
    for word in (b"169.254", b"SSH-2.0", b"llhttp", b"Traceback", worker_.url.encode()):
        assert word not in r.raw, "internal text in an error body"
    assert g.record(doc["request_id"])["reason"] in ("worker_rubbish", "worker_gone")
    req = worker_.requests[0].wait_end(3 * SLOW)
    assert req.client_closed_at is not None, "the gate kept the connection"
    assert exchange(g, last(), timeout=5 * SLOW).statuses == [200]
    assert len(worker_.requests) == 2, "the request was sent again although an answer had begun"
    assert worker_.requests[1].connection != req.connection, "the connection was used again"


@pytest.mark.parametrize("head,body", [
    pytest.param(OK + TE + b"\r\n", b"zz\r\nhello\r\n0\r\n\r\n", id="size_not_hex"),
    pytest.param(OK + TE + b"\r\n", b"10000000000000005\r\nhello", id="size_17_digits"),
    pytest.param(OK + TE + b"\r\n", b"5\nhello\r\n0\r\n\r\n", id="size_lf"),
    pytest.param(OK + TE + b"\r\n", b"5\r\nhello!\r\n0\r\n\r\n", id="data_too_long"),
    pytest.param(OK + TE + b"\r\n", b"5;" + b"a" * (1 << 20) + b"\r\nhello\r\n0\r\n\r\n", id="extension_1_mib"),
    pytest.param(OK + TE + b"\r\n", b"1;%s\r\nx\r\n" % (b"a" * 400) * 5000 + b"0\r\n\r\n", id="chunk_bomb"),
    pytest.param(OK + TE + b"\r\n", b"0\r\n" + b"X-A: b\r\n" * 100_000 + b"\r\n", id="trailer_bomb"),
    pytest.param(OK + TE + b"\r\n", b"%x\r\n%s\r\n0\n\r\n" % (N, J), id="last_chunk_lf"),
])
def test_rubbish_in_the_body(g, worker_, head, body):
    """The head has been good and may be out already: then the answer is cut, so that the client sees that it is not whole."""
    worker_.once(raw=head + body, raw_close=False)
    r = exchange(g, last(), timeout=5 * SLOW)
    assert r.closed and len(r.answers) == 1
    assert r.statuses == [502] or not r.answers[0].whole, "a broken body was passed on as whole"
    req = worker_.requests[0].wait_end(3 * SLOW)
    assert req.client_closed_at is not None
    assert exchange(g, last(), timeout=5 * SLOW).statuses == [200]
    assert worker_.requests[1].connection != req.connection


@pytest.mark.parametrize("raw", [
    pytest.param(OK + b"Content-Length: 100000\r\n\r\n" + J, id="cl_short"),
    pytest.param(OK + b"Content-Length: 1099511627776\r\n\r\n" + J, id="cl_1_tb"),
    pytest.param(OK + b"Content-Length: 9223372036854775807\r\n\r\n" + J, id="cl_2_63_less_1"),
    pytest.param(OK + TE + b"\r\n%x\r\n%s\r\n" % (N, J), id="chunked_without_end"),
    pytest.param(OK + TE + b"\r\n%x\r\n%s\r\n0\r\n" % (N, J), id="chunked_without_last_blank_line"),
    pytest.param(OK + TE + b"\r\nffffffffffffffff\r\n" + J, id="chunk_2_64"),
    pytest.param(OK + TE + b"\r\n7fffffffffffffff\r\n" + J, id="chunk_2_63"),
])
def test_an_answer_that_ends_early_is_seen_to(g, worker_, raw):
    before = rss_kb(g.pid)
    worker_.once(raw=raw, raw_close=True)
    r = exchange(g, last(), timeout=5 * SLOW)
    assert r.closed and (r.statuses == [502] or (r.statuses == [200] and not r.answers[0].whole))
    assert SLOW > 1 or rss_kb(g.pid) - before < 4096, "memory was taken for a length that somebody only claimed"
    rec = g.wait_log(lambda x: x.get("model") == "m" and x["partial"] and x["reason"] in ("worker_gone", "worker_rubbish"))
    assert rec["worker"]


def test_no_length_means_until_the_end(g, worker_):
    for version in (b"HTTP/1.1", b"HTTP/1.0"):
        worker_.once(raw=OK.replace(b"HTTP/1.1", version) + b"\r\n" + J, raw_close=True)
        r = exchange(g, last(), timeout=5 * SLOW)
        assert r.statuses == [200] and r.answers[0].whole and r.answers[0].body == J


@pytest.mark.parametrize("interim", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", b"HTTP/1.1 102 Processing\r\n\r\n",
                                     b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n"])
def test_interim_answers_are_dropped(g, worker_, interim):
    worker_.once(raw=interim + GOOD_ANSWER, raw_close=True)
    r = exchange(g, last(), timeout=5 * SLOW)
    assert r.statuses == [200] and not r.interim and r.answers[0].body == J


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_no_body_where_none_may_be(g, worker_, status):
    """A body behind a 204 or 304 is neither passed on nor taken for the next answer."""
    worker_.once(raw=b"HTTP/1.1 " + status + b"\r\nContent-Length: %d\r\n\r\n" % len(GOOD_ANSWER) + GOOD_ANSWER.replace(b"fine", b"evil"), raw_close=False)
    r = exchange(g, chat("one") + last(), timeout=6 * SLOW)
    assert len(r.answers) == 2 and r.answers[0].status in (204, 304, 502) and r.answers[1].status == 200
    assert b"evil" not in r.raw
    assert worker_.requests[1].connection != worker_.requests[0].connection


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_a_second_answer_is_nobodys(g, worker_, stream):
    """Bytes after the end of an answer must not become the next caller's answer."""
    first = SSE_HEAD + b"".join(b"%x\r\n%s\r\n" % (len(e), e) for e in (sse_event("one"), b"data: [DONE]\n\n")) + b"0\r\n\r\n" if stream else GOOD_ANSWER
    worker_.once(raw=first + GOOD_ANSWER.replace(b"fine", b"evil"), raw_close=False)
    r = exchange(g, chat("one", stream=stream) + last(), timeout=6 * SLOW)
    assert r.statuses == [200, 200] and b"evil" not in r.raw
    assert len(worker_.requests) == 2 and worker_.requests[1].connection != worker_.requests[0].connection


def test_bytes_on_an_idle_connection_end_it(gate):
    """A worker that speaks unasked loses its connection; the next caller does not get its words."""
    def script(c):
        c.read_request()
        c.send(GOOD_ANSWER)
        if c.number == first[0]:
            time.sleep(0.15 * SLOW)
            c.send(GOOD_ANSWER.replace(b"fine", b"evil"))
            c.wait_closed(5)
        else:
            c.read_request()
    first = [0]
    with RawWorker(script) as w:
        g = gate(models=[model("m", w.url)], toml={"server": {"threads": 1}})
        time.sleep(0.2)
        first[0] = len(w.connections)  # the connections before it were probes
        assert exchange(g, last(), timeout=5 * SLOW).statuses == [200]
        until(lambda: w.connections[first[0]].closed_at, 3 * SLOW, "the gate closing the connection")
        r = exchange(g, last(), timeout=5 * SLOW)
        assert r.statuses == [200] and b"evil" not in r.raw


def test_head_and_its_body(g):
    """HEAD: the same head as GET, no body, and the connection goes on."""
    key = [("X-API-Key", READ)]
    for path in ("/health", "/livez", "/v1/models", "/nowhere"):
        data = request("HEAD", path, key) + request("GET", path, key + [("Connection", "close")])
        r = exchange(g, data, timeout=5 * SLOW, methods=["HEAD", "GET"])
        a, b = r.answers
        assert a.status == b.status and a.body == b"" and b.body
        assert a.header("content-type") == b.header("content-type")
        assert abs(int(a.header("content-length")) - len(b.body)) <= 16  # uptime and times in the body may be a digit longer


@pytest.mark.parametrize("usage", [b'"x"', b"[]", b"{}", b"null", b'{"prompt_tokens":-1,"completion_tokens":-1}', b'{"prompt_tokens":1e400,"completion_tokens":1e400}',
                                   b'{"prompt_tokens":99999999999999999999,"completion_tokens":99999999999999999999}', b'{"prompt_tokens":"7","completion_tokens":null}',
                                   b'{"prompt_tokens":1.5,"completion_tokens":{}}', b'{"prompt_tokens":[[[[[[[[', b"{" + b'"a":{' * 500])
def test_usage_that_is_none(g, worker_, usage):
    body = J[:J.index(b'"usage"')] + b'"usage":' + usage + b"}"
    worker_.once(raw=OK + b"Content-Length: %d\r\n\r\n" % len(body) + body, raw_close=True)
    r = exchange(g, last(), timeout=5 * SLOW)
    assert r.statuses == [200] and r.answers[0].body == body
    rec = g.record(r.answers[0].header("x-request-id"))
    for name in ("prompt_tokens", "completion_tokens"):
        assert rec[name] is None or 0 <= rec[name] < 1 << 53


def test_what_a_stream_may_contain(g, worker_):
    """Characters cut between chunks, a [DONE] in the text, comments, CRLF line ends, an event without data: all pass byte for byte."""
    text = "data: [DONE]\n\n ü€😀"
    whole = b": ping\n\n" + sse_event(text) + b"event: x\r\ndata: {}\r\n\r\n" + sse_event("b") + b"data: [DONE]\n\n"
    worker_.once(events=[whole[i:i + 1] for i in range(len(whole))])
    with Stream(g, stream_options={"include_usage": True}) as s:
        s.head()
        while not s.whole:
            s._unchunk()
            if not s.whole and not s.more():
                break
        assert s.whole and s.text == whole


@pytest.mark.release_only
def test_an_endless_line_takes_no_memory(gate):
    """30 MB of one event without its end: passed on as it comes, never collected."""
    piece, count = b"x" * 65536, 480

    def script(c):
        c.read_request()
        c.send(SSE_HEAD)
        c.chunk(b"data: ")
        for _ in range(count):
            c.chunk(piece)
        c.chunk(b"\n\ndata: [DONE]\n\n")
        c.send(b"0\r\n\r\n")
        c.read_request()
    with RawWorker(script) as w:
        g = gate(models=[model("m", w.url)], toml={"server": {"threads": 1}})
        exchange(g, request("GET", "/health", [("Connection", "close")]))
        before, top, got = rss_kb(g.pid), 0, 0
        with Stream(g, timeout=20) as s:
            s.head()
            while True:
                got += len(s.buf)
                tail, s.buf = s.buf[-5:], b""
                top = max(top, rss_kb(g.pid))
                if tail == b"0\r\n\r\n" or not s.more():
                    break
        assert got > len(piece) * count
        assert top - before < 4096, f"grew by {top - before} KiB"


@pytest.mark.release_only
@pytest.mark.parametrize("path,doc", [("/infer", b'{"model_name":"m","request_body":{"input":"x"}}'), ("/api/v1/inference", b'{"model":"m","prompt":"x"}')])
def test_a_translated_answer_has_a_bound(gate, path, doc):
    """An answer that must be whole before it can be translated is not collected without end."""
    def script(c):
        c.read_request()
        try:
            c.send(OK + TE + b"\r\n")
            for _ in range(4000):
                c.chunk(b"x" * 65536)  # 250 MB
        except Gone:
            sent.append(c.closed_at)
            raise
    sent = []
    with RawWorker(script) as w:
        g = gate(models=[model("m", w.url)], toml={"server": {"threads": 1}})
        before = rss_kb(g.pid)
        r = exchange(g, request("POST", path, [("X-API-Key", READ), ("Content-Type", "application/json"), ("Connection", "close")], doc), timeout=20)
        assert r.statuses == [502]
        assert rss_kb(g.pid) - before < 40 * 1024
        until(lambda: sent, 3, "the worker being cut off")
