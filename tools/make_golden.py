#!/usr/bin/env python3
"""Builds the tiny random checkpoints of tests/golden/ and their golden logits.

Weights come from a seeded numpy generator and are stored in the layout that MLX and Hugging Face
checkpoints have. The logits come from mlx-lm, loading the stored files and computing in float32 on
the CPU, so that nothing of this project takes part in them. golden_forward.py computes them once
more in numpy, from weights unpacked here, and must agree; for quantised checkpoints it adds the
logits that int8 activations give. tests/golden/README.md describes the files.

usage: make_golden.py [--out tests/golden] [NAME ...]
"""
import argparse
import dataclasses
import json
import pathlib
import zlib

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import load_model

from golden_forward import Decoder

PROMPT_TOKENS = 40
DECODE_STEPS = 8
WINDOW_TOKENS, WINDOW_STRIDE = 6, 2
LOGIT_STD = 2.0  # the aim; the checks below accept 1 to 4
MIN_ROUTER_MARGIN = 3e-4  # between the logits of an expert taken and one left out, float32 safe

BASE = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 256,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
QWEN2 = {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "rope_theta": 1e6,
         "rms_norm_eps": 1e-6}
# Float checkpoints are smaller, to keep the repository small.
SMALL = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "head_dim": 32}
QWEN3 = {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "rope_theta": 1e6,
         "rms_norm_eps": 1e-6, "head_dim": 64, "attention_bias": False,
         "tie_word_embeddings": True}


@dataclasses.dataclass
class Spec:
    """One checkpoint: its config.json, the float dtype it is stored in and its quantisation."""
    family: dict
    dtype: str = "bfloat16"
    config: dict = dataclasses.field(default_factory=dict)
    quantization: dict | None = None
    shards: int = 1


def affine(bits, group_size, **overrides):
    return {"group_size": group_size, "bits": bits, **overrides}


