#!/usr/bin/env python3
"""What HTTP costs: the time between tokens over HTTP against the engine alone, and idle clients.

    bench/http_overhead.py http://127.0.0.1:8080 [--tokens 256] [--repeats 5] [--idle 200]
                           [--json]

Works against any running server. Needs nothing but Python's standard library.

 - interval: one stream is read token by token. The engine's own mean time between tokens comes from
   the differences of /v1/stats (decode seconds and tokens) around the request, so both numbers are
   of the same run. ratio = over HTTP / engine.
 - idle: the same measurement, interleaved, with N clients connected that asked for a stream and
   wait in the queue. ratio = engine time between tokens with them / without; memory = growth of the
   server's RSS while they wait.
"""
import argparse
import http.client
import json
import statistics
import sys
import time
import urllib.parse


def get(target, path):
    connection = http.client.HTTPConnection(target, timeout=30)
    connection.request("GET", path)
    reply = json.loads(connection.getresponse().read())
    connection.close()
    return reply


def open_stream(target, tokens, timeout=600):
    body = json.dumps({
        "messages": [{"role": "user", "content": "Tell me a long story."}],
        "max_tokens": tokens, "ignore_eos": True, "temperature": 0, "stream": True,
    })
    connection = http.client.HTTPConnection(target, timeout=timeout)
    connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
    return connection


def stream_interval(target, tokens):
    """Seconds between tokens (over HTTP, in the engine) of one generation."""
    before = get(target, "/v1/stats")["decode"]
    connection = open_stream(target, tokens)
    reply = connection.getresponse()
    if reply.status != 200:
        sys.exit(f"status {reply.status}: {reply.read()[:300]!r}")
    first = last = None
    while True:
        line = reply.readline()
        now = time.perf_counter()
        if line.startswith(b"data: [DONE]") or not line:
            break
        if b'"content":"' in line and b'"role"' not in line:
            first = first or now
            last = now
    reply.read()
    connection.close()
    after = get(target, "/v1/stats")["decode"]
    count = after["tokens"] - before["tokens"]
    return (last - first) / (count - 1), (after["seconds"] - before["seconds"]) / count


def rss(target):
    return get(target, "/v1/stats")["process"]["rss_bytes"]


def with_idle_clients(target, tokens, count):
    """Engine interval while `count` clients wait behind the generation, and their memory."""
    waiting = []
    memory = {}

    def crowd():
        # The generation is running: whoever asks now waits in the queue with an open stream.
        memory["before"] = rss(target)
        for _ in range(count):
            connection = open_stream(target, 1)
            waiting.append((connection, connection.getresponse()))
        memory["with"] = rss(target)

    times = stream_interval_with(target, tokens, crowd, waiting)
    return times, memory["with"] - memory["before"]


def stream_interval_with(target, tokens, crowd, waiting):
    """As stream_interval, but measured only over tokens that arrive once the crowd waits."""
    connection = open_stream(target, tokens)
    reply = connection.getresponse()
    stamps = []
    while True:
        line = reply.readline()
        if line.startswith(b"data: [DONE]") or not line:
            break
        if b'"content":"' in line and b'"role"' not in line:
            if not stamps:
                crowd()
                # What queued up on the way while the crowd gathered is no measure of anything.
                quiet = time.perf_counter() + 0.2
                while time.perf_counter() < quiet:
                    reply.readline()
            stamps.append(time.perf_counter())
    reply.read()
    connection.close()
    for idle, _ in waiting:
        idle.close()
    return (stamps[-1] - stamps[0]) / (len(stamps) - 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("url")
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--idle", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    target = urllib.parse.urlsplit(args.url).netloc
    stream_interval(target, args.tokens)  # warm up

    over, engine, crowded, memory = [], [], [], []
    for _ in range(args.repeats):
        seen, real = stream_interval(target, args.tokens)
        over.append(seen)
        engine.append(real)
        if args.idle:
            alone = stream_interval_with(target, args.tokens, lambda: None, [])
            interval, grown = with_idle_clients(target, args.tokens, args.idle)
            crowded.append(interval / alone)
            memory.append(grown)
            while get(target, "/v1/stats")["requests"]["active"]:
                time.sleep(0.05)
    result = {
        "tokens": args.tokens,
        "repeats": args.repeats,
        "engine_ms": statistics.median(engine) * 1e3,
        "http_ms": statistics.median(over) * 1e3,
        "http_ratio": statistics.median(a / b for a, b in zip(over, engine)),
    }
    if args.idle:
        result.update(idle_clients=args.idle,
                      idle_ratio=statistics.median(crowded),
                      idle_ratio_best=min(crowded),
                      idle_rss_mib=max(memory) / (1 << 20))
    if args.json:
        print(json.dumps(result))
        return
    print(f"time between tokens: engine {result['engine_ms']:.3f} ms, "
          f"over HTTP {result['http_ms']:.3f} ms, ratio {result['http_ratio']:.4f}")
    if args.idle:
        print(f"{args.idle} waiting clients: {result['idle_rss_mib']:.1f} MiB, "
              f"ratio {result['idle_ratio']:.4f} (best {result['idle_ratio_best']:.4f})")


if __name__ == "__main__":
    main()
