"""
T-TIME (CVE-2025-59425, CVE-2026-23996): how long the gate takes to refuse a key says nothing about how right it is.

Three kinds of keys, all refused: one that shares all but its last character with a real one, one that shares all but its first, one that shares nothing. They are asked in random order over one connection, so
that drifts of the machine meet all alike; Welch's t of each pair is taken over the faster half of the samples, where the gate's own time shows and the scheduler's does not. The bound is the usual
4.5; a shared machine has bad moments, so there are three tries. A comparison that stops at the first difference would not show over a socket, but a look-up that does (a tree, a
database) or a dear digest for known ids would: that is what this is for. In-process, the comparison is CRYPTO_memcmp over digests whose key nobody outside knows (policy/key.c).
"""
import random
import time

import pytest

from lib.gate import READ
from lib.wire import request

pytestmark = pytest.mark.release_only
SAMPLES, TRIES, BOUND = 6000, 3, 4.5


def welch(a, b):
    def stats(v):
        mean = sum(v) / len(v)
        return mean, sum((x - mean) ** 2 for x in v) / (len(v) - 1) / len(v)
    (ma, va), (mb, vb) = stats(a), stats(b)
    return (ma - mb) / (va + vb) ** 0.5


def faster_half(v):
    return sorted(v)[len(v) // 20:len(v) // 2]


def measure(s, kinds):
    """Nanoseconds by kind."""
    took = {k: [] for k in kinds}
    order = [k for k in kinds for _ in range(SAMPLES)]
    random.shuffle(order)
    clock = time.perf_counter_ns
    for k in order:
        data = kinds[k]
        start = clock()
        s.sendall(data)
        answer = s.recv(65536)
        took[k].append(clock() - start)
        assert answer.startswith(b"HTTP/1.1 401 ") and answer.endswith(b"}"), answer[:200]
    return {k: faster_half(v) for k, v in took.items()}


def worst(took):
    names = sorted(took)
    return max((abs(welch(took[a], took[b])), a, b) for i, a in enumerate(names) for b in names[i + 1:])


def test_the_measure_sees_a_difference():
    """Two microseconds in a hundred are found; the same twice is not."""
    r = random.Random(1)
    samples = [[r.gauss(100, 10) + shift for _ in range(SAMPLES)] for shift in (0, 0, 2)]
    assert abs(welch(faster_half(samples[0]), faster_half(samples[1]))) < BOUND < abs(welch(faster_half(samples[0]), faster_half(samples[2])))


def test_wrong_unknown_and_almost_right_keys_take_the_same_time(gate):
    g = gate(toml={"auth": {"guesses": "off"}, "server": {"threads": 1}})
    wrong = "".join(chr((ord(c) - 33 + 40) % 94 + 33) for c in READ).replace(":", "x")
    kinds = {"almost": READ[:-1] + "0", "first": "X" + READ[1:], "wrong": wrong}
    assert READ not in kinds.values() and len({len(k) for k in kinds.values()}) == 1
    with g.connect() as s:
        import socket
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        found = []
        for _ in range(TRIES):
            found.append(worst(measure(s, {k: request("GET", "/v1/models", [("X-API-Key", v)]) for k, v in kinds.items()})))
            if found[-1][0] < BOUND:
                return
    raise AssertionError(f"the time tells keys apart: {found}")
