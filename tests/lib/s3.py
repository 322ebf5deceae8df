"""
An object store for the tests, in memory, that checks Signature Version 4 by code of its own and can fail in chosen ways.

    s = Store("models")                 # a bucket; s.url, s.env (what a client needs), s.objects {key: bytes}
    s.fail("500", 2)                    # the next 2 requests; "503", "cut" (closed within the answer), "drop" (no answer), "spoil" (a GET's body), "etag" (a wrong one), "error200" (CompleteMultipartUpload),
                                        # "garbage" (200, and no answer of S3), "endless" (a list that goes on and on), "same" (one that never does), "drip" (a byte now and then, for 60 s),
                                        # "hold" (answered when s.go is set, at the latest after 15 s)
    s.fail("500", 1, lambda r: r[0] == "PUT" and r[2].get("partNumber") == "2")
    s.seen                              # [(method, key, query dict)], every request that was signed well
    s.page = 2                          # objects a page of a list
    s.close(), s.open()                 # away, and back on the same port

What AWS says is done as AWS says it: payloads are compared with x-amz-content-sha256, the ETag of an upload in parts is the MD5 of the parts' MD5s, parts other than the last are 5 MiB at least.
"""
import hashlib
import hmac
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote, unquote_plus
from xml.sax.saxutils import escape

ID, SECRET, REGION = "AKIATESTTESTTEST", "s3cret/with+signs", "eu-west-1"
PART_MIN = 5 << 20


