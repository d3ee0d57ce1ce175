#!/usr/bin/env python3
"""Damaged checkpoints and wrong usage against the real binary: an error that names the culprit, an
exit code of 1 or 2 (130 after Ctrl-C), never a signal.

usage: bad_input.py MACH_BINARY [SEED]
"""
import json
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile

from support import byte_tokenizer

ROOT = pathlib.Path(__file__).resolve().parents[1]
SOURCE = ROOT / "golden" / "qwen3_q4_g64"
MACH = str(pathlib.Path(sys.argv[1]).absolute())
SEED = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 32)
PATIENCE_S = 600  # only against hangs
results = {"passed": 0, "failed": 0}


def run(*args, stdin=b"", env=None):
    command = [MACH, *map(str, args)]
    try:
        return subprocess.run(command, input=stdin, env=env, capture_output=True, timeout=PATIENCE_S)
    except subprocess.TimeoutExpired as error:
        return subprocess.CompletedProcess(command, None, b"", str(error).encode())


def bench(checkpoint):
    return run("bench", checkpoint, "--prompt-tokens", 8, "--generate-tokens", 2, "--repeat", 1,
               "--no-probe", "--threads", 1)


def check(name, ok, outcome):
    results["passed" if ok else "failed"] += 1
    if not ok:
        print(f"FAILED {name}: exit {outcome.returncode}\n  {outcome.stderr.decode(errors='replace')}")


def expect_error(name, outcome, *words, codes=(1, 2)):
    text = outcome.stderr.decode(errors="replace")
    check(name, outcome.returncode in codes and all(word in text for word in words), outcome)


def copy(directory, name):
    target = pathlib.Path(directory) / name
    shutil.copytree(SOURCE, target)
    return target


def edit_config(checkpoint, change):
    path = checkpoint / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def lying_configs(directory):
    """(field that the error must name, change)"""
    changes = [
        ("hidden_size", lambda c: c.update(hidden_size=0)),
        ("hidden_size", lambda c: c.update(hidden_size="many")),
        ("hidden_size", lambda c: c.pop("hidden_size")),
        ("num_hidden_layers", lambda c: c.update(num_hidden_layers=-1)),
        ("num_hidden_layers", lambda c: c.update(num_hidden_layers=1e300)),
        ("num_key_value_heads", lambda c: c.update(num_key_value_heads=3)),
        ("rms_norm_eps", lambda c: c.update(rms_norm_eps="tiny")),
        ("hidden_act", lambda c: c.update(hidden_act="gelu")),
        ("model_type", lambda c: c.update(model_type="no_such_model")),
        ("embed_tokens", lambda c: c.update(vocab_size=c["vocab_size"] + 16)),
        ("q_proj", lambda c: c.update(hidden_size=c["hidden_size"], head_dim=c["head_dim"] * 2)),
        ("layers", lambda c: c.update(num_hidden_layers=c["num_hidden_layers"] + 1)),
        ("gate_proj", lambda c: c.update(intermediate_size=c["intermediate_size"] * 2)),
        ("bits", lambda c: c["quantization"].update(bits=7)),
        ("groups of 48", lambda c: c["quantization"].update(group_size=48)),
    ]
    for index, (word, change) in enumerate(changes):
        checkpoint = copy(directory, f"config-{index}")
        edit_config(checkpoint, change)
        expect_error(f"config {index} ({word})", bench(checkpoint), word, codes=(1,))


def damaged_weights(directory, rng):
    original = (SOURCE / "model.safetensors").read_bytes()
    header = int.from_bytes(original[:8], "little")
    checkpoint = copy(directory, "weights")
    path = checkpoint / "model.safetensors"
    for size in [0, 1, 7, 8, 9, header // 2, header + 7, header + 8, len(original) - 1]:
        path.write_bytes(original[:size])
        expect_error(f"truncated to {size}", bench(checkpoint), "model.safetensors")
    for _ in range(40):
        data = bytearray(original)
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(header + 8)] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        outcome = bench(checkpoint)  # some flips change nothing that matters
        check("bit flips in the header", outcome.returncode in (0, 1, 2), outcome)
    for _ in range(10):
        data = bytearray(original)
        for _ in range(200):
            data[rng.randrange(header + 8, len(data))] = rng.randrange(256)
        path.write_bytes(data)
        outcome = bench(checkpoint)
        check("garbage in the weights", outcome.returncode in (0, 1, 2), outcome)


def damaged_gguf(directory, rng):
    path = pathlib.Path(directory) / "model.gguf"
    out = pathlib.Path(directory) / "converted"
    for data in [b"", b"GGUF", b"GGUF" + bytes(20), rng.randbytes(4096),
                 b"GGUF\x03\0\0\0" + b"\xff" * 64]:
        path.write_bytes(data)
        expect_error("damaged GGUF", run("convert", path, "--out", out), "model.gguf")
        check("nothing was left that loads", not out.exists(), run("--version"))


def with_tokenizer(directory, name, template=None):
    checkpoint = copy(directory, name)
    (checkpoint / "tokenizer.json").write_text(byte_tokenizer())
    if template is not None:
        (checkpoint / "chat_template.jinja").write_text(template)
    return checkpoint


def refuses_before_listening(directory):
    """What headers and small files show is refused before a port is taken."""
    cases = [("no tokenizer", SOURCE, ["no tokenizer.json in"]),
             ("broken chat template", with_tokenizer(directory, "broken-template", "{% if %}"),
              ["chat_template.jinja"])]
    for name, checkpoint, words in cases:
        outcome = run("serve", checkpoint, "--backend", "openai", "--port", 0)
        expect_error(name, outcome, *words, codes=(1,))
        check(f"{name}: nothing listened", b"listening" not in outcome.stderr, outcome)


