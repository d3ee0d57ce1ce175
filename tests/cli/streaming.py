#!/usr/bin/env python3
"""Streamed experts through the real binary, over HTTP with the openai client: the same answers as
resident ones, start-up signals, reports and receipts; damaged sidecars; a server that is killed.

usage: streaming.py MACH_BINARY [SEED]
"""
import json
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import urllib.request

import openai

from support import Server, expert_bytes, make_checkpoint

MACH = sys.argv[1]
SEED = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 32)
# Scratch directories may lie in memory, where direct reads are refused.
BUFFERED = "--allow-buffered-io"
PATIENCE_S = 600  # only against hangs
results = {"passed": 0, "failed": 0}


def check(name, ok, detail=""):
    results["passed" if ok else "failed"] += 1
    if not ok:
        print(f"FAILED {name}: {detail}")


def run(*args):
    command = [MACH, *map(str, args)]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    except subprocess.TimeoutExpired as error:
        return subprocess.CompletedProcess(command, None, "", str(error))


def get(server, path):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(server.url.removesuffix("/v1") + path, timeout=PATIENCE_S) as reply:
        return json.loads(reply.read())


def client_of(server):
    return openai.OpenAI(base_url=server.url, api_key="local", max_retries=0, timeout=PATIENCE_S)


def answers(server):
    """Tokens and log probabilities of greedy and of sampled answers to prompts of several sizes."""
    client = client_of(server)
    found = []
    for index in range(6):
        answer = client.completions.create(
            model="", prompt="The river " * (1 + 9 * index), max_tokens=24, logprobs=2,
            temperature=0 if index % 2 else 0.8, seed=index, extra_body={"ignore_eos": True})
        choice = answer.choices[0]
        found.append((choice.text, choice.logprobs.tokens, choice.logprobs.token_logprobs))
    return found


def bank_flag(size_bytes):
    return ["--expert-cache-gb", f"{size_bytes / 1e9:.9f}"]


