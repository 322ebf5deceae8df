"""What answers tell of limits, and many requests at once."""
import re
import resource
import select
import socket
import time

POLICY = re.compile(r'"([a-z-]+)";q=(\d+)(?:;w=(\d+))?(;qu="concurrent-requests"|;tollgate-unit="tokens")?')
STATE = re.compile(r'"([a-z-]+)";r=(\d+)(?:;t=(\d+))?')
DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?|(\d+)ms")


def listed(value, form):
    """A list of the IETF fields as {name: groups}; fails where an item is not of the form."""
    out = {}
    for item in value.split(", "):
        m = form.fullmatch(item)
        assert m, value
        out[m.group(1)] = m.groups()[1:]
    return out


def seconds(text):
    m = DURATION.fullmatch(text)
    assert m and text, text
    h, mi, s, ms = m.groups()
    return int(h or 0) * 3600 + int(mi or 0) * 60 + float(s or 0) + int(ms or 0) / 1000


def window(r):
    """The documents' three: limit, remaining, reset."""
    return tuple(int(r.headers["x-ratelimit-" + n]) for n in ("limit", "remaining", "reset"))


def flood(g, n, wire):
    """n connections opened first, then all written at once; the status of each."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    want = 3 * n + 200
    if soft < want:
        resource.setrlimit(resource.RLIMIT_NOFILE, (want if hard == resource.RLIM_INFINITY else min(want, hard), hard))
    socks = []
    try:
        for _ in range(n):
            socks.append(socket.create_connection(("127.0.0.1", g.port), 20))
        half = len(wire) // 2
        for s in socks:
            s.sendall(wire[:half])
        for s in socks:
            s.sendall(wire[half:])
            s.setblocking(False)
        ep, data, left = select.epoll(), {}, {s.fileno(): s for s in socks}
        for s in socks:
            ep.register(s, select.EPOLLIN)
            data[s.fileno()] = b""
        end = time.monotonic() + 60
        while left and time.monotonic() < end:
            for fd, _ in ep.poll(1):
                got = left[fd].recv(65536)
                data[fd] += got
                if not got:
                    ep.unregister(fd)
                    del left[fd]
        ep.close()
        assert not left, f"{len(left)} connections were never closed"
        return [int(d[9:12]) if d.startswith(b"HTTP/1.1 ") else d for d in data.values()]
    finally:
        for s in socks:
            s.close()