def generate_usage(directory):
    plain = with_tokenizer(directory, "plain")
    expect_error("a prompt longer than the context",
                 run("generate", plain, "--max-context", 8, "-p", "0123456789"),
                 "the prompt has 10 tokens, the context 8", "--max-context", codes=(2,))
    expect_error("a prompt as long as the model's own limit",
                 run("generate", plain, "-p", "x" * 512),
                 "the prompt has 512 tokens, the context 512", "--max-context", codes=(2,))
    expect_error("--system with --raw",
                 run("generate", plain, "--raw", "--system", "Be brief.", "-p", "x"),
                 "--system", "--raw", codes=(2,))
    expect_error("--system without a chat template",
                 run("generate", plain, "--system", "Be brief.", "-p", "x"),
                 "--system", "chat template", codes=(2,))
    outcome = run("generate", plain, "-p", "x", "--max-tokens", 2)
    check("an answer", outcome.returncode == 0, outcome)
    interrupted_answer(directory)


def interrupted_answer(directory):
    endless = with_tokenizer(directory, "endless")
    edit_config(endless, lambda c: c.update(max_position_embeddings=1 << 16))
    command = [MACH, "generate", endless, "-p", "x", "--ignore-eos", "--max-tokens", 1 << 15,
               "--max-context", 1 << 16, "--threads", 1]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    process.stdout.read(1)  # the answer has begun, and so Ctrl-C is caught
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=PATIENCE_S)[1]
    outcome = subprocess.CompletedProcess(command, process.returncode, b"", errors)
    check("an interrupted answer", outcome.returncode == 130 and b"[interrupted]" in errors,
          outcome)


def wrong_usage(directory):
    expect_error("no command", run(), codes=(2,))
    expect_error("unknown command", run("chek", "tiny"), "unknown command chek",
                 "did you mean check?", codes=(2,))
    expect_error("unknown command like none", run("frobnicate"), "unknown command frobnicate",
                 "mach --help", codes=(2,))
    expect_error("unknown flag without a command", run("--verson"), "--verson", "--version",
                 codes=(2,))
    expect_error("unknown flag", run("serve", "x", "--prot", 1), "--prot", "--port", codes=(2,))
    expect_error("no residency flag", run("serve", SOURCE), "--streaming", "--no-streaming",
                 codes=(2,))
    expect_error("both residency flags", run("serve", SOURCE, "--streaming", "--no-streaming"),
                 "--streaming", "--no-streaming", codes=(2,))
    for flag in (["--io", "pread"], ["--allow-buffered-io"], ["--expert-cache-gb", 1]):
        expect_error(f"{flag[0]} without --streaming", run("serve", SOURCE, "--no-streaming", *flag),
                     flag[0], "--streaming", codes=(2,))
    expect_error("too many gigabytes", run("bench", SOURCE, "--memory-gb", 1e300), "--memory-gb",
                 codes=(2,))
    expect_error("dense model on the production path", run("serve", SOURCE, "--streaming"),
                 "--backend openai")
    expect_error("port out of range", run("serve", SOURCE, "--backend", "openai", "--port", 70000),
                 "--port", codes=(2,))
    expect_error("missing checkpoint", bench(pathlib.Path(directory) / "nowhere"), "nowhere")
    expect_error("models of a mistyped directory",
                 run("models", pathlib.Path(directory) / "nowhere"), "nowhere", "not a directory")
    expect_error("hub id that is not there", bench("nobody/no-such-model"), "nobody/no-such-model",
                 "hf download")
    expect_error("mistyped path", subprocess.run([MACH, "bench", "golden/mnie"], cwd=ROOT,
                                                 capture_output=True, timeout=60),
                 "there is no directory golden/mnie", "mach models golden", codes=(1,))
    blocked = pathlib.Path(directory) / "file"
    blocked.write_text("")
    for command in (["convert", SOURCE], ["synth", "--shape", "tiny"]):
        expect_error(f"{command[0]} to a place that takes no directory",
                     run(*command, "--out", blocked / "out"), f"cannot write {blocked}/out",
                     "Not a directory", "another --out", codes=(1,))
    expect_error("shape that cannot be stored",
                 run("synth", "--shape", "tiny", "--out", blocked, "--linear-value-heads", 3),
                 "--linear-value-heads is 3", codes=(2,))
    expect_error("flag of another family",
                 run("synth", "--shape", "qwen3moe-10l", "--out", blocked, "--conv-taps", 3),
                 "--conv-taps", "qwen3_moe", codes=(2,))
    expect_error("memory ceiling", run("serve", SOURCE, "--backend", "openai", "--port", 0,
                                       "--memory-gb", 0.000001),
                 "needs at least", "--memory-gb allows 0.000001 GB", "mach check", codes=(1,))
    refuses_before_listening(directory)
    generate_usage(directory)
    expect_error("unknown instruction set", run("bench", SOURCE, env={"MACH_ISA": "mmx"}),
                 "MACH_ISA", codes=(2,))


def main():
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    with tempfile.TemporaryDirectory() as directory:
        outcome = bench(SOURCE)
        check("the undamaged checkpoint", outcome.returncode == 0, outcome)
        lying_configs(directory)
        damaged_weights(directory, rng)
        damaged_gguf(directory, rng)
        wrong_usage(directory)
    print(f"{results['passed']} passed, {results['failed']} failed")
    return 1 if results["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