def one_answer(checkpoint):
    name = checkpoint.name
    with Server(MACH, checkpoint, "--no-streaming") as server:
        want = answers(server)
        signal = server.signal()
        check(f"{name} resident signals", signal["expert_residency"] == "stacked" and
              signal["direct_pread"] == "0" and signal["sidecar_valid"] == "1" and
              signal["native_extension"] == "unused", server.lines)
        check(f"{name} resident summary", get(server, "/v1/cache/stats")["streaming_summary"] is None)
        check(f"{name} exit after SIGTERM", server.stop() == 0)
    record, total, top_k = expert_bytes(checkpoint)
    for bank in (top_k * record, total // 2, total):
        for prefetch in ("--expert-prefetch", "--no-expert-prefetch"):
            flags = ["--streaming", BUFFERED, *bank_flag(bank), prefetch]
            for start in ("cold", "warm"):
                case = f"{name}, bank {bank}, {prefetch}, {start}"
                with Server(MACH, checkpoint, *flags) as server:
                    check(case, answers(server) == want)
                    check(f"{case}: exit after SIGTERM", server.stop() == 0, server.errors)
            (checkpoint / "expert_sidecar" / "heat.bin").unlink(missing_ok=True)
    with Server(MACH, checkpoint, "--backend", "openai") as server:
        check(f"{name} on the generic path", answers(server) == want)
        check(f"{name} generic signals", server.signal()["native_extension"] == "unused",
              server.lines)


def reports(checkpoint):
    record, total, top_k = expert_bytes(checkpoint)
    with Server(MACH, checkpoint, "--streaming", BUFFERED, *bank_flag(top_k * record)) as server:
        signal = server.signal()
        expected = {"profile": "production", "production_streaming_mode": "streaming",
                    "transient_prefill": "1", "expert_residency": "streaming",
                    "native_prefill_fused": "1", "sidecar_present": "1", "sidecar_valid": "1",
                    "native_extension": "ready" if signal["direct_pread"] == "1" else "missing",
                    "expert_cache_bytes": str(top_k * record), "fallback_policy": "diagnostic",
                    "decode_path": "target-only", "effective_decode_path": "target_only"}
        check("start-up signals", expected.items() <= signal.items(), server.lines)
        capabilities = get(server, "/v1/capabilities")
        check("capabilities", capabilities["backend"] == "production" and
              capabilities["serving"]["expert_residency"] == "streaming" and
              capabilities["serving"]["direct_pread"]["active"] == (signal["direct_pread"] == "1")
              and capabilities["arch"]["model_type"] == signal["arch"], capabilities)
        warned = any("experts are read through the page cache" in line for line in server.errors)
        check("a warning of buffered reads", warned == (signal["direct_pread"] == "0"),
              server.errors)
        archs = json.loads(run("archs", "--json").stdout)
        check("archs lists what capabilities shows", capabilities["arch"] in archs)

        client = client_of(server)
        # Prefill streams all experts past a bank of one layer's top-k; decoding asks the bank.
        fields = {"model": "", "prompt": "The river " * 20, "max_tokens": 8, "temperature": 0}
        answer = client.completions.create(**fields, extra_body={"receipt": True})
        receipt = answer.usage.model_extra["mach"]
        check("receipt", receipt["bytes_read"] > 0 and receipt["expert_misses"] > 0 and
              0 <= receipt["expert_hit_rate"] < 1 and receipt["expert_prefill_misses"] > 0, receipt)
        chunks = list(client.completions.create(**fields, stream=True,
                                                extra_body={"receipt": True}))
        check("receipt of a stream", "mach" in chunks[-1].usage.model_extra)
        summary = get(server, "/v1/cache/stats?detail=1")["streaming_summary"]
        again = chunks[-1].usage.model_extra["mach"]
        check("prefill and decoding are counted apart", all(
            summary[key] == receipt[f"expert_{key}"] + again[f"expert_{key}"]
            for key in ("hits", "misses", "prefill_hits", "prefill_misses")),
              (summary, receipt, again))
        check("summary", summary["capacity"] == top_k and summary["misses"] > 0 and
              summary["bytes_read"] >= receipt["bytes_read"] and
              sum(layer["misses"] for layer in summary["per_layer"]) == summary["misses"], summary)


def refusals(checkpoint, directory):
    """Sidecars that must not be served: exit 1, the file, what is wrong, and the cure."""
    def damaged(name, change):
        copy = directory / f"bad-{name.replace(' ', '-')}"
        shutil.copytree(checkpoint, copy)
        change(copy)
        return copy

    def truncate(copy):
        path = copy / "expert_sidecar" / "layer_0001.bin"
        with open(path, "r+b") as file:
            file.truncate(path.stat().st_size - 16384)

    def edit(copy):
        path = copy / "expert_sidecar" / "manifest.json"
        text = path.read_text()
        path.write_text(text.replace('"experts": 8', '"experts": 4').replace('"experts":8',
                                                                             '"experts":4'))

    def swap(copy):
        other = make_checkpoint(MACH, "qwen3_moe_q4_g64", directory)
        shutil.rmtree(copy / "expert_sidecar")
        shutil.copytree(other / "expert_sidecar", copy / "expert_sidecar")

    cases = [("truncated layer file", truncate, "layer_0001.bin"),
             ("edited manifest", edit, "manifest.json"),
             ("manifest of nonsense",
              lambda copy: (copy / "expert_sidecar" / "manifest.json").write_text("{"),
              "manifest.json"),
             ("layer file missing",
              lambda copy: (copy / "expert_sidecar" / "layer_0002.bin").unlink(),
              "layer_0002.bin"),
             ("another model's sidecar", swap, "expert_sidecar"),
             ("sidecar missing", lambda copy: shutil.rmtree(copy / "expert_sidecar"),
              "expert_sidecar")]
    for name, change, file in cases:
        copy = damaged(name, change)
        server = Server(MACH, copy, "--streaming", BUFFERED)
        code, errors = server.stop(), "".join(server.errors)
        check(name, code == 1 and server.url is None and file in errors and
              "mach convert" in errors and "listening" not in errors, f"exit {code}: {errors}")
        outcome = run("check", "--json", copy)
        paths = json.loads(outcome.stdout)["paths"]
        check(f"mach check --json: {name}", not paths[0]["runnable"] and
              file in paths[0]["reason"] + "".join(paths[0]["missing"]), outcome)
        outcome = run("check", copy)
        check(f"mach check: {name}", outcome.returncode in (0, 1, 3) and
              file in outcome.stdout + outcome.stderr, outcome)

    # A flipped bit shows only when the record is read: the first one and the hottest are at the start.
    copy = damaged("flipped bit", lambda _: None)
    for path in (copy / "expert_sidecar").glob("layer_*.bin"):
        data = bytearray(path.read_bytes())
        for offset in range(16384 + 100, len(data), 16384):
            data[offset] ^= 4
        path.write_bytes(data)
    outcome = run("check", "--verify", copy)
    check("--verify finds flipped bits", outcome.returncode == 1 and "layer_" in outcome.stderr,
          outcome)
    heat = copy / "expert_sidecar" / "heat.bin"
    check("the checkpoint has a heat map", heat.exists())
    server = Server(MACH, copy, "--streaming", BUFFERED)
    code, errors = server.stop(), "".join(server.errors)
    check("a corrupt record of the warm start", code == 1 and server.url is None and
          "layer_" in errors and "mach convert" in errors, f"exit {code}: {errors}")
    heat.unlink()
    with Server(MACH, copy, "--streaming", BUFFERED) as server:
        client = client_of(server)
        try:
            client.completions.create(model="", prompt="hello", max_tokens=4)
            check("a corrupt record fails its request", False)
        except openai.InternalServerError as error:
            reference = error.response.headers["x-request-id"]
            check("a corrupt record fails its request", error.code == "internal_error" and
                  reference in error.message and "layer_" not in error.message, error)
            lines = server.wait_for_log(reference)
            check("the log has the cause", any("layer_" in line for line in lines), lines)
        check("the server lives on", client.models.list().data)
    outcome = run("check", "--verify", checkpoint)
    check("--verify of a sound checkpoint", outcome.returncode in (0, 3), outcome)

    record, _, top_k = expert_bytes(checkpoint)
    server = Server(MACH, checkpoint, "--streaming", BUFFERED, *bank_flag((top_k - 1) * record))
    check("a bank that is too small", server.stop() in (1, 2) and
          any("--expert-cache-gb" in line for line in server.errors), server.errors)


def killed(checkpoint, rng):
    """SIGKILL leaves nothing that the next start loads wrongly."""
    record, total, _ = expert_bytes(checkpoint)
    flags = ["--streaming", BUFFERED, *bank_flag(total // 2)]
    with Server(MACH, checkpoint, *flags) as server:
        want = answers(server)
    for _ in range(6):
        server = Server(MACH, checkpoint, *flags)
        stream = client_of(server).completions.create(
            model="", prompt="The river", max_tokens=200, stream=True,
            extra_body={"ignore_eos": True})
        for _ in zip(range(rng.randrange(60)), stream):  # deltas may be merged into fewer
            pass
        if rng.random() < 0.5:
            server.process.terminate()  # and in the middle of shutting down
        server.kill()
        with Server(MACH, checkpoint, *flags) as server:
            check("answers after a kill", answers(server) == want)


def main():
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        for golden in ("qwen3_5_moe_q4_g32", "qwen3_moe_bf16_hf"):
            one_answer(make_checkpoint(MACH, golden, directory))
        checkpoint = directory / "qwen3_5_moe_q4_g32"
        reports(checkpoint)
        killed(checkpoint, rng)
        refusals(checkpoint, directory)
    print(f"{results['passed']} passed, {results['failed']} failed")
    return 1 if results["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
