#!/usr/bin/env python3
"""What a schema costs a request: its first token and the time between tokens, with and without one.

    bench/schema_cost.py http://127.0.0.1:8080 [--pairs 30] [--tokens 64] [--json]

Works against any running server. Needs nothing but Python's standard library. The two kinds of
request take turns, so that both meet the same machine; the first one with the schema, which compiles
its grammar, is reported apart. The times are the server's own receipt (`usage.mach`) and, for the
first token, the client's clock as well.
"""
import argparse
import http.client
import json
import statistics
import time
import urllib.parse

SCHEMA = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "year": {"type": "integer", "minimum": 1900, "maximum": 2100},
        "authors": {"type": "array", "minItems": 4, "items": {
            "type": "object",
            "properties": {"name": {"type": "string", "minLength": 8},
                           "email": {"type": "string", "format": "email"},
                           "role": {"enum": ["editor", "author", "translator"]}},
            "required": ["name", "email", "role"], "additionalProperties": False}},
    },
    "required": ["title", "year", "authors"], "additionalProperties": False,
}
SENTENCE = "Describe a book about the history of navigation and all who worked on it, as JSON. "


def ask(target, schema, tokens):
    """Milliseconds to the first text, and between tokens."""
    body = {"messages": [{"role": "user", "content": SENTENCE * 8}], "max_tokens": tokens,
            "temperature": 0, "stream": True, "stream_options": {"include_usage": True},
            "receipt": True}
    if schema:
        body["response_format"] = {"type": "json_schema",
                                   "json_schema": {"name": "book", "schema": SCHEMA}}
    connection = http.client.HTTPConnection(target, timeout=600)
    begin = time.perf_counter()
    connection.request("POST", "/v1/chat/completions", json.dumps(body),
                       {"Content-Type": "application/json"})
    reply = connection.getresponse()
    if reply.status != 200:
        raise SystemExit(f"status {reply.status}: {reply.read()[:300]!r}")
    first, texts = None, []
    for line in reply:
        if not line.startswith(b"data: {"):
            continue
        event = json.loads(line[6:])
        if any(choice["delta"].get("content") for choice in event["choices"]):
            texts.append(time.perf_counter())
            first = first or texts[0] - begin
    connection.close()
    return 1e3 * first, 1e3 * (texts[-1] - texts[0]) / (len(texts) - 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    target = urllib.parse.urlsplit(args.url).netloc
    ask(target, False, 2)
    report = {"first_request_ms": ask(target, True, args.tokens)[0]}
    rounds = [(ask(target, False, args.tokens), ask(target, True, args.tokens))
              for _ in range(args.pairs)]
    for i, name in enumerate(("first_token", "between_tokens")):
        ratios = [with_schema[i] / plain[i] for plain, with_schema in rounds]
        report[name] = {"plain_ms": statistics.median(plain[i] for plain, _ in rounds),
                        "schema_ms": statistics.median(schema[i] for _, schema in rounds),
                        "ratio": statistics.median(ratios),
                        "ratio_least": min(ratios), "ratio_most": max(ratios)}
    if args.json:
        print(json.dumps(report))
        return
    print(f"first request with the schema: first token after {report['first_request_ms']:.1f} ms")
    for name in ("first_token", "between_tokens"):
        line = report[name]
        print(f"{name}: {line['plain_ms']:.2f} ms, with the schema {line['schema_ms']:.2f}; ratio "
              f"{line['ratio']:.3f} ({line['ratio_least']:.2f} to {line['ratio_most']:.2f})")


if __name__ == "__main__":
    main()
