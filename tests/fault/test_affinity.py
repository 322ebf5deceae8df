"""Sessions: the same worker while it lives, when asked; how they end, and that nobody is held up by them."""
import os
import time

import pytest

from lib.gate import READ, model
from lib.pool import all_up, pool, started, status
from lib.raw import SLOW, Stream, chat, exchange, until

CLOSE = ("Connection", "close")


def ask(g, session=None, text="hello", key=READ, name="m"):
    headers = [CLOSE] + ([("X-Session-ID", session)] if session else [])
    r = exchange(g, chat(text, key=key, headers=headers, model=name), timeout=20 * SLOW)
    assert r.statuses == [200], r.raw[:300]
    return g.record(r.answers[0].header("x-request-id"))["worker"]


def test_a_session_stays_with_its_worker(gate, worker):
    """X-Session-ID: every request of a session goes to one worker, different sessions are spread, and requests without one are not bound."""
    ws = [worker() for _ in range(4)]
    g = gate(models=[model("m", *ws)])
    homes = {s: ask(g, s) for s in ("a", "b", "c", "d")}
    assert len(set(homes.values())) == 4, "new sessions are not spread"
    for _ in range(4):
        for s, home in homes.items():
            assert ask(g, s) == home
    assert len({ask(g) for _ in range(8)}) == 4
    # The workers see the session's name, too.
    assert {r.header("x-session-id") for w in ws for r in w.requests} >= {"a", "b", "c", "d"}


def test_infer_names_its_session_in_the_body(gate, worker):
    """001's clients send session_id inside request_body."""
    ws = [worker() for _ in range(3)]
    g = gate(models=[model("m", *ws)])
    c = g.client()

    def home(session):
        r = c.post("/infer", json={"model_name": "m", "request_body": {"input": "x", "session_id": session}})
        assert r.status_code == 200
        return r.json()["load_balancer_worker_id"]
    first = {s: home(s) for s in ("s1", "s2", 3)}
    assert len(set(first.values())) == 3
    for _ in range(5):
        assert {s: home(s) for s in first} == first


def test_the_same_name_of_two_callers_is_two_sessions(gate, worker):
    other = "sk-other-0123456789abcdefghij"
    ws = [worker() for _ in range(2)]
    g = gate(models=[model("m", *ws)], env={"TOLLGATE_API_KEYS": other})
    mine = ask(g, "s")
    theirs = ask(g, "s", key=other)
    assert mine != theirs, "the second caller's session went to the first one's worker, although that one had the last request"
    for _ in range(4):
        assert ask(g, "s") == mine and ask(g, "s", key=other) == theirs


@pytest.mark.parametrize("affinity,bound", [("key", True), ("off", False), ("session", False)])
def test_the_models_setting(gate, worker, affinity, bound):
    """key: requests of one key that name no session stay together. off: not even a named session is bound."""
    ws = [worker() for _ in range(4)]
    g = gate(models=[model("m", *ws, affinity=affinity)])
    homes = {ask(g) for _ in range(8)}
    assert (len(homes) == 1) == bound
    named = {ask(g, "s") for _ in range(8)}
    assert (len(named) == 1) == (affinity != "off")


def test_a_session_waits_for_its_worker_and_holds_up_nobody(gate, worker):
    """Its worker is busy: it waits for that one although another is free; others are served by the free one meanwhile."""
    a, b = worker(), worker()
    g = gate(models=[model("m", a, b, slots=1, queue_ms=20000 * SLOW)], toml={"server": {"threads": 1}})
    home = ask(g, "s")
    busy, free = (a, b) if home == "m/0" else (b, a)
    busy.once(delay=1.0 * SLOW)
    held = Stream(g, data=chat("held", headers=[("X-Session-ID", "s")]), timeout=20 * SLOW)
    until(lambda: busy.running, 5 * SLOW, "its worker being busy")
    waits = Stream(g, data=chat("waits", headers=[("X-Session-ID", "s")]), timeout=20 * SLOW)
    until(lambda: status(g)["models"][0]["queue_length"] == 1, 5 * SLOW, "the second request of the session waiting")
    start = time.monotonic()
    for _ in range(5):
        assert ask(g) == ("m/1" if home == "m/0" else "m/0")
    assert time.monotonic() - start < 0.8 * SLOW, "a free slot did not beat a queued one"
    assert held.head().status == 200 and waits.head().status == 200
    assert [r.json()["messages"][0]["content"] for r in busy.requests[-2:]] == ["held", "waits"]
    assert not any(r.header("x-session-id") for r in free.requests)
    held.close(), waits.close()


def test_a_session_moves_when_its_worker_dies_and_stays_there(gate, worker):
    """While its worker is away another takes it; when the old one is back, the session stays where it lives now."""
    ws = [worker(), worker()]
    g = gate(models=[model("m", *ws)])
    home = ask(g, "s")
    i = int(home[-1])
    ws[i].down()
    moved = ask(g, "s")
    assert moved != home
    ws[i].up()
    until(lambda: pool(g, "m")[i]["state"] == "up", 10 * SLOW, "the old one being back")
    for _ in range(4):
        assert ask(g, "s") == moved


def test_a_started_worker_has_forgotten_its_sessions(gate):
    """Its process is another: what the session was bound for is gone, and it is bound anew wherever it goes next."""
    g = gate(models=[started("m", 3)])
    ws = {w["name"]: w for w in all_up(g, "m", 3)}
    home = ask(g, "s")
    os.kill(ws[home]["pid"], 9)
    until(lambda: pool(g, "m")[ws[home]["worker_id"]]["pid"] not in (None, ws[home]["pid"]), 10 * SLOW, "another process")
    all_up(g, "m", 3)
    new = ask(g, "s")
    for _ in range(5):
        assert ask(g, "s") == new


def test_sessions_live_through_a_reload(gate, worker):
    ws = [worker() for _ in range(3)]
    g = gate(models=[model("m", *ws)])
    homes = {s: ask(g, s) for s in ("a", "b", "c")}
    g.write_config(models=[model("m", *ws, queue=7)])
    assert g.reload()["event"] == "config.reloaded"
    assert {s: ask(g, s) for s in homes} == homes


def test_each_request_in_a_session_of_its_own(gate, worker):
    """As a client does that makes up a name each time: everybody is served. (That the table is bounded is test_sessions.c's.)"""
    ws = [worker() for _ in range(2)]
    g = gate(models=[model("m", *ws)])
    with g.connect() as s:
        for i in range(400):
            s.sendall(chat("x", headers=[("X-Session-ID", f"{i}" * 8)]))
            buf = b""
            while b"\r\n\r\n" not in buf or buf.count(b"}") < 4:
                buf += s.recv(65536)
            assert buf.startswith(b"HTTP/1.1 200")
