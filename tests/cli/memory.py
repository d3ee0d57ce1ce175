#!/usr/bin/env python3
"""The memory that `mach check` predicts against what a server takes at its peak, on a synthetic
checkpoint of some hundred megabytes: at most 5 % above it, not far below, and never above
--memory-gb.

usage: memory.py MACH_BINARY [CHECKPOINT]
"""
import json
import pathlib
import subprocess
import sys
import tempfile
import urllib.request

from support import Server

MACH = sys.argv[1]
CONTEXT = 4096
TOLERANCE = 0.05
results = {"passed": 0, "failed": 0}


def check(name, ok, detail=""):
    results["passed" if ok else "failed"] += 1
    print(f"{'ok' if ok else 'FAILED'} {name}: {detail}")


def request(server, path, body=None):
    url = server.url.removesuffix("/v1") + path
    data = None if body is None else json.dumps(body).encode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    call = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with opener.open(call, timeout=600) as reply:
        return json.loads(reply.read())


def megabytes(size):
    return f"{size / 1e6:.1f} MB"


def predicted(checkpoint, path, flags):
    done = subprocess.run([MACH, "check", checkpoint, "--json", "--allow-buffered-io", *flags], capture_output=True,
                          text=True)
    report = json.loads(done.stdout)
    return next(entry for entry in report["paths"] if entry["path"] == path)


def measured(checkpoint, flags):
    """Peak memory of a server that has had its whole context in use and its bank full."""
    with Server(MACH, checkpoint, *flags) as server:
        # Tokens of all kinds, so that all kinds of experts are asked for.
        prompt = [300 + (i * i) % 1500 for i in range(CONTEXT - 96)]
        for tokens in (prompt[:100], prompt):  # chunks of other sizes before the largest
            request(server, "/v1/completions", {"prompt": tokens, "max_tokens": 64,
                                                "temperature": 0, "ignore_eos": True})
        return request(server, "/v1/stats")["process"]


def compare(checkpoint, path, serve_flags, shared, check_flags=()):
    plan = predicted(checkpoint, path, [*shared, *check_flags])
    process = measured(checkpoint, [*serve_flags, *check_flags, *shared])
    want, got = plan["predicted_bytes"]["total"], process["peak_rss_bytes"]
    # What the program itself takes is an estimate, made not to be too low; all else is counted.
    # Bodies and answers take little here of what is planned for them, grammars nothing.
    others = sum(plan["predicted_bytes"][owner] for owner in ("process", "requests", "grammars"))
    least = (1 - TOLERANCE) * (want - others)
    accounted = {owner: megabytes(size) for owner, size in process["accounted_bytes"].items()}
    check(f"{path} {' '.join(check_flags)}", least <= got <= (1 + TOLERANCE) * want,
          f"predicted {megabytes(want)}, peak {megabytes(got)} ({got / want - 1:+.1%}); {accounted}")
    return got


def main():
    with tempfile.TemporaryDirectory() as name:
        if len(sys.argv) > 2:
            checkpoint = pathlib.Path(sys.argv[2])
        else:
            checkpoint = pathlib.Path(name) / "synthetic"
            subprocess.run([MACH, "synth", "--shape", "qwen35moe-12l", "--layers", "4",
                            "--experts", "64", "--out", checkpoint], check=True,
                           capture_output=True)
        shared = ["--max-context", str(CONTEXT), "--prefill-chunk", "1024"]
        streaming = ["--streaming", "--allow-buffered-io"]
        compare(checkpoint, "streaming", streaming, shared, ["--expert-cache-gb", "0.2"])
        compare(checkpoint, "resident", ["--no-streaming"], shared)
        # A ceiling alone: bank and chunk follow from it.
        ceiling = 0.6
        got = compare(checkpoint, "streaming", streaming, ["--max-context", str(CONTEXT)],
                      ["--memory-gb", str(ceiling)])
        check("the ceiling holds", got <= ceiling * 1e9, megabytes(got))
    print(f"{results['passed']} passed, {results['failed']} failed")
    return 1 if results["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
