#!/usr/bin/env python3
"""report.py OUT.jsonl: the Markdown tables of one run of run.sh: medians over its rounds, ratios to nginx-key of the same run."""
import json, platform, re, statistics, subprocess, sys

BASE = "nginx-key"


def first_line(command):
    try:
        o = subprocess.run(command, capture_output=True, text=True)
        return (o.stdout + o.stderr).splitlines()[0].strip()
    except (OSError, IndexError):
        return "-"


def machine():
    info = open("/proc/cpuinfo").read()
    model = re.search(r"model name\s*:\s*(.*)", info)
    print(f"{model.group(1) if model else platform.machine()}, {len(re.findall('^processor', info, re.M))} cores; Linux {platform.release()}; "
          f"{first_line(['gcc', '--version'])}; {first_line(['nginx', '-v'])}; {first_line(['haproxy', '-v']).split(' - ')[0]}; {first_line(['wrk', '-v']).split(' Copyright')[0]}")


def median(rows, key):
    return statistics.median(r[key] for r in rows)


def requests(recs, row, title):
    cells = {}
    for r in recs:
        if r["kind"] == "http" and r["row"] == row:
            cells.setdefault((r["conns"], r["label"]), []).append(r)
    if not cells:
        return
    print(f"\n### {title}\n\n| conns | server | CPU us/request | min-max | x {BASE} | req/s | p50 us | added p50 us | p99 us | Pss MiB | errors |\n|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for conns in sorted({c for c, _ in cells}):
        base = cells.get((conns, BASE))
        direct = cells.get((conns, "direct"))
        for (c, label), rows in cells.items():
            if c != conns:
                continue
            m = lambda k: median(rows, k)
            ratio = f"{m('cpu_us') / median(base, 'cpu_us'):.2f}" if base and label != "direct" else ""
            added = f"{m('p50') - median(direct, 'p50'):.0f}" if direct and label != "direct" else ""
            spread = f"{min(r['cpu_us'] for r in rows):.1f}-{max(r['cpu_us'] for r in rows):.1f}"
            print(f"| {c} | {label} | {m('cpu_us'):.1f} | {spread} | {ratio} | {m('rps'):.0f} | {m('p50'):.0f} | {added} | {m('p99'):.0f} | {m('pss_kb') / 1024:.1f} | {sum(r['errors'] for r in rows)} |")


def four(recs):
    """CPU per request with four workers behind, as a multiple of that with one: each round's, and the median."""
    rows = {}
    for r in recs:
        if r["kind"] == "http" and r["row"] == "small" and r["label"] in ("tollgate", "tollgate-4"):
            rows.setdefault(r["conns"], {}).setdefault(r["label"], []).append(r["cpu_us"])
    if any("tollgate-4" in d for d in rows.values()):
        print("\nCPU per request with four workers behind, x one worker: " + "; ".join(
            f"{c} connections {statistics.median(d['tollgate-4']) / statistics.median(d['tollgate']):.2f} ("
            + ", ".join(f"{b / a:.2f}" for a, b in zip(d["tollgate"], d["tollgate-4"])) + ")" for c, d in sorted(rows.items())) + ".")


def events(recs):
    rows = {}
    for r in recs:
        if r["kind"] == "events":
            rows.setdefault(r["label"], []).append(r)
    if rows:
        print("\n### Time to the first event of a stream, one stream at a time (us)\n\n| server | p50 | p90 | p99 | failed |\n|---|--:|--:|--:|--:|")
        for label, rs in rows.items():
            p = lambda q: statistics.median(r["first_event_us"][q] for r in rs)
            print(f"| {label} | {p('p50'):.0f} | {p('p90'):.0f} | {p('p99'):.0f} | {sum(r['failed'] + r['unfinished'] for r in rs)} |")


def streams(recs):
    rows = [r for r in recs if r["kind"] == "streams"]
    if rows:
        r = rows[0]
        rest = {x["label"]: x["pss_kb"] for x in recs if x["kind"] == "rss"}
        base = next((x["cpu_us_event"] for x in rows if x["label"] == BASE), None)
        print(f"\n### {r['streams']} streams at once, an event every {r['delay_ms']} ms each, {r['chunks']} events\n\n"
              f"| server | good | failed | KiB/stream | CPU us/event | x {BASE} | longest silence p99 ms |\n|---|--:|--:|--:|--:|--:|--:|")
        for r in rows:
            ratio = f"{r['cpu_us_event'] / base:.2f}" if base and r["label"] != "direct" else ""
            kb = (r["peak_kb"] - rest.get(r["label"], r["idle_kb"])) / max(1, r["open_max"])
            print(f"| {r['label']} | {r['ok']} | {r['failed'] + r['unfinished']} | {kb:.2f} | {r['cpu_us_event']:.1f} | {ratio} | {r['silence_ms']['p99']:.0f} |")


def footprint(recs):
    got = {}
    for r in recs:
        if r["kind"] in ("rss", "start", "size", "growth") and (r["label"].endswith("-key") or "-" not in r["label"] and r["label"] not in ("direct", "tcp_floor")):
            got.setdefault(r["label"], {}).update({k: v for k, v in r.items() if k not in ("kind", "label")})
    if got:
        print("\n### At rest\n\n| server | idle VmRSS MiB | start to first accept ms | stripped MB | growth |\n|---|--:|--:|--:|---|")
        for label, d in got.items():
            rss = f"{d['rss_kb'] / 1024:.1f}" if "rss_kb" in d else ""
            start = f"{d['start_ms']:.1f}" if "start_ms" in d else ""
            size = f"{d['stripped'] / 1e6:.2f}" if "stripped" in d else ""
            growth = f"{d['late_kb'] - d['early_kb']:+d} KiB from request {d['early_requests']:,} to {d['requests']:,}" if "late_kb" in d else ""
            print(f"| {label} | {rss} | {start} | {size} | {growth} |")


def main():
    recs = [json.loads(l) for l in open(sys.argv[1])]
    machine()
    small = sum(r["requests"] for r in recs if r["kind"] == "http" and r["label"] == "tollgate")
    lines = sum(r["lines"] for r in recs if r["kind"] == "lines" and r["label"] == "tollgate")
    requests(recs, "small", "Chat requests of 307 bytes, answers of 0.7 KB")
    four(recs)
    requests(recs, "100k", "Chat requests of 102 KB (a history of 185 messages)")
    events(recs)
    streams(recs)
    footprint(recs)
    if small:
        print(f"\nAccess log of tollgate in the request rows: {lines:,} lines for {small:,} requests counted by wrk.")
        if lines < small:
            sys.exit("report.py: fewer log lines than requests: what was measured had no full access log")


if __name__ == "__main__":
    main()
