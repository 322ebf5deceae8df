"""
Bare sockets for the tests of framing, faults and life cycle, where what matters is which byte came when and who closed first.

    exchange(g, data)            -> Reply: the answers to these bytes, whether the gate closed, and how long it took
    Stream(g, body, ...)         -> a chat request on a socket of its own; head(), event(), rest(), close(), vanish()
    RawWorker(script)            -> a worker whose every connection is handled by script(Conn): for answers that no worker should give
    rss_kb(pid), SLOW            -> resident memory; how much longer things may take (sanitizers)
"""
import json
import socket
import struct
import threading
import time
from pathlib import Path

from .gate import BINARY, READ
from .wire import answers, request

SLOW = 3 if any(k in str(BINARY) for k in ("asan", "tsan")) else 1
CHAT = "/v1/chat/completions"
ABRUPT = struct.pack("ii", 1, 0)


def rss_kb(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError(f"process {pid} has no memory: it is gone")


def until(test, timeout=5.0, what="it", step=0.005):
    """Waits until test() is true and returns its value."""
    end = time.monotonic() + timeout
    while not (got := test()):
        assert time.monotonic() < end, f"{what} did not happen within {timeout} s"
        time.sleep(step)
    return got


def chat_body(text="hello", model="m", **more):
    return json.dumps({"model": model, "messages": [{"role": "user", "content": text}], **more}).encode()


def chat(text="hello", key=READ, headers=(), host="127.0.0.1", version="1.1", path=CHAT, **more):
    """Bytes of a whole chat request."""
    return request("POST", path, [("X-API-Key", key), ("Content-Type", "application/json"), *headers], chat_body(text, **more), host, version)


class Reply:
    """raw, answers (final ones), interim (1xx), closed (the gate ended the connection in time), reset (by RST), seconds."""

    def __init__(self, raw, closed, reset, seconds, methods=None):
        self.raw, self.closed, self.reset, self.seconds = raw, closed, reset, seconds
        got = answers(raw, methods)
        self.answers = [a for a in got if a.status >= 200]
        self.interim = [a for a in got if a.status < 200]

    @property
    def statuses(self):
        return [a.status for a in self.answers]


def exchange(g, data, timeout=5, methods=None, source=None, unix=None, pause=None):
    """Sends bytes (a list: piece by piece, `pause` seconds between) and reads until the gate closes or `timeout` passes."""
    start, out, closed, reset = time.monotonic(), b"", False, False
    with g.connect(source, timeout, unix) as s:
        try:
            for i, piece in enumerate(data if isinstance(data, (list, tuple)) else [data]):
                if i and pause:
                    time.sleep(pause)
                s.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass  # what it has said by then is read below
        while (left := start + timeout - time.monotonic()) > 0:
            s.settimeout(left)
            try:
                got = s.recv(1 << 18)
            except TimeoutError:
                break
            except ConnectionResetError:
                closed = reset = True
                break
            if not got:
                closed = True
                break
            out += got
    return Reply(out, closed, reset, time.monotonic() - start, methods)


class Stream:
    """
    One request on a socket of its own, its answer read as it comes. status, headers (dict, lower-case) after head(); event() gives the next
    server-sent event (bytes without the blank line), None at the end; whole: the chunked body had its end; at: time.monotonic() of the last event.
    """

    def __init__(self, g, text="hello", key=READ, data=None, timeout=10, unix=None, rcvbuf=None, **more):
        more.setdefault("stream", True)
        if rcvbuf:
            self.s = socket.socket()
            self.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
            self.s.settimeout(timeout)
            self.s.connect(("127.0.0.1", g.port))
        else:
            self.s = g.connect(None, timeout, unix)
        self.buf, self.text, self.status, self.headers, self.whole, self.closed, self.at = b"", b"", None, None, False, False, None
        self.s.sendall(data if data is not None else chat(text, key, **more))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def more(self):
        """Some more bytes; False at the end of the connection."""
        try:
            got = self.s.recv(65536)
        except ConnectionResetError:
            got = b""
        self.buf += got
        self.closed = self.closed or not got
        return bool(got)

    def head(self):
        while b"\r\n\r\n" not in self.buf:
            assert self.more(), f"closed before a whole head came: {self.buf[:300]!r}"
        head, _, self.buf = self.buf.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split()[1])
        self.headers = {k.strip().lower(): v.strip() for k, _, v in (x.partition(":") for x in lines[1:])}
        return self

    def _unchunk(self):
        while not self.whole:
            eol = self.buf.find(b"\r\n")
            if eol < 0:
                return
            size = int(self.buf[:eol], 16)
            if size == 0:
                self.whole = self.buf[eol:eol + 4] == b"\r\n\r\n"
                return
            if len(self.buf) < eol + 2 + size + 2:
                return
            self.text += self.buf[eol + 2:eol + 2 + size]
            self.buf = self.buf[eol + 2 + size + 2:]

    def event(self):
        if self.status is None:
            self.head()
        while True:
            self._unchunk()
            if b"\n\n" in self.text:
                one, _, self.text = self.text.partition(b"\n\n")
                self.at = time.monotonic()
                return one
            if self.whole or not self.more():
                return None

    def rest(self):
        """All further events."""
        return [e for e in iter(self.event, None)]

    def wait_closed(self, timeout=5):
        """Reads on until the gate closes."""
        self.s.settimeout(timeout)
        while self.more():
            pass
        return self.closed

    def close(self):
        self.s.close()

    def vanish(self):
        """Gone without a goodbye (RST). The moment it happened."""
        self.s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABRUPT)
        self.s.close()
        return time.monotonic()


