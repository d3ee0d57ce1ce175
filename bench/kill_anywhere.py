#!/usr/bin/env python3
"""SIGKILL at random moments: what is left behind must load right or be refused, never load wrong.

    bench/kill_anywhere.py [--mach build/release/bin/mach] [--kills 20] [--seed N] [--work DIR]
                           [--only synth|convert|serve]

synth, convert  The writer is killed again and again until it finishes. After every kill: the output
                does not exist, or `mach check --verify` accepts it and it is byte for byte what an
                undisturbed run writes; the partial directory is refused by `mach check` with an
                error and not a signal. The finished output is byte for byte the undisturbed one.
serve           A streaming server is killed while it loads, while it answers, and while it idles
                (when the heat map is saved). After every kill `mach check --verify` accepts the
                checkpoint, and the next server gives the same answer as the first.

Exits with 1 at the first failure and leaves the work directory for a look.
"""
import argparse
import json
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time

from serving import Server


def fail(what):
    sys.exit(f"FAILED: {what}")


def contents(directory):
    return {str(path.relative_to(directory)): path.read_bytes()
            for path in sorted(directory.rglob("*")) if path.is_file()}


def compare(directory, expected, when):
    found = contents(directory)
    if found.keys() != expected.keys():
        fail(f"{when}: files differ: {sorted(found.keys() ^ expected.keys())}")
    for name, data in expected.items():
        if found[name] != data:
            fail(f"{when}: {name} differs from an undisturbed run's")


