#!/usr/bin/env python3
"""The page's files with a scripted API behind them: what no real model says when it is asked to.

The last user message decides: [[think]], [[tools]], [[markdown]], [[json]], [[badjson]], [[fail]],
[[cut]], [[odd]], [[slow]]; anything else is answered in plain words. After a tool's result the answer
is about it. Also a way to look at the page while its files change: scripted_server.py [PORT].
"""
import http.server
import json
import math
import pathlib
import random
import sys
import threading
import time

PAGE = pathlib.Path(__file__).resolve().parents[2] / "src/server/page"
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
POLICY = ("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
          "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
MARKDOWN = """## A heading

Text with **bold**, *slanted*, `inline code`, a [link](https://example.org/a) and snake_case_words.
2 * 3 * 4 stays as it is, and so does <img src=x onerror="window.hacked = 1">.

1. First
2. Second
   - inner one
   - inner two with [a trap](javascript:window.hacked=2)

| Part | Size |
|---|---:|
| bank | 4 GB |
| arena | 256 MB |

```python
def fib(n):
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    return a
```

> A quote, then a <script>window.hacked = 3</script> that is only text.
"""
CALLS = [("get_weather", {"town": "Vienna", "unit": "C"}), ("get_weather", {"town": "Oslo", "unit": "C"})]


def parts(text, size=4):
    return [text[i:i + size] for i in range(0, len(text), size)]


def deltas(request):
    """(delta, finish_reason) of the answer; an Exception where the stream breaks."""
    last = request["messages"][-1]
    text = last.get("content") or ""
    if last["role"] == "tool":
        towns = [m["content"] for m in request["messages"] if m["role"] == "tool"]
        yield from (({"content": p}, None) for p in parts("The tools say: " + "; ".join(towns) + "."))
        yield {}, "stop"
    elif "[[think]]" in text:
        thoughts = "The user wants something. " * 12 + "Now I know what to say."
        yield from (({"reasoning_content": p}, None) for p in parts(thoughts, 6))
        yield from (({"content": p}, None) for p in parts("It is **forty-two**."))
        yield {}, "stop"
    elif "[[tools]]" in text:
        yield from (({"content": p}, None) for p in parts("I ask for the weather."))
        for index, (name, arguments) in enumerate(CALLS):
            head = {"index": index, "id": f"call_{index}", "type": "function",
                    "function": {"name": name, "arguments": ""}}
            yield {"tool_calls": [head]}, None
            for piece in parts(json.dumps(arguments), 5):
                yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}, None
        yield {}, "tool_calls"
    elif "[[json]]" in text or "[[badjson]]" in text:
        answer = '{"name":"Ada Lovelace","year":1815' + ("}" if "[[json]]" in text else "")
        yield from (({"content": p}, None) for p in parts(answer))
        yield {}, "stop" if "[[json]]" in text else "length"
    elif "[[fail]]" in text:
        yield {"content": "Half of an"}, None
        yield RuntimeError("The server failed to answer this request."), None
    elif "[[cut]]" in text:
        yield {"content": "Half of an"}, None
        yield ConnectionError(), None
    else:
        answer = MARKDOWN if "[[markdown]]" in text else "The quick brown fox jumps over the lazy dog. " * 3
        repeat = 200 if "[[slow]]" in text else 1
        yield from (({"content": p}, None) for p in parts(answer * repeat, 7))
        yield {}, "stop"


