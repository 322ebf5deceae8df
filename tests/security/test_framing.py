"""
What two HTTP programs could read differently must not pass (threats T-SMUG, T-HDR). Every row sends its bytes with a whole, valid request right
behind them on the same connection. A refused one: the right status, the connection closed, the request behind it not read, nothing at the worker.
"""
import json

import pytest

from lib.gate import READ, model
from lib.raw import CHAT, SLOW, chat, chat_body, exchange

KEY = b"X-API-Key: " + READ.encode() + b"\r\n"
TYPE = b"Content-Type: application/json\r\n"
HOST = b"Host: 127.0.0.1\r\n"
LINE = b"POST /v1/chat/completions HTTP/1.1\r\n"
BODY = chat_body("attack")
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
MARKER = chat("marker", headers=[("Connection", "close")])
CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
TE = b"Transfer-Encoding: chunked\r\n"


def post(*headers, line=LINE, host=HOST, length=LENGTH, body=BODY, key=KEY):
    return line + host + key + TYPE + b"".join(h + b"\r\n" for h in headers) + length + b"\r\n" + body


def chunked(data, te=TE):
    return LINE + HOST + KEY + TYPE + te + b"\r\n" + data


def te(value):
    return chunked(CHUNKS, b"Transfer-Encoding:" + value + b"\r\n")


def cl(value, body=b"hello"):
    return post(length=b"Content-Length:" + value + b"\r\n", body=body)


def get(target=b"/v1/models", version=b"HTTP/1.1", method=b"GET", host=HOST, sep1=b" ", sep2=b" ", more=b""):
    return method + sep1 + target + sep2 + version + b"\r\n" + host + KEY + more + b"\r\n"


def rows(status, **cases):
    return [pytest.param(data, status, id=name) for name, data in cases.items()]


