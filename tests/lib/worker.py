"""
A programmable model worker: sockets and threads, nothing of HTTP taken from a library, so that what the gate sent is seen byte for byte.

    w = worker()                       # fixture of conftest.py; worker(unix=path) listens on a Unix socket; w.url goes into a model row
    w.behave(delay=0.2, chunks=8)      # what every request from now on gets
    w.once(status=500)                 # what the next request gets; several calls queue up; then behave()'s again
    w.requests                         # list of Request, in order of arrival: POSTs; probes (GET) are in w.probes
    w.last                             # the newest of w.requests
    w.wait(3)                          # waits until 3 requests have arrived, returns w.requests
    w.running, w.max_running           # requests being worked on now; most at once so far
    w.connections                      # connections accepted so far;  w.open: still open
    w.healthy = False                  # probes get 503
    w.down(); w.up()                   # stops listening and drops every connection; listens again on the same address
    w.clear()                          # forgets requests and counts

Speaks POST /v1/chat/completions, /v1/completions, /v1/embeddings, /infer (answers {"response": text, ...}); GET /v1/models, /health and anything else.
The text of an answer is the prompt, message or input itself (echo) unless `text` is set.

Behaviour (keywords of behave and once; a function(request) -> dict of them may be given as `by=`):
    status 200, delay 0 (seconds before the first byte), text None, chunks 4 (content events of a stream), pace 0 (seconds between events),
    usage True (usage in JSON bodies, and in streams where the request asked for it; "always": in streams even unasked; False: never),
    prompt_tokens 7, completion_tokens 5, headers [] (extra (name, value)), body None (bytes: the JSON body, as is), events None (list of bytes: the stream, as is),
    tool_calls None (raw JSON text of the array), model None (the name told; default: what the request named), close False (Connection: close after the answer),
    chunked False (JSON bodies sent chunked, in `chunks` pieces), stop_after None (n: closes after n events or pieces), reset False (that close is a RST),
    hang_after None (n: falls silent after n events), die_after None (n: SIGKILLs its process after n events), hang False (never answers), cut_head False (closes in the middle of the head), raw None (bytes sent
    instead of an answer), raw_close True (closes after raw), drop False (closes without a byte), early False (answers before it reads the body),
    read_delay 0 (seconds before it reads the body), read_rate None (bytes a second it reads the body with), done True ([DONE] at a stream's end).
"""
import json
import os
import select
import signal
import socket
import struct
import threading
import time

threading.stack_size(512 * 1024)

DEFAULT = dict(status=200, delay=0, text=None, chunks=4, pace=0, usage=True, prompt_tokens=7, completion_tokens=5, headers=(), body=None, events=None,
               tool_calls=None, model=None, close=False, chunked=False, stop_after=None, reset=False, hang_after=None, die_after=None, hang=False, cut_head=False, raw=None,
               raw_close=True, drop=False, early=False, read_delay=0, read_rate=None, done=True, by=None)


class Gone(Exception):
    """The peer closed."""


class Request:
    """One request as it came: head and wire (exact bytes), body (decoded), method, path, headers, connection (number), arrived, ended,
    client_closed_at (time.monotonic() when the peer was seen to close before the answer's end, else None), sent (events or pieces sent)."""

    def __init__(self, head, connection):
        self.head, self.wire, self.body, self.connection = head, b"", b"", connection
        lines = head.decode("latin-1").split("\r\n")
        self.method, self.path, self.version = (lines[0].split(" ") + ["", ""])[:3]
        self.headers = [(k, v.strip()) for k, _, v in (x.partition(":") for x in lines[1:] if x)]
        self.arrived, self.ended, self.client_closed_at, self.sent = time.monotonic(), None, None, 0
        self.whole = False

    def all(self, name):
        return [v for k, v in self.headers if k.lower() == name.lower()]

    def header(self, name):
        got = self.all(name)
        return got[0] if got else None

    def json(self):
        return json.loads(self.body)

    def wait_end(self, timeout=5):
        """Until the worker is through with it (answered, or saw the peer close)."""
        end = time.monotonic() + timeout
        while self.ended is None:
            assert time.monotonic() < end, f"{self.path} is still being worked on"
            time.sleep(0.002)
        return self