class Experts:
    """Numbers of a bank that move as those of a real one do."""
    LAYERS, EXPERTS, CAPACITY = 40, 128, 3072

    def __init__(self):
        pick = random.Random(7)
        self.heat = [[min(1.0, pick.paretovariate(0.9) / 60) for _ in range(self.EXPERTS)]
                     for _ in range(self.LAYERS)]
        self.start = time.monotonic()

    def summary(self):
        now = time.monotonic() - self.start
        pick = random.Random(int(now))
        layers = []
        for layer, row in enumerate(self.heat):
            text = ""
            for heat in row:
                digit = max(1, 15 - int(-2 * math.log2(heat)))
                text += f"{digit:x}" if heat > 0.03 * pick.uniform(0.8, 1.25) else "0"
            share = 0.82 + 0.16 * math.sin(layer * 1.7) ** 2
            asked = int(8 * 30 * now) + 8
            layers.append({"layer": layer, "resident": sum(c != "0" for c in text),
                           "hits": int(asked * share), "misses": asked - int(asked * share),
                           "prefill_hits": 100, "prefill_misses": 900, "map": text})
        hits, misses = (sum(layer[k] for layer in layers) for k in ("hits", "misses"))
        return {"experts_resident": sum(layer["resident"] for layer in layers),
                "capacity": self.CAPACITY, "hits": hits, "misses": misses, "evictions": misses // 2,
                "hit_rate": hits / (hits + misses), "prefill_hits": 4000, "prefill_misses": 36000,
                "bytes_read": int(misses * 1.8e6), "read_seconds": now / 2, "stall_seconds": now / 5,
                "prefetches": 0, "prefetch_hits": 0, "read_ahead_dropped": 0, "read_errors": 0,
                "policy": "next_use", "direct_pread": {"active": True, "mode": "io_uring"},
                "snapshot_age_s": 0.0, "per_layer": layers}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, status, body, kind="application/json", headers=()):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in (("Content-Type", kind), ("Content-Length", str(len(data))),
                            ("x-request-id", "req-scripted"), *headers):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def error(self, status, message, code=None, **more):
        self.reply(status, {"error": {"message": message, "type": "x", "param": None, "code": code},
                            **more})

    def do_GET(self):
        server, path = self.server, self.path.split("?")[0]
        if path == "/" or path.startswith("/page/"):
            file = PAGE / ("index.html" if path == "/" else path.removeprefix("/page/"))
            if file.parent != PAGE or not file.exists():
                self.error(404, "Unknown route")
                return
            self.reply(200, file.read_bytes(), TYPES[file.suffix] + "; charset=utf-8",
                       [("Content-Security-Policy", POLICY), ("Cache-Control", "no-store")])
        elif path == "/health":
            left = server.ready_at - time.monotonic()
            progress = {"bytes_done": 3_100_000_000, "bytes_total": 5_000_000_000, "fraction": 0.62}
            self.reply(200, {"status": "loading", "progress": progress} if left > 0 else {"status": "ok"})
        elif path == "/v1/models":
            self.reply(200, {"data": [{"id": "scripted-35b-a3b", "max_model_len": 32768}]})
        elif path == "/v1/capabilities":
            self.reply(200, {"arch": {"model_type": "qwen3_5_moe"},
                             "serving": {"expert_residency": "streaming" if server.experts else "none"}})
        elif path == "/v1/cache/stats":
            self.reply(200, {"streaming_summary": server.experts.summary() if server.experts else None})
        elif path == "/v1/stats":
            now = time.monotonic()
            rate = 9 + math.sin(now)
            self.reply(200, {
                "requests": {"total": 41, "active": 1, "queued": 2, "cancelled": 3, "failed": 0},
                "prefill": {"tokens": int(now * 55), "seconds": 8.0, "tok_s": 270, "recent_tok_s": 271.3},
                "decode": {"tokens": int(now * rate), "seconds": 90.0, "tok_s": 9, "recent_tok_s": rate},
                "process": {"rss_bytes": 5_930_000_000, "peak_rss_bytes": 6_010_000_000,
                            "accounted_bytes": {"weights": 1_310_000_000, "kv": 168_000_000,
                                                "recurrent": 64_000_000, "activations": 88_000_000,
                                                "expert_bank": 4_000_000_000, "expert_arena": 230_000_000,
                                                "requests": 1_400_000, "process": 61_000_000}}})
        else:
            self.error(404, "Unknown route: GET " + path)

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(request)
        text = request["messages"][-1].get("content") or ""
        if "[[refuse]]" in text:
            self.error(400, "'tools' is not supported by this server yet.")
            return
        self.send_response(200)
        for name, value in (("Content-Type", "text/event-stream; charset=utf-8"),
                            ("x-request-id", "req-scripted"), ("Transfer-Encoding", "chunked")):
            self.send_header(name, value)
        self.end_headers()
        try:
            self.stream(request, bare="[[bare]]" in text, odd="[[odd]]" in text)
        except OSError:
            self.server.hangups += 1
            self.close_connection = True

    def stream(self, request, bare, odd):
        def send(text):
            data = text.encode()
            # Split in the middle of events and characters, as networks do.
            for piece in ([data[:7], data[7:]] if odd and len(data) > 7 else [data]):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                self.wfile.flush()

        def chunk(delta, finish=None, **more):
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            send("data: " + json.dumps({"choices": [choice], **more}, ensure_ascii=False) + "\n\n")

        send(": ping\n\n")
        chunk({"role": "assistant", "content": ""})
        tokens = 0
        for delta, finish in deltas(request):
            if isinstance(delta, ConnectionError):
                self.close_connection = True
                self.connection.close()
                return
            if isinstance(delta, Exception):
                send("data: " + json.dumps({"error": {"message": str(delta), "code": "internal_error"}}) + "\n\n")
                break
            time.sleep(self.server.step_s)
            tokens += 1
            running = {"prompt_tokens": 20, "completion_tokens": tokens, "total_tokens": 20 + tokens}
            chunk(delta, finish, **({} if bare else {"usage": running}))
        else:
            if not bare:
                usage = {**running, "mach": {
                    "bytes_read": 1_234_000_000, "expert_hit_rate": 0.931, "expert_hits": 9310,
                    "expert_misses": 690, "expert_prefill_hits": 40, "expert_prefill_misses": 960,
                    "stall_seconds": 0.8, "prefill_seconds": 0.41, "decode_seconds": 3.7,
                    "queue_seconds": 0.0, "cached_tokens": 0}}
                send("data: " + json.dumps({"choices": [], "usage": usage}) + "\n\n")
        send("data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")


class ScriptedServer(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port=0, experts=True, loading_s=0.0, step_s=0.005):
        super().__init__(("127.0.0.1", port), Handler)
        self.experts = Experts() if experts else None
        self.ready_at = time.monotonic() + loading_s
        self.step_s = step_s
        self.requests = []
        self.hangups = 0
        self.url = f"http://127.0.0.1:{self.server_address[1]}/"
        self.thread = threading.Thread(target=self.serve_forever, daemon=True)
        self.thread.start()

    def __exit__(self, *exception):
        self.shutdown()
        super().__exit__(*exception)


if __name__ == "__main__":
    with ScriptedServer(int(sys.argv[1]) if len(sys.argv) > 1 else 8090, step_s=0.03) as scripted:
        print(scripted.url)
        scripted.thread.join()