SPECS = {
    # Float checkpoints.
    "llama_f32": Spec(
        LLAMA, "float32",
        {"hidden_size": 80, "intermediate_size": 120, "num_attention_heads": 5,
         "num_key_value_heads": 1, "vocab_size": 200}),
    "llama_f16_rope_linear": Spec(
        LLAMA, "float16",
        {**SMALL, "rope_scaling": {"type": "linear", "factor": 4.0}, "tie_word_embeddings": True}),
    "llama_bf16_rope_llama3": Spec(
        LLAMA, "bfloat16",
        {**SMALL, "rope_theta": 500000.0,
         "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                          "high_freq_factor": 4.0, "original_max_position_embeddings": 64}}),
    "llama_bf16_bias": Spec(
        LLAMA, "bfloat16",
        {**SMALL, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True,
         "num_key_value_heads": 1}),
    "qwen2_bf16": Spec(
        QWEN2, "bfloat16", {"intermediate_size": 128, "tie_word_embeddings": True}),
    "qwen2_bf16_rope_yarn": Spec(
        QWEN2, "bfloat16",
        {"intermediate_size": 128, "rope_scaling": {"type": "yarn", "factor": 4.0,
                          "original_max_position_embeddings": 64}}),
    # transformers 5 nests the rope fields.
    "qwen3_bf16": Spec(
        QWEN3, "bfloat16",
        {**SMALL, "rope_theta": None,
         "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}),
    "qwen3_f32_sharded": Spec(
        QWEN3, "float32",
        {**SMALL, "num_hidden_layers": 1, "tie_word_embeddings": False}, shards=2),
    # Quantised checkpoints.
    "llama_q4_g64": Spec(LLAMA, quantization=affine(4, 64)),
    "llama_q4_g32_f16": Spec(LLAMA, "float16", quantization=affine(4, 32)),
    "llama_q4_g64_bias": Spec(
        LLAMA, config={"attention_bias": True, "mlp_bias": True}, quantization=affine(4, 64)),
    "llama_q8_g64_f32": Spec(LLAMA, "float32", {"intermediate_size": 128}, affine(8, 64)),
    "llama_q6_g64": Spec(LLAMA, config={"tie_word_embeddings": True},
                         quantization=affine(6, 64)),
    "llama_q2_g32": Spec(LLAMA, quantization=affine(2, 32)),
    "qwen2_q4_g64": Spec(QWEN2, quantization=affine(4, 64)),
    "qwen2_q3_g64": Spec(QWEN2, quantization=affine(3, 64)),
    "qwen3_q4_g64": Spec(QWEN3, quantization=affine(4, 64)),
    "qwen3_q4_g128": Spec(QWEN3, quantization=affine(4, 128)),
    "qwen3_q5_g64": Spec(QWEN3, quantization=affine(5, 64)),
    "qwen3_q8_g32": Spec(QWEN3, "bfloat16", {"intermediate_size": 128}, affine(8, 32)),
    "qwen3_q4_mixed": Spec(QWEN3, config={"tie_word_embeddings": False}, quantization=affine(
        4, 64,
        **{"model.embed_tokens": {"group_size": 32, "bits": 6},
           "lm_head": {"group_size": 64, "bits": 8},
           "model.layers.0.mlp.down_proj": {"group_size": 128, "bits": 8},
           "model.layers.0.self_attn.v_proj": {"group_size": 32, "bits": 5},
           "model.layers.1.self_attn.k_proj": False,
           "model.layers.1.mlp.gate_proj": False})),
}


def make_config(spec):
    config = {**BASE, **spec.family, **spec.config}
    config = {key: value for key, value in config.items() if value is not None}
    config["torch_dtype"] = spec.dtype
    if spec.quantization:
        config["quantization"] = spec.quantization
        config["quantization_config"] = spec.quantization
    return config


def make_weights(config, rng):
    """Float32 weights by tensor name, scaled so that logits are spread and attention is not flat.

    Row variance 1/in keeps activations near unit size; queries and keys are wider so that scores
    have a standard deviation near 2.
    """
    hidden = config["hidden_size"]
    inner = config["intermediate_size"]
    heads = config["num_attention_heads"]
    kv_heads = config["num_key_value_heads"]
    head_dim = config.get("head_dim", hidden // heads)
    family = config["model_type"]
    weights = {}

    def linear(name, rows, columns, gain=1.0, bias=False):
        scale = gain / np.sqrt(columns)
        weights[name + ".weight"] = rng.standard_normal((rows, columns)) * scale
        if bias:
            weights[name + ".bias"] = rng.standard_normal(rows) * 0.3

    def norm(name, size):
        weights[name + ".weight"] = rng.uniform(0.5, 1.5, size)

    tied = config["tie_word_embeddings"]
    embed_gain = LOGIT_STD if tied else np.sqrt(hidden)
    linear("model.embed_tokens", config["vocab_size"], hidden, embed_gain)
    qkv_bias = family == "qwen2" or config.get("attention_bias", False)
    o_bias = family == "llama" and config.get("attention_bias", False)
    mlp_bias = config.get("mlp_bias", False)
    for index in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{index}."
        linear(prefix + "self_attn.q_proj", heads * head_dim, hidden, 1.4, qkv_bias)
        linear(prefix + "self_attn.k_proj", kv_heads * head_dim, hidden, 1.4, qkv_bias)
        linear(prefix + "self_attn.v_proj", kv_heads * head_dim, hidden, 1.0, qkv_bias)
        linear(prefix + "self_attn.o_proj", hidden, heads * head_dim, 1.0, o_bias)
        linear(prefix + "mlp.gate_proj", inner, hidden, 1.0, mlp_bias)
        linear(prefix + "mlp.up_proj", inner, hidden, 1.0, mlp_bias)
        linear(prefix + "mlp.down_proj", hidden, inner, 2.0, mlp_bias)
        norm(prefix + "input_layernorm", hidden)
        norm(prefix + "post_attention_layernorm", hidden)
        if family == "qwen3":
            norm(prefix + "self_attn.q_norm", head_dim)
            norm(prefix + "self_attn.k_norm", head_dim)
    norm("model.norm", hidden)
    if not tied:
        linear("lm_head", config["vocab_size"], hidden, LOGIT_STD)
    return {name: mx.array(value.astype(np.float32)) for name, value in weights.items()}


def quantization_of(quantization, module):
    """(group_size, bits) of a module, or None if it stays float."""
    if not quantization:
        return None
    entry = quantization.get(module, quantization)
    return (entry["group_size"], entry["bits"]) if entry else None


def store(directory, spec, config, weights):
    """Writes config.json and the tensors as they would be downloaded."""
    dtype = getattr(mx, spec.dtype)
    tensors = {}
    for name, value in weights.items():
        module, _, leaf = name.rpartition(".")
        quantization = quantization_of(spec.quantization, module)
        value = value.astype(mx.float32 if leaf == "A_log" else dtype)
        linear = value.ndim >= 2 and not module.endswith("conv1d")
        if leaf == "weight" and linear and quantization:
            group_size, bits = quantization
            codes, scales, biases = mx.quantize(value, group_size=group_size, bits=bits)
            tensors[name] = codes
            tensors[module + ".scales"] = scales
            tensors[module + ".biases"] = biases
        else:
            tensors[name] = value
    directory.mkdir(parents=True, exist_ok=True)
    for old in list(directory.glob("model*.safetensors*")):
        old.unlink()
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    (directory / "config.json").write_text(text, encoding="utf-8")
    metadata = {"format": "mlx"}
    if spec.shards == 1:
        mx.save_safetensors(str(directory / "model.safetensors"), tensors, metadata)
        return tensors
    names = sorted(tensors)
    weight_map = {}
    for shard in range(spec.shards):
        file = f"model-{shard + 1:05d}-of-{spec.shards:05d}.safetensors"
        part = names[shard::spec.shards]
        mx.save_safetensors(str(directory / file), {n: tensors[n] for n in part}, metadata)
        weight_map.update({n: file for n in part})
    index = {"metadata": {"total_size": sum(t.nbytes for t in tensors.values())},
             "weight_map": dict(sorted(weight_map.items()))}
    text = json.dumps(index, indent=2) + "\n"
    (directory / "model.safetensors.index.json").write_text(text, encoding="utf-8")
    return tensors


def unpack(codes, bits, columns):
    """Codes of a row as a little-endian bit stream, least significant bit first."""
    rows = codes.shape[0]
    bytes_of_row = np.ascontiguousarray(codes).view(np.uint8).reshape(rows, -1)
    stream = np.unpackbits(bytes_of_row, axis=1, bitorder="little")
    fields = stream.reshape(rows, columns, bits).astype(np.int64)
    return fields @ (1 << np.arange(bits, dtype=np.int64))


def dequantised(tensors, quantization):
    """The stored tensors as float arrays, quantised weights unpacked by numpy alone."""
    result = {}
    for name, value in tensors.items():
        module, _, leaf = name.rpartition(".")
        if leaf in ("scales", "biases"):
            continue
        if leaf == "weight" and module + ".scales" in tensors:
            group_size, bits = quantization_of(quantization, module)
            codes = np.array(value)
            scales = np.array(tensors[module + ".scales"].astype(mx.float32))
            biases = np.array(tensors[module + ".biases"].astype(mx.float32))
            columns = scales.shape[-1] * group_size
            q = unpack(codes.reshape(-1, codes.shape[-1]), bits, columns)
            weight = q.reshape(*scales.shape, group_size) * scales[..., None] + biases[..., None]
            result[name] = weight.reshape(*scales.shape[:-1], columns)
        else:
            result[name] = np.array(value.astype(mx.float32))
    return result


def run(model, prompt):
    """Prefill in one call, then DECODE_STEPS single tokens.

    Token 0 is the greedy choice after the prompt; decode_logits[i] is what feeding token i gives;
    token i + 1 is its greedy choice.
    """
    cache = make_prompt_cache(model)
    prefill = model(mx.array(prompt)[None], cache=cache)[0]
    mx.eval(prefill)
    logits = prefill[-1]
    tokens, decode = [], []
    for _ in range(DECODE_STEPS):
        tokens.append(int(mx.argmax(logits).item()))
        logits = model(mx.array([[tokens[-1]]]), cache=cache)[0, -1]
        mx.eval(logits)
        decode.append(np.array(logits))
    return np.array(prefill), tokens, np.stack(decode)


def make(name, spec, out):
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    directory = out / name
    config = make_config(spec)
    tensors = store(directory, spec, config, make_weights(config, rng))
    prompt = rng.integers(2, config["vocab_size"], PROMPT_TOKENS).tolist()
    make_logits(name, directory, spec.quantization, tensors, prompt,
                lambda weights, groups: Decoder(config, weights, groups))


def window_logits(int8_decoder, prompt):
    """The last logits of windows of the prompt, each a sequence of its own: a code that hangs by a
    rounding error spoils one window, not all rows after it."""
    starts = range(0, PROMPT_TOKENS - WINDOW_TOKENS + 1, WINDOW_STRIDE)
    rows = [int8_decoder.logits(np.array(prompt[start:start + WINDOW_TOKENS]))[-1]
            for start in starts]
    return np.stack(rows).astype(np.float32)


def make_logits(name, directory, quantization, tensors, prompt, decoder):
    """Writes golden.safetensors beside a stored checkpoint. `decoder` makes the numpy decoder from
    float weights and group sizes. Returns the bytes of the directory."""
    model, _ = load_model(directory)
    model.set_dtype(mx.float32)  # bf16 and f16 to f32 is exact; packed codes are untouched
    prefill, tokens, decode = run(model, prompt)
    golden = {
        "prompt": mx.array(prompt, mx.int32),
        "prefill_logits": mx.array(prefill),
        "decode_tokens": mx.array(tokens, mx.int32),
        "decode_logits": mx.array(decode),
    }
    weights = dequantised(tensors, quantization)
    sequence = np.array(prompt + tokens)
    float_decoder = decoder(weights, {})
    unrounded = float_decoder.logits(sequence)
    worst = np.abs(unrounded - np.concatenate([prefill, decode])).max()
    note = f"numpy differs by {worst:.1e}"
    if worst > 2e-4:
        raise SystemExit(f"{name}: numpy and mlx-lm differ by {worst}")
    margin = float_decoder.margin
    if quantization:
        modules = [n.removesuffix(".scales") for n in tensors if n.endswith(".scales")]
        group_sizes = {m: quantization_of(quantization, m)[0] for m in modules}
        int8_decoder = decoder(weights, group_sizes)
        rounded = int8_decoder.logits(sequence).astype(np.float32)
        margin = min(margin, int8_decoder.margin)
        golden["int8_prefill_logits"] = mx.array(rounded[:PROMPT_TOKENS])
        golden["int8_decode_logits"] = mx.array(rounded[PROMPT_TOKENS:])
        golden["int8_window_logits"] = mx.array(window_logits(int8_decoder, prompt))
        error = rounded - unrounded
        note += f", int8 activations by {np.abs(error).max():.3f} (rms {error.std():.4f})"
    if np.isfinite(margin):
        note += f", router margin {margin:.1e}"
        if margin < MIN_ROUTER_MARGIN:
            raise SystemExit(f"{name}: routing is decided by {margin}; take another seed")
    metadata = {"seed": str(zlib.crc32(name.encode()))}
    mx.save_safetensors(str(directory / "golden.safetensors"), golden, metadata)

    spread = float(prefill.std(axis=1).mean())
    entropy = prefill - np.log(np.exp(prefill).sum(axis=1, keepdims=True))
    entropy = float(-(np.exp(entropy) * entropy).sum(axis=1).mean())
    size = sum(f.stat().st_size for f in directory.iterdir())
    print(f"{name:24} logits std {spread:.2f}, entropy {entropy:.2f} nat, "
          f"{len(set(tokens))} different tokens, {size / 1e3:.0f} kB, {note}")
    if not 1 <= spread <= 4:
        raise SystemExit(f"{name}: logits have a standard deviation of {spread}")


def run_specs(description, specs, make_one):
    """The command line of a script of checkpoints: makes those that are named, or all."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=pathlib.Path,
                        default=pathlib.Path(__file__).resolve().parent.parent / "tests/golden")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these checkpoints")
    args = parser.parse_args()
    mx.set_default_device(mx.cpu)
    unknown = sorted(set(args.names) - set(specs))
    if unknown:
        parser.error(f"no checkpoint called {', '.join(unknown)}; there are {', '.join(specs)}")
    names = args.names or specs
    for name in names:
        make_one(name, specs[name], args.out)
    total = sum(file.stat().st_size for name in names for file in (args.out / name).iterdir())
    print(f"{total / 1e6:.2f} MB")


if __name__ == "__main__":
    run_specs(__doc__.splitlines()[0], SPECS, make)
