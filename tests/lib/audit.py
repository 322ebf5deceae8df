"""
The audit trail as tests read it.

    events(g), events(g, "auth_failure")    # the trail's lines so far, parsed; each is checked against tables/audit_events.def
    wait_event(g, "model_loaded", lambda e: e["model_id"] == m)
"""
import json
import re

from lib.gate import ROOT
from lib.raw import SLOW, until

COMMON = ["event", "event_type", "timestamp", "request_id"]


def table():
    """{event: ([fields], [fields that may be missing])}"""
    text = (ROOT / "src/tables/audit_events.def").read_text()
    out = {}
    for name, fields in re.findall(r'^EVENT\((\w+), "([^"]*)"', text, re.M):
        names = fields.split()
        out[name] = ([n for n in names if not n.endswith("?")], [n[:-1] for n in names if n.endswith("?")])
    assert len(out) >= 8
    return out


def check(e):
    assert list(e)[:4] == COMMON and e["event"] == e["event_type"], e
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", e["timestamp"]), e
    must, may = table()[e["event"]]
    have = list(e)[4:]
    assert set(must) <= set(have) <= set(must) | set(may), (e, must, may)
    return e


def events(g, name=None, path="logs/audit.jsonl"):
    try:
        text = (g.dir / path).read_text()
    except FileNotFoundError:
        return []
    lines = text.split("\n")
    all = [check(json.loads(line)) for line in lines[:-1]]
    return [e for e in all if name in (None, e["event"])]


def wait_event(g, name, which=lambda e: True, path="logs/audit.jsonl"):
    found = []

    def look():
        found[:] = [e for e in events(g, name, path) if which(e)]
        return found
    until(look, 5 * SLOW, f"{name} in the audit trail")
    return found[0]
