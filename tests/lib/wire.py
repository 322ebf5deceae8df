"""Raw HTTP/1.1 for tests: parse what came back from Gate.raw(), byte for byte."""
import json


class Answer:
    """status, reason, headers (list of (lower-case name, value)), body (decoded), raw (exact bytes of this answer)."""

    def __init__(self, status, reason, headers, body, raw, whole):
        self.status, self.reason, self.headers, self.body, self.raw, self.whole = status, reason, headers, body, raw, whole

    def header(self, name):
        """The one value, or None; fails when it is there twice."""
        got = [v for k, v in self.headers if k == name.lower()]
        assert len(got) <= 1, (name, got)
        return got[0] if got else None

    def json(self):
        return json.loads(self.body)


def dechunk(data):
    """(body, bytes used, whole) of a chunked body at the start of data."""
    body, at = b"", 0
    while True:
        eol = data.find(b"\r\n", at)
        if eol < 0:
            return body, len(data), False
        size = int(data[at:eol].split(b";")[0], 16)
        at = eol + 2
        if size == 0:
            end = data.find(b"\r\n", at)
            while end > at:  # trailers
                at, end = end + 2, data.find(b"\r\n", end + 2)
            return body, at + 2, end >= 0
        body += data[at:at + size]
        if data[at + size:at + size + 2] != b"\r\n":
            return body, len(data), False
        at += size + 2


def answers(data, methods=None):
    """Every answer in data, in order (1xx included). methods: the request methods in order, for HEAD."""
    out, methods = [], list(methods or [])
    while data:
        head, sep, rest = data.partition(b"\r\n\r\n")
        assert sep, f"an unfinished head: {data[:200]!r}"
        lines = head.decode("latin-1").split("\r\n")
        version, status, reason = (lines[0].split(" ", 2) + [""])[:3]
        assert version in ("HTTP/1.1", "HTTP/1.0"), lines[0]
        headers = [(k.lower(), v.strip()) for k, _, v in (x.partition(":") for x in lines[1:])]
        h, status = dict(headers), int(status)
        method = "GET" if status < 200 else (methods.pop(0) if methods else "GET")
        if status < 200 or status in (204, 304) or method == "HEAD":
            body, used, whole = b"", 0, True
        elif "chunked" in h.get("transfer-encoding", ""):
            body, used, whole = dechunk(rest)
        elif "content-length" in h:
            used = int(h["content-length"])
            body = rest[:used]
            whole = len(body) == used
        else:
            body, used, whole = rest, len(rest), True
        out.append(Answer(status, reason, headers, body, head + sep + rest[:used], whole))
        data = rest[used:]
    return out


def answer(data, method="GET"):
    """The one final answer in data."""
    got = [a for a in answers(data, [method]) if a.status >= 200]
    assert len(got) == 1, [a.status for a in got]
    return got[0]


def request(method, path, headers=(), body=None, host="127.0.0.1", version="1.1"):
    """Bytes of a request: Host first, Content-Length last when there is a body."""
    lines = [f"{method} {path} HTTP/{version}".encode()]
    if host is not None:
        lines.append(b"Host: " + host.encode())
    for k, v in headers:
        lines.append((k if isinstance(k, bytes) else k.encode()) + b": " + (v if isinstance(v, bytes) else str(v).encode()))
    if isinstance(body, str):
        body = body.encode()
    if body is not None:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + (body or b"")


def sse(text):
    """The data of each event, in order."""
    if isinstance(text, bytes):
        text = text.decode()
    out = []
    for block in text.replace("\r\n", "\n").split("\n\n"):
        data = [line[5:].removeprefix(" ") for line in block.split("\n") if line.startswith("data:")]
        if data:
            out.append("\n".join(data))
    return out