REFUSED = [
    # --- lines
    *rows(400,
          bare_lf_after_header=LINE + HOST + b"X-A: b\n" + KEY + LENGTH + b"\r\n" + BODY,
          bare_lf_after_request_line=LINE[:-2] + b"\n" + HOST + KEY + LENGTH + b"\r\n" + BODY,
          bare_lf_as_blank_line=LINE + HOST + KEY + TYPE + LENGTH + b"\n" + BODY,
          bare_lf_everywhere=post().replace(b"\r\n", b"\n"),
          bare_cr_in_value=post(b"X-A: b\rc"),
          bare_cr_as_separator=LINE + HOST + KEY + b"X-A: b\rX-B: c\r\n" + LENGTH + b"\r\n" + BODY,
          cr_cr_lf=post(b"X-A: b\r"),
          space_before_first_header=LINE + b" " + HOST + KEY + LENGTH + b"\r\n" + BODY,
          tab_before_first_header=LINE + b"\t" + HOST + KEY + LENGTH + b"\r\n" + BODY,
          space_before_colon=post(b"X-A : b"),
          tab_before_colon=post(b"X-A\t: b"),
          space_before_colon_te=chunked(CHUNKS, b"Transfer-Encoding : chunked\r\n"),
          space_before_colon_cl=post(length=b"Content-Length : %d\r\n" % len(BODY)),
          obs_fold_space=post(b"X-A: b\r\n c"),
          obs_fold_tab=post(b"X-A: b\r\n\tc"),
          obs_fold_host=post(host=b"Host: 127.0\r\n .0.1\r\n"),
          obs_fold_te=chunked(CHUNKS, b"Transfer-Encoding:\r\n chunked\r\n"),
          obs_fold_cl=post(length=b"Content-Length:\r\n %d\r\n" % len(BODY)),
          obs_fold_last=LINE + HOST + KEY + LENGTH + b"X-A: b\r\n \r\n\r\n" + BODY,
          no_colon=post(b"X-A b"),
          empty_name=post(b": b"),
          nul_in_value=post(b"X-A: b\0c"),
          x01_in_value=post(b"X-A: b\x01c"),
          x7f_in_value=post(b"X-A: b\x7fc"),
          latin1_in_value=post(b"X-A: caf\xe9"),
          overlong_utf8_in_value=post(b"X-A: \xc0\xaf"),
          surrogate_in_value=post(b"X-A: \xed\xa0\x80"),
          nul_in_name=post(b"X\0A: b"),
          space_in_name=post(b"X A: b"),
          paren_in_name=post(b"X(A: b"),
          x80_in_name=post(b"X\x80A: b"),
          utf8_in_name=post("Ä: b".encode())),
    # --- Transfer-Encoding
    *rows(400,
          te_gzip_chunked=te(b" gzip, chunked"), te_comma_chunked=te(b" , chunked"), te_empty=te(b""),
          te_empty_and_cl=post(b"Transfer-Encoding:"),
          te_identity_then_chunked=chunked(CHUNKS, b"Transfer-Encoding: identity\r\n" + TE),
          te_chunked_then_identity=chunked(CHUNKS, TE + b"Transfer-Encoding: identity\r\n"),
          te_twice=chunked(CHUNKS, TE + TE), te_twice_in_one=te(b" chunked, chunked"), te_chunked_gzip=te(b" chunked, gzip"),
          te_trailing_comma=te(b" chunked,"), te_xchunked=te(b" xchunked"), te_chunkedx=te(b" chunkedx"), te_identity=te(b" identity"),
          te_quoted=te(b' "chunked"'), te_parameter=te(b" chunked;q=1"), te_vt=te(b" \x0bchunked"), te_nul=te(b" chunked\0"),
          te_and_cl=post(b"Transfer-Encoding: chunked", body=CHUNKS),
          cl_and_te=chunked(CHUNKS, LENGTH + TE),
          cl_zero_and_te=chunked(CHUNKS, b"Content-Length: 0\r\n" + TE),
          te_http10=chunked(CHUNKS).replace(b"HTTP/1.1", b"HTTP/1.0")),
    # --- Content-Length
    *rows(400,
          cl_plus=cl(b" +5"), cl_list=cl(b" 5,5"), cl_list_space=cl(b" 5, 5"), cl_two_numbers=cl(b" 5 5"), cl_minus=cl(b" -1"), cl_hex=cl(b" 0x5"),
          cl_fraction=cl(b" 5.0"), cl_empty=cl(b""), cl_word=cl(b" five"), cl_2_64=cl(b" 18446744073709551616"), cl_2_64_less_1=cl(b" 18446744073709551615"),
          cl_40_zeros=cl(b" " + b"0" * 40 + b"5"), cl_wide_digit=cl(" ５".encode()),
          cl_same_twice=post(length=LENGTH + LENGTH), cl_two_different=post(length=LENGTH + b"Content-Length: 0\r\n"),
          cl_two_different_zero_first=post(length=b"Content-Length: 0\r\n" + LENGTH)),
    *rows(413,
          cl_2_63=cl(b" 9223372036854775808"), cl_19_nines=cl(b" 9999999999999999999"), cl_over_the_limit=cl(b" 10485761"), cl_1_tb=cl(b" 1099511627776")),
    # --- chunks
    *rows(400,
          chunk_0x=chunked(b"0x5\r\nhello\r\n0\r\n\r\n"), chunk_plus=chunked(b"+5\r\nhello\r\n0\r\n\r\n"), chunk_minus=chunked(b"-1\r\nhello\r\n0\r\n\r\n"),
          chunk_leading_space=chunked(b" 5\r\nhello\r\n0\r\n\r\n"), chunk_trailing_space=chunked(b"5 \r\nhello\r\n0\r\n\r\n"),
          chunk_leading_tab=chunked(b"\t5\r\nhello\r\n0\r\n\r\n"), chunk_trailing_tab=chunked(b"5\t\r\nhello\r\n0\r\n\r\n"),
          chunk_empty_size=chunked(b"\r\nhello\r\n0\r\n\r\n"), chunk_17_digits=chunked(b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
          chunk_40_zeros=chunked(b"0" * 40 + b"5\r\nhello\r\n0\r\n\r\n"), chunk_size_lf=chunked(b"5\nhello\r\n0\r\n\r\n"),
          chunk_data_too_long=chunked(b"5\r\nhello!\r\n0\r\n\r\n"), chunk_data_too_short=chunked(b"5\r\nhell\r\n0\r\n\r\n"),
          chunk_data_lf=chunked(b"5\r\nhello\n0\r\n\r\n"), chunk_last_lf=chunked(b"5\r\nhello\r\n0\n\r\n"), chunk_end_lf=chunked(CHUNKS[:-2] + b"\n"),
          chunk_ext_lf=chunked(b"5;a\nb\r\nhello\r\n0\r\n\r\n"), chunk_ext_cr=chunked(b"5;a\rb\r\nhello\r\n0\r\n\r\n"), chunk_ext_nul=chunked(b"5;a\0\r\nhello\r\n0\r\n\r\n"),
          chunk_ext_60k=chunked(b"5;" + b"a" * 61440 + b"\r\nhello\r\n0\r\n\r\n"),
          chunk_ext_many=chunked(b"1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nx\r\n" * 5000 + b"0\r\n\r\n"),
          chunk_not_hex=chunked(b"g\r\nhello\r\n0\r\n\r\n"), trailer_te=chunked(CHUNKS[:-2] + TE + b"\r\n"),
          trailer_60k=chunked(CHUNKS[:-2] + b"X-A: " + b"b" * 61440 + b"\r\n\r\n"), trailer_lf=chunked(CHUNKS[:-2] + b"X-A: b\n\r\n")),
    # --- request line
    *rows(400,
          two_spaces_before_target=get(sep1=b"  "), two_spaces_before_version=get(sep2=b"  "), tab_in_line=get(sep1=b"\t"), indented=b" " + get(),
          space_after_version=get(version=b"HTTP/1.1 "),
          target_without_slash=get(b"v1/models"), target_star=get(b"*"), target_fragment=get(b"/v1/models#x"), target_absolute_other=get(b"http://b/v1/models"),
          target_userinfo=get(b"http://u:p@127.0.0.1/v1/models"), target_file=get(b"file:///etc/passwd"), target_https=get(b"https://127.0.0.1/v1/models"),
          target_nul=get(b"/v1\0/models"), target_x01=get(b"/v1\x01/models"), target_x7f=get(b"/v1\x7f/models"), target_tab=get(b"/v1\t/models"),
          target_ff=get(b"/v1\x0c/models"), target_x80=get(b"/v1\x80/models"), target_utf8=get("/v1/ä".encode()), target_backslash=get(b"/v1\\models"),
          target_lt=get(b"/v1/<x"), target_gt=get(b"/v1/>x"), target_quote=get(b'/v1/"x'), target_caret=get(b"/v1/^x"), target_backtick=get(b"/v1/`x"),
          target_braces=get(b"/v1/{x}"), target_bar=get(b"/v1/|x"),
          tls_hello=b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 32),
    *rows((400, 505),  # nothing hangs on which of the two rules speaks first
          no_target=b"GET HTTP/1.1\r\n" + HOST + KEY + b"\r\n", text_after_version=get(version=b"HTTP/1.1 x"), text_glued_to_version=get(version=b"HTTP/1.1x")),
    *rows(505,
          http_1_2=get(version=b"HTTP/1.2"), http_1_10=get(version=b"HTTP/1.10"), http_lower=get(version=b"http/1.1"), http_1=get(version=b"HTTP/1"),
          http_01_1=get(version=b"HTTP/01.1"), http_0_9=get(version=b"HTTP/0.9"), http_2_0=get(version=b"HTTP/2.0"), http_3_0=get(version=b"HTTP/3.0"),
          rtsp=get(version=b"RTSP/1.0"), ice=get(version=b"ICE/1.0"), http_09_form=b"GET /v1/models\r\n\r\n",
          h2_preface=b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    *rows(501,
          method_lower=get(method=b"get"), method_unknown=get(method=b"BREW"), method_propfind=get(method=b"PROPFIND"), method_bind=get(method=b"BIND"),
          method_source=get(method=b"SOURCE"), method_trace=get(method=b"TRACE"), upgrade=get(more=b"Connection: upgrade\r\nUpgrade: websocket\r\n"),
          upgrade_post=post(b"Connection: Upgrade", b"Upgrade: x"),
          upgrade_h2c=get(more=b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n")),
    *rows(405,
          connect=b"CONNECT b:443 HTTP/1.1\r\n" + HOST + KEY + b"\r\n", connect_cl=b"CONNECT b:443 HTTP/1.1\r\n" + HOST + KEY + b"Content-Length: 5\r\n\r\nhello"),
    *rows(414, target_60k=get(b"/" + b"a" * 61440), target_20k=get(b"/v1/models?" + b"a" * 20480)),
    # --- Host and Expect
    *rows(400,
          host_missing=get(host=b""), host_empty=get(host=b"Host:\r\n"), host_twice=get(host=HOST + HOST), host_two=get(host=HOST + b"Host: evil\r\n"),
          host_odd=get(host=b"Host: a b/c@d\r\n"), host_userinfo=get(host=b"Host: u@127.0.0.1\r\n"), host_port_word=get(host=b"Host: 127.0.0.1:http\r\n"),
          host_port_big=get(host=b"Host: 127.0.0.1:65536\r\n"), host_comma=get(host=b"Host: 127.0.0.1, evil\r\n"), host_bracket=get(host=b"Host: [::1\r\n")),
    *rows(417, expect_other=post(b"Expect: x"), expect_list=post(b"Expect: 100-continue, x")),
    # --- sizes
    *rows(431,
          header_64k=post(b"X-A: " + b"b" * 65536), headers_1000=post(*[b"X-%d: b" % i for i in range(1000)]), headers_101=post(*[b"X-%d: b" % i for i in range(101)]),
          head_900k=post(*[b"X-A: " + b"b" * 1000] * 900), name_64k=post(b"X" * 65536 + b": b")),
    *rows((400, 431), crlf_before_line_40k=b"\r\n" * 20480 + post()),
]


@pytest.fixture(scope="module")
def worker_(module_worker):
    return module_worker()


@pytest.fixture(scope="module")
def g(module_gate, worker_):
    return module_gate(models=[model("m", worker_)])


@pytest.fixture(autouse=True)
def clean(worker_):
    worker_.behave()
    worker_.requests, worker_.probes = [], []  # not clear(): connections keep their numbers


def seen(g, worker):
    """What reached the worker: texts of its POSTs and its odd GETs, after a request sent behind it all, so that nothing is still on its way."""
    r = exchange(g, chat("canary", headers=[("Connection", "close")]), timeout=5 * SLOW)
    assert r.statuses == [200], "the gate no longer serves"
    texts = [json.loads(x.body)["messages"][0]["content"] for x in worker.requests]
    assert "canary" in texts
    texts.remove("canary")
    return texts + [p.path for p in worker.probes if p.path not in ("/health", "/v1/models", "/models", "/")]


def check_problem(a):
    """The one error body, with the request's id in both places."""
    doc = a.json()
    assert doc["status"] == a.status and doc["request_id"] == a.header("x-request-id") and doc["title"] and doc["detail"]
    return doc


@pytest.mark.parametrize("data,status", REFUSED)
def test_refused(g, worker_, data, status):
    r = exchange(g, data + MARKER, timeout=4 * SLOW)
    assert len(r.answers) == 1, f"answered {r.statuses}: {r.raw[:400]!r}"
    a = r.answers[0]
    assert a.status in (status if isinstance(status, tuple) else (status,)), r.raw[:600]
    assert not r.interim
    assert r.closed and not r.reset, "the connection was not closed in a way that lets the client read the answer"
    assert a.header("connection") == "close" and a.whole
    check_problem(a)
    assert seen(g, worker_) == []


LEGAL = [
    # bytes, the statuses (the last is the marker's), texts that reach the worker
    pytest.param(post(), [200, 200], ["attack", "marker"], id="plain"),
    pytest.param(chunked(CHUNKS), [200, 200], ["attack", "marker"], id="chunked"),
    pytest.param(te(b"\tchunked"), [200, 200], ["attack", "marker"], id="te_tab_before"),
    pytest.param(te(b" CHUNKED"), [200, 200], ["attack", "marker"], id="te_upper"),
    pytest.param(te(b"chunked"), [200, 200], ["attack", "marker"], id="te_no_space"),
    pytest.param(post(length=b"Content-Length: %d \r\n" % len(BODY)), [200, 200], ["attack", "marker"], id="cl_trailing_space"),
    pytest.param(post(length=b"Content-Length: 0000%d\r\n" % len(BODY)), [200, 200], ["attack", "marker"], id="cl_leading_zeros"),
    pytest.param(b"\r\n\r\n" + post(), [200, 200], ["attack", "marker"], id="crlf_before_line"),
    pytest.param(post("X-A: Zürich".encode()), [200, 200], ["attack", "marker"], id="utf8_in_value"),
    pytest.param(post(b"X-A:"), [200, 200], ["attack", "marker"], id="empty_value"),
    pytest.param(post(b"Transfer_Encoding: chunked"), [200, 200], ["attack", "marker"], id="te_with_underscore"),
    pytest.param(post(b"Content_Length: 0"), [200, 200], ["attack", "marker"], id="cl_with_underscore"),
    pytest.param(post(b"Connection: keep-alive, Content-Length, Transfer-Encoding, Host"), [200, 200], ["attack", "marker"], id="connection_names_framing"),
    pytest.param(post(b"Connection: X-API-Key"), [200, 200], ["attack", "marker"], id="connection_names_key"),
    pytest.param(chunked(CHUNKS[:-2] + b"Content-Length: 5\r\nHost: evil\r\nX-API-Key: x\r\n\r\n"), [200, 200], ["attack", "marker"], id="trailers"),
    pytest.param(chunked(b"1;a=b\r\n%s\r\n%x;c\r\n%s\r\n0;d\r\n\r\n" % (BODY[:1], len(BODY) - 1, BODY[1:])), [200, 200], ["attack", "marker"], id="chunk_extensions"),
    pytest.param(chunked(b"".join(b"1\r\n%c\r\n" % c for c in BODY) + b"0\r\n\r\n"), [200, 200], ["attack", "marker"], id="chunks_of_one"),
    pytest.param(post(line=b"POST http://127.0.0.1/v1/chat/completions HTTP/1.1\r\n"), [200, 200], ["attack", "marker"], id="absolute_form"),
    pytest.param(post(line=b"POST HTTP://127.0.0.1/v1/chat/completions HTTP/1.1\r\n"), [200, 200], ["attack", "marker"], id="absolute_form_upper"),
    pytest.param(post(length=b"", body=b""), [400, 200], ["marker"], id="post_without_length"),
    pytest.param(post(b"Upgrade: x"), [200, 200], ["attack", "marker"], id="upgrade_without_connection"),
    pytest.param(get(), [200, 200], ["marker"], id="get"),
    pytest.param(get(method=b"HEAD"), [200, 200], ["marker"], id="head"),
]


@pytest.mark.parametrize("data,statuses,texts", LEGAL)
def test_legal(g, worker_, data, statuses, texts):
    """What is odd but has one meaning only: read with that meaning, and the request behind it is read as the next one."""
    r = exchange(g, data + MARKER, timeout=5 * SLOW, methods=["HEAD" if data.startswith(b"HEAD") else "POST"])
    assert r.statuses == statuses, r.raw[:600]
    assert r.closed
    assert seen(g, worker_) == texts
    for req in worker_.requests:
        # rebuilt: one framing, ours, whatever came in
        assert req.all("content-length") == [str(len(req.body))] and not req.all("transfer-encoding") and req.wire == req.body
        assert not [k for k, _ in req.headers if "_" in k] and len(req.all("host")) == 1 and "evil" not in req.header("host")


def test_data_after_connection_close(g, worker_):
    r = exchange(g, post(b"Connection: close") + MARKER, timeout=5 * SLOW)
    assert r.statuses == [200] and r.closed
    assert seen(g, worker_) == ["attack"]


def test_garbage_after_last_chunk_is_the_next_request(g, worker_):
    r = exchange(g, chunked(CHUNKS) + b"X" + MARKER, timeout=5 * SLOW)
    assert r.statuses in ([200, 501], [200, 400]) and r.closed
    assert seen(g, worker_) == ["attack"]


SMUGGLED = chat("smuggled")


@pytest.mark.parametrize("data", [
    pytest.param(get(more=b"Content-Length: %d\r\n" % len(SMUGGLED)) + SMUGGLED, id="get_cl"),
    pytest.param(get(more=TE) + b"%x\r\n%s\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED), id="get_chunked"),
    pytest.param(get(method=b"HEAD", more=b"Content-Length: %d\r\n" % len(SMUGGLED)) + SMUGGLED, id="head_cl"),
    pytest.param(get(b"/health", more=b"Content-Length: %d\r\n" % len(SMUGGLED)) + SMUGGLED, id="public_cl"),
    pytest.param(get(b"/v1/chat/completions", more=b"Content-Length: %d\r\n" % len(SMUGGLED)) + SMUGGLED, id="wrong_method_cl"),
    pytest.param(post(key=b"", length=b"Content-Length: %d\r\n" % len(SMUGGLED), body=SMUGGLED), id="unauthenticated_cl"),
    pytest.param(post(key=b"", length=TE, body=b"%x\r\n%s\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)), id="unauthenticated_chunked"),
    pytest.param(post(line=b"POST /nowhere HTTP/1.1\r\n", length=b"Content-Length: %d\r\n" % len(SMUGGLED), body=SMUGGLED), id="not_found_cl"),
    pytest.param(post(b"Content-Encoding: gzip", length=b"Content-Length: %d\r\n" % len(SMUGGLED), body=SMUGGLED), id="unsupported_coding_cl"),
    pytest.param(post(length=b"Content-Length: %d\r\n" % (len(SMUGGLED) + 10485761), body=SMUGGLED), id="too_large_cl"),
])
def test_a_body_nobody_reads_is_no_request(g, worker_, data):
    """An answer given before the body: what the body holds never becomes a request, whether the connection goes on or not."""
    r = exchange(g, data + MARKER, timeout=5 * SLOW, methods=["HEAD" if data.startswith(b"HEAD") else "POST"])
    assert r.closed and len(r.answers) <= 2 and not r.reset
    texts = seen(g, worker_)
    assert texts in ([], ["marker"]) and len(r.answers) == 1 + len(texts)


@pytest.mark.parametrize("cut", range(1, len(post()), 7))
def test_every_cut_reads_the_same(g, worker_, cut):
    """However the network cuts the bytes, it is one request."""
    data = post() + MARKER
    r = exchange(g, [data[:cut], data[cut:]], timeout=5 * SLOW, pause=0.004)
    assert r.statuses == [200, 200]
    assert seen(g, worker_) == ["attack", "marker"]


def test_byte_by_byte(g, worker_):
    data = chunked(b"%x;ext\r\n%s\r\n0\r\nX-T: 1\r\n\r\n" % (len(BODY), BODY)) + MARKER
    r = exchange(g, [data[i:i + 1] for i in range(len(data))], timeout=10 * SLOW)
    assert r.statuses == [200, 200]
    assert seen(g, worker_) == ["attack", "marker"]


@pytest.mark.parametrize("data,status,reason", [
    pytest.param(post(b"X-A: b\r\n c"), 400, "obs_fold", id="obs_fold"),
    pytest.param(post().replace(b"\r\n", b"\n"), 400, "bare_lf", id="bare_lf"),
    pytest.param(post(b"Transfer-Encoding: chunked", body=CHUNKS), 400, "length_and_encoding", id="length_and_encoding"),
    pytest.param(get(version=b"HTTP/2.0"), 505, "bad_version", id="bad_version"),
    pytest.param(get(host=HOST + HOST), 400, "bad_host", id="bad_host"),
    pytest.param(chunked(b"5;" + b"a" * 61440 + b"\r\nhello\r\n0\r\n\r\n"), 400, "chunk_overhead", id="chunk_overhead"),
    pytest.param(get(b"/" + b"a" * 61440), 414, "long_target", id="long_target"),
    pytest.param(post(*[b"X-%d: b" % i for i in range(101)]), 431, "too_many_headers", id="too_many_headers"),
])
def test_a_refusal_is_logged_once_with_its_rule(g, data, status, reason):
    r = exchange(g, data + MARKER, timeout=4 * SLOW)
    rid = r.answers[0].header("x-request-id")
    rec = g.record(rid)
    assert rec["status"] == status and rec["reason"] == reason and rec["client"] == "127.0.0.1"
    assert len([x for x in g.requests() if x["request_id"] == rid]) == 1


# ---------------------------------------------------------------------------------------------------- T-HDR: what reaches the worker

WORKER_KEY = "wk-own-3fQ8zL1xN7cV5bM2"
HOSTILE = [
    ("Authorization", "Bearer " + READ), ("X-API-Key", READ), ("x-api-key", READ), ("Cookie", "api_key=" + READ + "; session=1"),
    ("Proxy-Authorization", "Basic eDp5"), ("Proxy-Connection", "keep-alive"), ("Keep-Alive", "timeout=5"), ("TE", "trailers"), ("Trailer", "X-T"),
    ("Accept-Encoding", "gzip, br"), ("X_Api_Key", READ), ("X_Forwarded_For", "127.0.0.1"), ("Content_Type", "text/plain"),
    ("X-Forwarded-For", "127.0.0.1"), ("X-Forwarded-Host", "evil"), ("X-Forwarded-Proto", "https"), ("X-Forwarded-User", "root"), ("Forwarded", "for=127.0.0.1"),
    ("X-Real-IP", "127.0.0.1"), ("True-Client-IP", "127.0.0.1"), ("Via", "1.1 evil"), ("X-Secret", "s"), ("X-Remote-User", "root"), ("X-Tollgate-Key-Prefix", "adm-test-"), ("X-Accel-Redirect", "/etc/passwd"),
    ("X-HTTP-Method-Override", "DELETE"), ("Content-Location", "/x"), ("Origin", "http://127.0.0.1"), ("Referer", "http://127.0.0.1/"), ("Range", "bytes=0-1"),
    ("If-None-Match", "*"), ("Sec-Fetch-Site", "same-origin"), ("X-Amzn-Trace-Id", "x"), ("Api-Key", READ), ("X-Goog-Api-Key", READ),
    ("Connection", "keep-alive, X-Secret, Authorization, Accept-Language"), ("Accept-Language", "de"),
]
# The caller's headers that a worker may see; besides them it gets Host, its own Authorization, Content-Type, Content-Length and X-Request-ID.
HARMLESS = [("Accept", "text/event-stream"), ("User-Agent", "tester/1"), ("X-Session-ID", "s-1"), ("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            ("Tracestate", "a=b"), ("OpenAI-Organization", "org-1"), ("OpenAI-Project", "p-1"), ("OpenAI-Beta", "x=v1"), ("Anthropic-Version", "2023-06-01"),
            ("Anthropic-Beta", "y")]


@pytest.mark.parametrize("path,stream", [(CHAT, False), (CHAT, True), ("/v1/completions", False), ("/v1/embeddings", False), ("/infer", False), ("/api/v1/inference", False),
                                         ("/api/v1/inference", True)])
def test_the_worker_sees_only_what_is_its_own(gate, worker, path, stream):
    w = worker()
    g = gate(models=[model("m", w, api_key=WORKER_KEY)], toml={"limits": {"api": "off"}})
    doc = {CHAT: {"model": "m", "messages": [{"role": "user", "content": "hi"}]}, "/v1/completions": {"model": "m", "prompt": "hi"},
           "/v1/embeddings": {"model": "m", "input": "hi"}, "/infer": {"model_name": "m", "request_body": {"input": "hi"}},
           "/api/v1/inference": {"model": "m", "prompt": "hi"}}[path]
    if stream:
        doc["stream"] = True
    body = json.dumps(doc).encode()
    head = f"POST {path}?api_key={READ} HTTP/1.1\r\nHost: 127.0.0.1:{g.port}\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
    r = exchange(g, (head + "".join(f"{k}: {v}\r\n" for k, v in HOSTILE + HARMLESS) + "X-Request-ID: my-id-1\r\n\r\n").encode() + body + MARKER, timeout=6 * SLOW)
    assert r.statuses == [200, 200], r.raw[:500]
    got = w.requests[0]
    expected = [("Host", w.url.removeprefix("http://")), ("Authorization", "Bearer " + WORKER_KEY), ("Content-Type", "application/json"),
                ("Content-Length", str(len(got.body))), ("X-Request-ID", "my-id-1"), *HARMLESS]
    assert sorted((k.lower(), v) for k, v in got.headers) == sorted((k.lower(), v) for k, v in expected)
    assert r.answers[0].header("x-request-id") == "my-id-1"
    assert READ.encode() not in got.head + got.body, "our caller's key reached the worker"
    assert "?" not in got.path and got.version == "HTTP/1.1" and got.method == "POST"
    assert all(line.count(b"\n") == 0 for line in got.head.split(b"\r\n")), "a bare LF in the rebuilt head"


def test_without_a_worker_key_no_credential_is_sent(gate, worker):
    w = worker()
    g = gate(models=[model("m", w)])
    assert exchange(g, chat("x", headers=[("Authorization", "Bearer " + READ), ("Cookie", "a=b"), ("Connection", "close")]), timeout=5 * SLOW).statuses == [200]
    assert not w.last.all("authorization") and not w.last.all("cookie") and not w.last.all("x-api-key")


def test_an_unsafe_request_id_is_replaced(g, worker_):
    for bad in (b"a b", b"x" * 129, READ.encode(), b"sk-abcdefghijklmnop", b'"quoted"', b"\xc3\xa4", b""):
        worker_.clear()
        r = exchange(g, post(b"X-Request-ID: " + bad, b"Connection: close"), timeout=5 * SLOW)
        ours = r.answers[0].header("x-request-id")
        assert ours and ours.encode() != bad and worker_.last.header("x-request-id") == ours


def test_worker_headers_that_do_not_pass(g, worker_):
    """Set-Cookie and the hop-by-hop ones of an answer end at the gate."""
    worker_.behave(headers=[("Set-Cookie", "a=b"), ("Set-Cookie2", "c=d"), ("Keep-Alive", "timeout=5"), ("Connection", "X-Hop"), ("X-Hop", "1"), ("Proxy-Authenticate", "Basic"),
                            ("Server", "worker/1.0"), ("X-Powered-By", "worker"), ("Strict-Transport-Security", "max-age=1"), ("Access-Control-Allow-Origin", "*"),
                            ("X-RateLimit-Limit", "1"), ("X-Request-ID", "worker-id"), ("Alt-Svc", 'h3=":443"'), ("Location", "http://evil/")])
    r = exchange(g, post(b"Connection: close"), timeout=5 * SLOW)
    a = r.answers[0]
    assert a.status == 200
    names = {k for k, _ in a.headers}
    assert not names & {"set-cookie", "set-cookie2", "keep-alive", "x-hop", "proxy-authenticate", "x-powered-by", "strict-transport-security", "alt-svc",
                        "access-control-allow-origin", "x-ratelimit-limit", "location"}, names
    assert a.header("x-request-id") != "worker-id" and a.header("connection") == "close" and a.header("server") != "worker/1.0"