class Trial:
    def __init__(self, args, work):
        self.args = args
        self.work = work
        self.random = random.Random(args.seed)

    def run(self, *command):
        return subprocess.run([str(self.args.mach), *map(str, command)], capture_output=True,
                              text=True)

    def require(self, *command):
        start = time.monotonic()
        done = self.run(*command)
        if done.returncode != 0:
            fail(f"mach {' '.join(map(str, command))}: exit {done.returncode}\n{done.stderr}")
        return time.monotonic() - start

    def verify(self, checkpoint, when):
        done = self.run("check", "--verify", checkpoint)
        # 3: the verdict is that it does not fit this machine, which is no damage.
        if done.returncode not in (0, 3):
            fail(f"{when}: mach check --verify: exit {done.returncode}\n{done.stderr}")

    def refused(self, partial, when):
        """An unfinished output is no checkpoint."""
        for command in (["check", partial], ["serve", partial, "--streaming", "--port", 0]):
            done = self.run(*command)
            if done.returncode <= 0:
                fail(f"{when}: mach {command[0]} of the unfinished output: exit {done.returncode}")

    def killed(self, command, seconds):
        """Whether the command was still running when it was killed."""
        process = subprocess.Popen([str(self.args.mach), *map(str, command)],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
        error = process.communicate()[1]
        if process.returncode not in (0, -9):
            fail(f"{' '.join(map(str, command))}: exit {process.returncode}\n{error.decode()}")
        return process.returncode == -9

    def writer(self, name, command):
        """`command(out)` is the command line that writes `out`."""
        out = self.work / f"{name}-out"
        undisturbed = self.require(*command(out))
        expected = contents(out)
        shutil.rmtree(out)
        kills = finished = 0
        while kills < self.args.kills:
            partial = pathlib.Path(f"{out}.partial")
            attempt = command(out)
            if self.killed(attempt, self.random.uniform(0, 1.1 * undisturbed)):
                kills += 1
                when = f"{name}, kill {kills}"
                if out.exists():
                    self.verify(out, when)
                    compare(out, expected, when)
                elif partial.exists() and any(partial.iterdir()):
                    self.refused(partial, when)
                if not out.exists() and self.random.random() < 0.7:
                    continue  # another kill on top
                if not out.exists():
                    self.require(*attempt)
            finished += 1
            self.verify(out, f"{name}, after {kills} kills")
            compare(out, expected, f"{name}, after {kills} kills")
            shutil.rmtree(out)
            shutil.rmtree(partial, ignore_errors=True)
        print(f"{name}: {kills} kills, {finished} times finished, {undisturbed:.1f} s undisturbed")

    def synth(self):
        self.writer("synth", lambda out: ["synth", "--shape", "tiny", "--layers", 8, "--experts",
                                          64, "--hidden", 512, "--out", out])

    def convert(self):
        source = self.work / "source"
        write_source(source, self.random)
        donor = self.work / "donor"
        self.require("synth", "--shape", "tiny", "--vocab", 4096, "--out", donor)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(donor / name, source / name)
        self.writer("convert", lambda out: ["convert", source, "--bits", 4, "--out", out])

    def serve(self):
        checkpoint = self.work / "served"
        self.require("synth", "--shape", "tiny", "--experts", 64, "--out", checkpoint)
        flags = ["--streaming", "--expert-cache-gb", "0.003"]
        log = self.work / "serve.log"

        def start():
            return Server(self.args.mach, checkpoint, flags, log)

        def ask(server):
            return server.answer("the same question", 64)

        with start() as server:
            began = time.monotonic()
            if not server.wait_ready():
                fail(f"the server did not start:\n{server.log_text()}")
            load_s = time.monotonic() - began
            began = time.monotonic()
            expected = ask(server)
            answer_s = time.monotonic() - began
        for kill in range(1, self.args.kills + 1):
            server = start()
            kind = self.random.choice(["loading", "answering", "stopping"])
            if kind == "loading":
                time.sleep(self.random.uniform(0, load_s))
            elif not server.wait_ready():
                fail(f"kill {kill}: the server did not start again:\n{server.log_text()}")
            elif kind == "answering":
                asking = threading.Thread(target=attempt, args=(ask, server))
                asking.start()
                time.sleep(self.random.uniform(0, 1.2 * answer_s))
            else:
                attempt(ask, server)
                server.process.terminate()  # saves the heat map
                time.sleep(self.random.uniform(0, 0.05))
            server.kill()
            if kind == "answering":
                asking.join()
            self.verify(checkpoint, f"serve, kill {kill} while {kind}")
            with start() as server:
                if not server.wait_ready():
                    fail(f"after kill {kill} while {kind}: no start:\n{server.log_text()}")
                if ask(server) != expected:
                    fail(f"after kill {kill} while {kind}: another answer than before")
        print(f"serve: {self.args.kills} kills")


def attempt(ask, server):
    try:
        ask(server)
    except (OSError, ValueError, RuntimeError):
        pass  # the server was killed meanwhile


def write_source(directory, chance):
    """A bf16 checkpoint in the layout of Hugging Face (qwen3_moe), of about 100 MB."""
    hidden, layers, experts, inner, vocab = 512, 4, 16, 256, 4096
    heads, kv_heads, head_dim = 8, 2, 64
    tensors = {"model.embed_tokens.weight": (vocab, hidden), "lm_head.weight": (vocab, hidden),
               "model.norm.weight": (hidden,)}
    for layer in range(layers):
        base = f"model.layers.{layer}."
        tensors.update({
            base + "input_layernorm.weight": (hidden,),
            base + "post_attention_layernorm.weight": (hidden,),
            base + "self_attn.q_proj.weight": (heads * head_dim, hidden),
            base + "self_attn.k_proj.weight": (kv_heads * head_dim, hidden),
            base + "self_attn.v_proj.weight": (kv_heads * head_dim, hidden),
            base + "self_attn.o_proj.weight": (hidden, heads * head_dim),
            base + "self_attn.q_norm.weight": (head_dim,),
            base + "self_attn.k_norm.weight": (head_dim,),
            base + "mlp.gate.weight": (experts, hidden),
        })
        for expert in range(experts):
            tensors.update({
                f"{base}mlp.experts.{expert}.gate_proj.weight": (inner, hidden),
                f"{base}mlp.experts.{expert}.up_proj.weight": (inner, hidden),
                f"{base}mlp.experts.{expert}.down_proj.weight": (hidden, inner),
            })
    header, position = {}, 0
    for name, shape in tensors.items():
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "BF16", "shape": list(shape),
                        "data_offsets": [position, position + 2 * count]}
        position += 2 * count
    text = json.dumps(header).encode()
    # BF16 of either sign between 2^-9 and 2^-5: any low byte, one of these as the high byte.
    high_bytes = bytes((0x3B, 0xBB, 0x3C, 0xBC)[i % 4] for i in range(256))
    data = bytearray(position)
    data[0::2] = chance.randbytes(position // 2)
    data[1::2] = chance.randbytes(position // 2).translate(high_bytes)
    directory.mkdir()
    (directory / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    (directory / "config.json").write_text(json.dumps({
        "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_size": hidden,
        "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv_heads,
        "head_dim": head_dim, "num_experts": experts, "num_experts_per_tok": 4,
        "moe_intermediate_size": inner, "intermediate_size": inner, "norm_topk_prob": True,
        "decoder_sparse_step": 1, "mlp_only_layers": [], "vocab_size": vocab,
        "rms_norm_eps": 1e-6, "rope_theta": 1000000, "max_position_embeddings": 4096,
        "tie_word_embeddings": False, "hidden_act": "silu", "attention_bias": False}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mach", default="build/release/bin/mach", type=pathlib.Path)
    parser.add_argument("--kills", type=int, default=20, help="of each kind")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--work", type=pathlib.Path, help="scratch directory, kept")
    parser.add_argument("--only", choices=["synth", "convert", "serve"])
    args = parser.parse_args()
    if args.seed is None:
        args.seed = random.randrange(1 << 32)
    print(f"seed {args.seed}", flush=True)
    work = args.work or pathlib.Path(tempfile.mkdtemp(prefix="mach-kill-"))
    work.mkdir(parents=True, exist_ok=True)
    trial = Trial(args, work)
    for name in ("synth", "convert", "serve"):
        if args.only in (None, name):
            getattr(trial, name)()
    if not args.work:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
