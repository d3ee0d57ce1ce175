#!/usr/bin/env python3
"""Many streaming clients for a while, on the server with a scripted model: does any stream lose,
repeat or leave out an event, does memory grow, how evenly do tokens come?

    serving_streams.py [--minutes 10] [--clients 64] [--sequences N] [--token-ms 20] [--seed 1]
                       [--growth-mib 16]

Each client asks again and again; some hang up on the way, at once or after a few tokens. The texts
are numbers, so that each event says which one it is. All clients' answers are made together, unless
--sequences says of how many at a time; the others' requests wait in the queue meanwhile. Needs
build/…/mach_scripted_server (MACH_BUILD_DIR) and the standard library. Exit 1 if something is wrong;
the last line says what was measured.
"""
import argparse
import asyncio
import json
import pathlib
import random
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests/agents"))
from scripted import Server  # noqa: E402

SIZES = [1, 10, 60, 200]    # numbers in an answer, some three tokens each


class Tally:
    def __init__(self):
        self.gaps_s, self.ends, self.problems = [], {}, []
        self.first_s, self.rss = [], []

    def end(self, kind):
        self.ends[kind] = self.ends.get(kind, 0) + 1


def text_of(size):
    return " ".join(str(i) for i in range(size))


async def events(reader):
    """The data of each server-sent event; None for a comment."""
    while True:
        line = await reader.readline()
        if not line:
            return
        line = line.rstrip(b"\r\n")
        if line.startswith(b"data: "):
            yield line[6:]
        elif line.startswith(b":"):
            yield None


async def one(port, size, leave_after, tally):
    """One request; leaves after so many texts, if that is not None."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        body = json.dumps({"model": "scripted", "stream": True, "temperature": 1.0,
                           "stream_options": {"include_usage": True},
                           "messages": [{"role": "user", "content": f"count {size} numbers"}],
                           "chat_template_kwargs": {"enable_thinking": False}}).encode()
        # HTTP/1.0: the answer comes without chunked encoding and ends with the connection.
        writer.write(b"POST /v1/chat/completions HTTP/1.0\r\nContent-Type: application/json\r\n"
                     b"Content-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        if leave_after == 0:
            tally.end("left at once")
            return
        status = await reader.readline()
        if b" 200 " not in status:
            tally.problems.append(f"status {status!r}")
            return
        while (await reader.readline()).strip():
            pass
        said, texts, reason, usage, done, last_s = "", 0, None, None, False, None
        async for data in events(reader):
            if data is None:
                continue
            if done:
                tally.problems.append("an event after the last")
            if data == b"[DONE]":
                done = True
                continue
            chunk = json.loads(data)
            if "error" in chunk:
                tally.problems.append(f"error {chunk['error']}")
                tally.end("error")
                return
            usage = chunk.get("usage") or usage
            for choice in chunk["choices"]:
                if reason is not None:
                    tally.problems.append("a delta after finish_reason")
                reason = choice["finish_reason"]
                piece = choice["delta"].get("content")
                if not piece:
                    continue
                now_s = time.monotonic()
                if last_s is not None:
                    tally.gaps_s.append(now_s - last_s)
                last_s = now_s
                said += piece
                texts += 1
                if leave_after is not None and texts >= leave_after:
                    if not text_of(size).startswith(said):
                        tally.problems.append(f"wrong text {said[-60:]!r}")
                    tally.end("left on the way")
                    return
        if said != text_of(size) or reason != "stop" or usage is None or not done:
            tally.problems.append(f"ended with {reason}, usage {usage}, done {done}, "
                                  f"{len(said)} of {len(text_of(size))} bytes: {said[-60:]!r}")
        tally.end("complete")
    finally:
        writer.close()


async def client(port, until_s, dice, tally):
    while time.monotonic() < until_s:
        leave = dice.choice([None, None, None, 0, dice.randint(1, 30)])
        try:
            await one(port, dice.choice(SIZES), leave, tally)
        except (OSError, ValueError) as error:
            tally.problems.append(repr(error))


async def watch(server, until_s, tally):
    while time.monotonic() < until_s:
        stats = await asyncio.to_thread(server.stats)
        tally.rss.append(stats["process"]["rss_bytes"])
        await asyncio.sleep(0.5)


async def run(server, options, tally):
    port = int(server.url.split(":")[2].split("/")[0])
    until_s = time.monotonic() + options.minutes * 60
    dice = random.Random(options.seed)
    await asyncio.gather(watch(server, until_s, tally), *(
        client(port, until_s, random.Random(dice.random()), tally)
        for _ in range(options.clients)))


def at(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--sequences", type=int, help="default: as many as clients")
    parser.add_argument("--token-ms", type=float, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--growth-mib", type=int, default=16,
                        help="that resident memory may grow by after the first third")
    options = parser.parse_args()
    sequences = options.sequences or options.clients
    tally = Tally()
    rules = [{"last": f"count {size} numbers", "token_ms": options.token_ms, "text": text_of(size)}
             for size in SIZES]
    with Server(rules, "--sequences", sequences) as server:
        asyncio.run(run(server, options, tally))
        if not server.wait_idle(5):
            tally.problems.append("requests run on after their clients have gone")
        stats = server.stats()["requests"]
        if stats["failed"]:
            tally.problems.append(f"{stats['failed']} requests failed")
        if server.stop() != 0:
            tally.problems.append("the server did not end in order")
    third = len(tally.rss) // 3
    growth = max(tally.rss[third:]) - max(tally.rss[:third + 1]) if tally.rss else 0
    if growth > options.growth_mib << 20:
        tally.problems.append(f"memory grew by {growth >> 20} MiB")
    for problem in tally.problems[:20]:
        print("problem:", problem)
    gaps = [gap * 1000 for gap in tally.gaps_s] or [0]
    print(json.dumps({
        "clients": options.clients, "sequences": sequences, "minutes": options.minutes,
        "answers": tally.ends,
        "events": len(tally.gaps_s), "token_ms": options.token_ms,
        "gap_ms": {"p50": round(at(gaps, 0.5), 1), "p99": round(at(gaps, 0.99), 1),
                   "max": round(max(gaps), 1)},
        "rss_mib": [tally.rss[0] >> 20, tally.rss[-1] >> 20] if tally.rss else [],
        "growth_mib": round(growth / 2**20, 1), "problems": len(tally.problems)}))
    return 1 if tally.problems else 0


if __name__ == "__main__":
    sys.exit(main())
