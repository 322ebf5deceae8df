#!/usr/bin/env python3
"""prepare.py FOLDER: what every server of a run reads. The bench key and 1,000 random ones in each server's own form, and body-100k.json,
a chat request with a long history (185 messages, 102 KB): sentences of many lengths, some code, some quotes and line breaks, so that a scanner
meets escapes and short strings as well as long runs. The body is the same in every run (a fixed seed); the keys are not."""
import json, pathlib, random, secrets, sys

BENCH_KEY = "sk-bench-0123456789abcdef"
MESSAGES, BYTES = 185, 102_000
WORDS = ("the gate worker answer stream token model limit key window queue slot budget event client header body chunk retry probe health "
         "latency median request route table permission ledger of to and in for with over before after when each one").split()
ODD = ('He said "not yet", twice.', "Path: C:\\models\\new", "first line\nsecond line\n\tindented", "naïve café – déjà vu", "if (n > 0 && p[n - 1] == '\\n') n--;")


def body_100k():
    rnd = random.Random(185)
    doc = {"model": "mock", "messages": [{"role": "system", "content": "You are a careful assistant that answers in a few plain sentences."}],
           "max_tokens": 128, "temperature": 0.2}
    share = BYTES // MESSAGES
    for i in range(1, MESSAGES):
        left = round(share * rnd.choice((0.2, 0.5, 1.0, 1.0, 2.3))) - 72
        text = []
        while left > 0:
            text.append(rnd.choice(ODD) if rnd.random() < 0.02 else rnd.choice(WORDS))
            left -= len(text[-1]) + 1
        doc["messages"].append({"role": "assistant" if i % 2 == 0 else "user", "content": " ".join(text)})
    while len(json.dumps(doc, ensure_ascii=False).encode()) < BYTES:
        doc["messages"][-1]["content"] += " " + rnd.choice(WORDS)
    return json.dumps(doc, ensure_ascii=False, separators=(",", ":"))


def main():
    run = pathlib.Path(sys.argv[1])
    keys = [(f"u{i}", "sk-" + secrets.token_hex(16)) for i in range(1000)] + [("bench", BENCH_KEY)]
    (run / "nginx-keys.map").write_text("".join(f'"Bearer {k}" {u};\n' for u, k in keys))
    (run / "haproxy-keys.map").write_text("".join(f"{k} {u}\n" for u, k in keys))
    own = run / "api_keys.json"
    own.touch(mode=0o600)
    own.write_text(json.dumps({"valid_keys": [k for _, k in keys], "require_auth_for_external": True, "local_networks": ["127.0.0.1", "::1"]}))
    (run / "body-100k.json").write_text(body_100k(), encoding="utf-8")


if __name__ == "__main__":
    main()