class Connection:
    def __init__(self, worker, sock, number):
        self.w, self.s, self.number, self.buf = worker, sock, number, b""

    def run(self):
        try:
            while self.one():
                pass
        except (Gone, OSError):
            pass
        finally:
            self.w._closed(self)
            try:
                self.s.close()
            except OSError:
                pass

    def more(self, n=65536):
        got = self.s.recv(n)
        if not got:
            raise Gone
        self.buf += got

    def one(self):
        while b"\r\n\r\n" not in self.buf:
            self.more()
        head, _, self.buf = self.buf.partition(b"\r\n\r\n")
        r = Request(head, self.number)
        probe = r.method in ("GET", "HEAD")
        b = self.w._behaviour(r, probe)
        self.w._arrived(r, probe)
        try:
            if not b["early"]:
                self.read_body(r, b)
                if b["by"]:
                    b.update(b["by"](r) or {})
            return self.probe(r) if probe else self.answer(r, b)
        except (Gone, OSError):
            if r.client_closed_at is None:
                r.client_closed_at = time.monotonic()
            raise Gone
        finally:
            r.ended = time.monotonic()
            self.w._ended(r, probe)

    def read_body(self, r, b):
        if b["read_delay"]:
            self.pause(r, b["read_delay"], watch=False)
        step = 65536 if not b["read_rate"] else max(1, b["read_rate"] // 20)

        def need(test):
            while not test():
                if b["read_rate"]:
                    time.sleep(0.05)
                self.more(step)
        if "chunked" in (r.header("transfer-encoding") or "").lower():
            while True:
                need(lambda: b"\r\n" in self.buf)
                line, _, self.buf = self.buf.partition(b"\r\n")
                size = int(line.split(b";")[0], 16)
                need(lambda: len(self.buf) >= size + 2 or (size == 0 and b"\r\n" in self.buf))
                if size == 0:
                    end = self.buf.find(b"\r\n") + 2
                    r.wire += line + b"\r\n" + self.buf[:end]
                    self.buf = self.buf[end:]
                    break
                r.wire += line + b"\r\n" + self.buf[:size + 2]
                r.body += self.buf[:size]
                self.buf = self.buf[size + 2:]
        else:
            n = int(r.header("content-length") or 0)
            need(lambda: len(self.buf) >= n)
            r.wire = r.body = self.buf[:n]
            self.buf = self.buf[n:]
        r.whole = True

    def pause(self, r, seconds, watch=True):
        """Waits, and notices the peer's close while it does. seconds None: for ever."""
        end = None if seconds is None else time.monotonic() + seconds
        while True:
            left = 0.5 if end is None else min(0.5, end - time.monotonic())
            if left <= 0 and end is not None:
                return
            if self.w._stopped or self.s.fileno() < 0:
                raise Gone
            if not watch:
                time.sleep(max(0, left))
                continue
            ready, _, _ = select.select([self.s], [], [], max(0, left))
            if ready:
                got = self.s.recv(1, socket.MSG_PEEK)
                if not got:
                    r.client_closed_at = time.monotonic()
                    raise Gone
                time.sleep(min(0.01, max(0, left)))

    def shut(self, b):
        if b["reset"]:
            self.s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.s.close()
        return False

    def head(self, status, headers):
        lines = [f"HTTP/1.1 {status} {'OK' if status == 200 else 'Status'}"] + [f"{k}: {v}" for k, v in headers]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def probe(self, r):
        if r.path.rstrip("/").endswith("/models"):
            body = json.dumps({"object": "list", "data": [{"id": "worker-model", "object": "model", "created": 0, "owned_by": "worker"}]}).encode()
        else:
            body = b'{"status":"ok"}'
        status = 200 if self.w.healthy else 503
        self.s.sendall(self.head(status, [("Content-Type", "application/json"), ("Content-Length", len(body))]) + (b"" if r.method == "HEAD" else body))
        return True

    def answer(self, r, b):
        if b["delay"]:
            self.pause(r, b["delay"])
        if b["hang"]:
            self.pause(r, None)
        if b["drop"]:
            return self.shut(b)
        if b["raw"] is not None:
            self.s.sendall(b["raw"])
            r.sent += 1
            if b["raw_close"]:
                return self.shut(b)
            self.pause(r, None)
        if b["cut_head"]:
            self.s.sendall(b"HTTP/1.1 200 OK\r\nContent-Ty")
            return self.shut(b)
        try:
            doc = json.loads(r.body)
        except ValueError:
            doc = {}
        doc = doc if isinstance(doc, dict) else {}
        if b["events"] is not None or (doc.get("stream") is True and b["body"] is None and b["status"] == 200):
            return self.stream(r, b, doc)
        return self.whole(r, b, doc)

    def echo(self, r, b, doc):
        if b["text"] is not None:
            return b["text"]
        if r.path.endswith("/infer"):
            inner = doc.get("request_body")
            got = inner.get("input", "") if isinstance(inner, dict) else ""
        elif "messages" in doc:
            last = doc["messages"][-1] if isinstance(doc["messages"], list) and doc["messages"] else None
            got = last.get("content", "") if isinstance(last, dict) else ""
        else:
            got = doc.get("prompt", doc.get("input", ""))
        return got if isinstance(got, str) else json.dumps(got, ensure_ascii=False)

    def whole(self, r, b, doc):
        text, name = self.echo(r, b, doc), b["model"] or doc.get("model") or "worker-model"
        usage = {"prompt_tokens": b["prompt_tokens"], "completion_tokens": b["completion_tokens"], "total_tokens": b["prompt_tokens"] + b["completion_tokens"]}
        if b["body"] is not None:
            body = b["body"]
        elif b["status"] != 200:
            body = json.dumps({"error": {"message": "the worker says no", "type": "worker_error", "param": None, "code": "worker_code"}}).encode()
        else:
            if r.path.endswith("/infer"):
                out = {"response": text, "model_name_processed": doc.get("model_name"), "worker_port": self.w.port}
            elif r.path.endswith("/embeddings"):
                inputs = doc.get("input", "")
                inputs = inputs if isinstance(inputs, list) else [inputs]
                out = {"object": "list", "model": name, "data": [{"object": "embedding", "index": i, "embedding": [0.25, -0.5, float(len(str(x)))]}
                                                                 for i, x in enumerate(inputs)]}
                usage = {"prompt_tokens": b["prompt_tokens"], "total_tokens": b["prompt_tokens"]}
            elif r.path.endswith("/chat/completions"):
                out = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1700000000, "model": name,
                       "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}
                if b["tool_calls"] is not None:
                    out["choices"][0]["message"] = {"role": "assistant", "content": None, "tool_calls": "@@"}
                    out["choices"][0]["finish_reason"] = "tool_calls"
            else:
                out = {"id": "cmpl-1", "object": "text_completion", "created": 1700000000, "model": name,
                       "choices": [{"index": 0, "text": text, "finish_reason": "stop", "logprobs": None}]}
            if b["usage"]:
                out["usage"] = usage
            body = json.dumps(out, ensure_ascii=False)
            if b["tool_calls"] is not None:
                body = body.replace('"@@"', b["tool_calls"])
            body = body.encode()
        headers = [("Content-Type", "application/json")] + list(b["headers"]) + ([("Connection", "close")] if b["close"] else [])
        if not b["chunked"]:
            self.s.sendall(self.head(b["status"], headers + [("Content-Length", len(body))]))
            if b["stop_after"] is not None:
                self.s.sendall(body[:b["stop_after"]])
                return self.shut(b)
            self.w._ended(r, False)  # before its last byte: who has read that may send the next request at once
            self.s.sendall(body)
            r.sent += 1
            return not b["close"] or self.shut(b)
        self.s.sendall(self.head(b["status"], headers + [("Transfer-Encoding", "chunked")]))
        step = max(1, -(-len(body) // max(1, b["chunks"])))
        return self.pieces(r, b, [body[i:i + step] for i in range(0, len(body), step)])

    def stream(self, r, b, doc):
        name = b["model"] or doc.get("model") or "worker-model"
        chat = r.path.endswith("/chat/completions")
        options = doc.get("stream_options")
        asked = isinstance(options, dict) and bool(options.get("include_usage"))
        with_usage = b["usage"] == "always" or (b["usage"] and asked)

        def event(choices, **more):
            e = {"id": "chatcmpl-1", "object": "chat.completion.chunk" if chat else "text_completion", "created": 1700000000, "model": name, "choices": choices, **more}
            return b"data: " + json.dumps(e, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
        none = {"usage": None} if with_usage else {}
        if b["events"] is not None:
            events = list(b["events"])
        elif b["tool_calls"] is not None:
            raw = event([{"index": 0, "delta": {"role": "assistant", "tool_calls": "@@"}, "finish_reason": None}], **none).replace(b'"@@"', b["tool_calls"].encode())
            events = [raw, event([{"index": 0, "delta": {}, "finish_reason": "tool_calls"}], **none)]
        else:
            text, n = self.echo(r, b, doc), max(1, b["chunks"])
            step = max(1, -(-len(text) // n))
            parts = [text[i * step:(i + 1) * step] for i in range(n)]
            events = [event([{"index": 0, **({"delta": {"content": p}} if chat else {"text": p}), "finish_reason": None}], **none) for p in parts]
            events.append(event([{"index": 0, **({"delta": {}} if chat else {"text": ""}), "finish_reason": "stop"}], **none))
        if b["events"] is None:
            if with_usage:
                events.append(event([], usage={"prompt_tokens": b["prompt_tokens"], "completion_tokens": b["completion_tokens"],
                                               "total_tokens": b["prompt_tokens"] + b["completion_tokens"]}))
            if b["done"]:
                events.append(b"data: [DONE]\n\n")
        headers = [("Content-Type", "text/event-stream"), ("Cache-Control", "no-cache"), ("Transfer-Encoding", "chunked")] + list(b["headers"])
        if b["close"]:
            headers.append(("Connection", "close"))
        self.s.sendall(self.head(b["status"], headers))
        return self.pieces(r, b, events)

    def pieces(self, r, b, parts):
        for i, p in enumerate(parts):
            if b["stop_after"] is not None and i >= b["stop_after"]:
                return self.shut(b)
            if b["hang_after"] is not None and i >= b["hang_after"]:
                self.pause(r, None)
            if b["die_after"] is not None and i >= b["die_after"]:
                os.kill(os.getpid(), signal.SIGKILL)
            if b["pace"] and i:
                self.pause(r, b["pace"])
            if p:
                self.s.sendall(b"%x\r\n" % len(p) + p + b"\r\n")
            r.sent += 1
        self.s.sendall(b"0\r\n\r\n")
        return not b["close"] or self.shut(b)


class Worker:
    def __init__(self, unix=None, host="127.0.0.1", backlog=1024, listen=True):
        self.unix, self.host, self.port, self.backlog = unix, host, 0, backlog
        self.lock = threading.Lock()
        self.healthy, self._stopped = True, False
        self._default, self._queue = dict(DEFAULT), []
        self._conns, self._listener = set(), None
        self.clear()
        self._bind(listen)

    # --- behaviour --------------------------------------------------------------------------------------------------------------
    @staticmethod
    def _checked(kw):
        unknown = set(kw) - set(DEFAULT)
        assert not unknown, f"no such behaviour: {unknown}"
        return kw

    def behave(self, **kw):
        """Resets to the defaults, then sets these."""
        with self.lock:
            self._default = {**DEFAULT, **self._checked(kw)}
            self._queue.clear()
        return self

    def once(self, **kw):
        with self.lock:
            self._queue.append({**DEFAULT, **self._checked(kw)})
        return self

    def _behaviour(self, r, probe):
        with self.lock:
            return dict(DEFAULT) if probe else dict(self._queue.pop(0) if self._queue else self._default)

    # --- record -----------------------------------------------------------------------------------------------------------------
    def clear(self):
        with self.lock:
            self.requests, self.probes, self.connections = [], [], 0
            self.running = getattr(self, "running", 0)
            self.max_running = self.running

    def _arrived(self, r, probe):
        with self.lock:
            (self.probes if probe else self.requests).append(r)
            r.counted = not probe
            if not probe:
                self.running += 1
                self.max_running = max(self.max_running, self.running)

    def _ended(self, r, probe):
        with self.lock:
            if r.counted:
                r.counted = False
                self.running -= 1

    def _closed(self, c):
        with self.lock:
            self._conns.discard(c)

    @property
    def open(self):
        with self.lock:
            return len(self._conns)

    @property
    def last(self):
        return self.requests[-1]

    def wait(self, n=1, timeout=5):
        end = time.monotonic() + timeout
        while len(self.requests) < n:
            assert time.monotonic() < end, f"{len(self.requests)} requests reached the worker, not {n}"
            time.sleep(0.002)
        return self.requests

    def idle(self, timeout=5):
        """Waits until nothing is being worked on."""
        end = time.monotonic() + timeout
        while self.running:
            assert time.monotonic() < end, f"{self.running} requests are still running"
            time.sleep(0.002)

    # --- life -------------------------------------------------------------------------------------------------------------------
    @property
    def url(self):
        return f"unix:{self.unix}" if self.unix else f"http://{self.host}:{self.port}"

    def _bind(self, listen=True):
        if self.unix:
            if os.path.exists(self.unix):
                os.unlink(self.unix)
            s = socket.socket(socket.AF_UNIX)
            s.bind(str(self.unix))
        else:
            s = socket.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind((self.host, self.port))
            self.port = s.getsockname()[1]
        if listen:
            s.listen(self.backlog)
            s.settimeout(0.2)
            self._stopped = False
            threading.Thread(target=self._accept, args=(s,), daemon=True).start()
        self._listener = s

    def _accept(self, listener):
        while not self._stopped:
            try:
                s, _ = listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            s.settimeout(None)
            if s.family != socket.AF_UNIX:
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self.connections += 1
                c = Connection(self, s, self.connections)
                self._conns.add(c)
            threading.Thread(target=c.run, daemon=True).start()

    def down(self):
        self._stopped = True
        for s in [self._listener] + [c.s for c in list(self._conns)]:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self._listener.close()
        return self

    def up(self):
        self._bind()
        return self

    close = down