class Gone(Exception):
    pass


class Conn:
    """A connection from the gate, as a RawWorker's script sees it."""

    def __init__(self, sock, number):
        self.s, self.number, self.buf, self.closed_at = sock, number, b"", None

    def read_request(self):
        """(head, body) of the next request; probes (GET) are answered and passed over. Raises Gone when the gate closes."""
        while True:
            while b"\r\n\r\n" not in self.buf:
                self._more()
            head, _, self.buf = self.buf.partition(b"\r\n\r\n")
            if head.startswith(b"GET "):
                self.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
                continue
            length = next(int(x.split(b":")[1]) for x in head.split(b"\r\n") if x.lower().startswith(b"content-length:"))
            while len(self.buf) < length:
                self._more()
            body, self.buf = self.buf[:length], self.buf[length:]
            return head, body

    def _more(self):
        try:
            got = self.s.recv(65536)
        except OSError:
            got = b""
        if not got:
            self.closed_at = time.monotonic()
            raise Gone
        self.buf += got

    def send(self, data):
        try:
            self.s.sendall(data)
        except OSError:
            self.closed_at = self.closed_at or time.monotonic()
            raise Gone from None

    def chunk(self, data):
        self.send(b"%x\r\n%s\r\n" % (len(data), data))

    def wait_closed(self, timeout=10):
        """Until the gate closes this connection."""
        self.s.settimeout(timeout)
        try:
            while True:
                self._more()
        except Gone:
            return self.closed_at

    def close(self):
        try:
            self.s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.s.close()


class RawWorker:
    """script(conn) runs in a thread for every connection; its return closes the connection. connections: all Conn so far, in order."""

    def __init__(self, script):
        self.script, self.connections = script, []
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(256)
        self.url = "http://127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            c = Conn(s, len(self.connections))
            self.connections.append(c)
            threading.Thread(target=self._run, args=(c,), daemon=True).start()

    def _run(self, c):
        try:
            self.script(c)
        except (Gone, OSError):
            pass
        finally:
            c.close()

    def close(self):
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        for c in list(self.connections):
            c.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


JSON_ANSWER = b'{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"fine"},"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"completion_tokens":5,"total_tokens":12}}'
GOOD_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(JSON_ANSWER), JSON_ANSWER)
SSE_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def sse_event(text, **more):
    return b"data: " + json.dumps({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1700000000, "model": "m",
                                   "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}], **more}, ensure_ascii=False).encode() + b"\n\n"