def signature(secret, region, method, path, query, headers, names, date, payload):
    """From the request as it was received: raw path, raw query, headers by lower-case name."""
    pairs = sorted(tuple(p.partition("=")[::2]) for p in query.split("&")) if query else []
    again = "&".join(f"{quote(unquote(k), safe='-_.~')}={quote(unquote(v), safe='-_.~')}" for k, v in pairs)
    canonical = "\n".join([method, quote(unquote(path), safe="/-_.~"), again, *(f"{n}:{' '.join(headers[n].split())}" for n in names), "", ";".join(names), payload])
    scope = f"{date[:8]}/{region}/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", date, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = b"AWS4" + secret.encode()
    for part in (date[:8], region, "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *a):
        pass

    def answer(self, status, body=b"", **headers):
        body = body.encode() if isinstance(body, str) else body
        how = self.how if status < 300 else None
        if how == "spoil" and self.command == "GET" and body:
            body = body[:-1] + bytes([body[-1] ^ 1])
        if how == "etag" and "ETag" in headers:
            headers["ETag"] = '"' + "0" * 32 + '"'
        self.send_response(status)
        for k, v in headers.items():
            self.send_header(k, v)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            if how == "cut":
                self.wfile.write(body[:len(body) // 2])
                self.wfile.flush()
                self.close_connection = True
                self.connection.shutdown(2)
                return
            self.wfile.write(body)

    def error(self, status, code):
        self.answer(status, f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{code}</Message></Error>')

    def trusted(self, path, query, body):
        h = {k.lower(): v for k, v in self.headers.items()}
        m = re.fullmatch(r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/s3/aws4_request, ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})", h.get("authorization", ""))
        if not m:
            return "AccessDenied"
        names, date, payload = m[4].split(";"), h.get("x-amz-date", ""), h.get("x-amz-content-sha256", "")
        must = {"host"} | {n for n in h if n.startswith("x-amz-")}
        if names != sorted(names) or not must <= set(names) or date[:8] != m[2]:
            return "AccessDenied"
        if abs(time.time() - time.mktime(time.strptime(date, "%Y%m%dT%H%M%SZ")) + time.timezone) > 900:
            return "RequestTimeTooSkewed"
        if m[1] != ID or self.store.token != h.get("x-amz-security-token"):
            return "InvalidAccessKeyId"
        if not hmac.compare_digest(m[5], signature(SECRET, REGION, self.command, path, query, h, names, date, payload)):
            return "SignatureDoesNotMatch"
        return None if payload == hashlib.sha256(body).hexdigest() else "XAmzContentSHA256Mismatch"

    def serve(self):
        s = self.store
        self.how = None
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.trusted(path, query, body)
        if fault:
            s.refused.append(fault)
            return self.error(400 if fault.startswith("XAmz") else 403, fault)
        bucket, _, key = unquote(path)[1:].partition("/")
        q = {unquote_plus(k): unquote_plus(v) for k, _, v in (p.partition("=") for p in query.split("&"))} if query else {}
        with s.lock:
            s.seen.append((self.command, key, q))
            self.how = s.fault_for((self.command, key, q))
        if self.how in ("500", "503"):
            return self.error(int(self.how), "InternalError" if self.how == "500" else "SlowDown")
        if self.how == "hold":
            s.go.wait(15)
        if self.how == "drop":
            self.close_connection = True
            return self.connection.shutdown(2)
        if self.how == "garbage":
            return self.answer(200, "<html>Welcome</html>")
        if self.how == "drip":
            return self.drip()
        if bucket != s.bucket:
            return self.error(404, "NoSuchBucket")
        with s.lock:
            return self.list(q) if not key else getattr(self, "do" + self.command.lower())(key, q, body)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = serve

    def drip(self):
        self.send_response(200)
        self.send_header("Content-Length", "10000")
        self.end_headers()
        self.close_connection = True
        for _ in range(120):
            try:
                self.wfile.write(b" ")
                self.wfile.flush()
            except OSError:
                return
            if self.store.go.wait(0.5):
                return

    @staticmethod
    def etag(body):
        return f'"{hashlib.md5(body).hexdigest()}"'

    def list(self, q):
        names = sorted(k for k in self.store.objects if k.startswith(q["prefix"]) and "/" not in k[len(q["prefix"]):] and k > q.get("continuation-token", "").removeprefix("after="))
        page, rest = names[:self.store.page], names[self.store.page:]
        if self.how == "endless":
            rest, page = ["more"], [f"{q['prefix']}{len(self.store.seen):09}.other"]
        elif self.how == "same":
            rest, page = ["more"], sorted(self.store.objects)
        xml = "".join(f"<Contents><Key>{escape(k)}</Key><Size>{len(self.store.objects.get(k, b''))}</Size></Contents>" for k in page)
        more = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{escape('after=' + page[-1])}</NextContinuationToken>" if rest else "<IsTruncated>false</IsTruncated>"
        self.answer(200, f'<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>{self.store.bucket}</Name>{more}{xml}</ListBucketResult>')

    def doget(self, key, q, body):
        if key not in self.store.objects:
            return self.error(404, "NoSuchKey")
        self.answer(200, self.store.objects[key], ETag=self.etag(self.store.objects[key]))

    dohead = doget

    def doput(self, key, q, body):
        if "uploadId" in q:
            self.store.uploads[q["uploadId"]][int(q["partNumber"])] = body
        else:
            self.store.objects[key] = body
        self.answer(200, ETag=self.etag(body))

    def dopost(self, key, q, body):
        s = self.store
        if "uploads" in q:
            s.made += 1
            u = f"up/load+{s.made}"
            s.uploads[u] = {}
            return self.answer(200, f"<InitiateMultipartUploadResult><Bucket>{s.bucket}</Bucket><Key>{key}</Key><UploadId>{u}</UploadId></InitiateMultipartUploadResult>")
        if q.get("uploadId") not in s.uploads:
            return self.error(404, "NoSuchUpload")
        if self.how == "error200":
            return self.answer(200, "<Error><Code>InternalError</Code></Error>")
        parts = s.uploads[q["uploadId"]]
        told = re.findall(rb"<Part><PartNumber>(\d+)</PartNumber><ETag>&quot;([0-9a-f]{32})&quot;</ETag></Part>", body)
        if [(int(n), e.decode()) for n, e in told] != [(n, hashlib.md5(parts[n]).hexdigest()) for n in sorted(parts)]:
            return self.error(400, "InvalidPart")
        if any(len(parts[n]) < PART_MIN for n in sorted(parts)[:-1]):
            return self.error(400, "EntityTooSmall")
        s.objects[key] = b"".join(parts[n] for n in sorted(parts))
        del s.uploads[q["uploadId"]]
        tag = hashlib.md5(b"".join(hashlib.md5(parts[n]).digest() for n in sorted(parts))).hexdigest()
        tag = "0" * 32 if self.how == "etag" else tag
        self.answer(200, f"<CompleteMultipartUploadResult><Key>{key}</Key><ETag>&quot;{tag}-{len(parts)}&quot;</ETag></CompleteMultipartUploadResult>")

    def dodelete(self, key, q, body):
        if "uploadId" in q:
            self.store.uploads.pop(q["uploadId"], None)
        else:
            self.store.objects.pop(key, None)
        self.answer(204)


class Store:
    def __init__(self, bucket="models", token=None):
        self.bucket, self.token = bucket, token
        self.objects, self.uploads, self.seen, self.refused, self.faults = {}, {}, [], [], []
        self.go = threading.Event()
        self.lock, self.page, self.made, self.port, self.server = threading.RLock(), 1000, 0, 0, None
        self.open()

    def open(self):
        store = self
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), type("H", (Handler,), {"store": store, "timeout": 30}))
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self):
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def env(self):
        e = {"AWS_ACCESS_KEY_ID": ID, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": REGION, "AWS_ENDPOINT_URL_S3": self.url}
        return {**e, "AWS_SESSION_TOKEN": self.token} if self.token else e

    def fail(self, how, times=1, which=lambda r: True):
        with self.lock:
            self.faults.append([how, times, which])

    def fault_for(self, request):
        for f in self.faults:
            if f[1] and f[2](request):
                f[1] -= 1
                return f[0]
        return None
