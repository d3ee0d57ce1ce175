#!/usr/bin/env python3
"""Builds the tiny random Mixture-of-Experts checkpoints of tests/golden/.

As make_golden.py, for qwen3_moe and qwen3_5_moe. Checkpoints in MLX's layout get their golden logits
here, from mlx-lm. Those in the raw Hugging Face layout (*_hf) hold the weights of an MLX twin under
the other names, bit for bit the same model; make_golden_hf.py adds transformers' logits to them.

usage: make_golden_moe.py [--out tests/golden] [NAME ...]
"""
import dataclasses
import json
import pathlib
import zlib

import mlx.core as mx
import numpy as np

from golden_forward import Decoder
from make_golden import LOGIT_STD, PROMPT_TOKENS, Spec, affine, make_logits, run_specs, store

BASE = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 256,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-6,
    "hidden_act": "silu",
    "attention_bias": False,
    "tie_word_embeddings": False,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
QWEN3_MOE = {
    "model_type": "qwen3_moe",
    "architectures": ["Qwen3MoeForCausalLM"],
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "rope_theta": 1e6,
    "norm_topk_prob": True,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
}
QWEN3_5_MOE = {
    "model_type": "qwen3_5_moe_text",
    "full_attention_interval": 4,
    "layer_types": ["linear_attention"] * 3 + ["full_attention"],
    "attn_output_gate": True,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 32,
    "linear_value_head_dim": 16,
    "linear_conv_kernel_dim": 4,
    "mamba_ssm_dtype": "float32",
    "shared_expert_intermediate_size": 32,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e7, "partial_rotary_factor": 0.25,
                        "mrope_section": [2, 1, 1], "mrope_interleaved": True},
}
# Quantised groups need wider rows.
WIDE = {"hidden_size": 64, "moe_intermediate_size": 32, "linear_value_head_dim": 32}
ROUTER = {"group_size": 64, "bits": 8}


def routers(quantization, prefix, layers, *names):
    modules = {f"{prefix}layers.{i}.mlp.{name}": ROUTER for i in range(layers) for name in names}
    return {**quantization, **modules}


@dataclasses.dataclass
class MoeSpec(Spec):
    """`nested`: config fields below text_config. `raw`: Hugging Face's names and conventions.
    `seed`: another checkpoint's name, to have its weights."""
    nested: bool = False
    raw: bool = False
    seed: str = ""


SPECS = {
    "qwen3_moe_bf16": MoeSpec(
        QWEN3_MOE, config={"num_experts": 16, "num_experts_per_tok": 4, "decoder_sparse_step": 1,
                           "mlp_only_layers": [1], "norm_topk_prob": False}),
    "qwen3_moe_bf16_hf": MoeSpec(
        QWEN3_MOE, config={"num_experts": 16, "num_experts_per_tok": 4, "decoder_sparse_step": 1,
                           "mlp_only_layers": [1], "norm_topk_prob": False},
        raw=True, seed="qwen3_moe_bf16"),
    "qwen3_moe_q4_g64": MoeSpec(
        QWEN3_MOE, config={"hidden_size": 64, "moe_intermediate_size": 64,
                           "decoder_sparse_step": 2, "num_hidden_layers": 2},
        quantization=routers(affine(4, 64), "model.", 2, "gate")),
    "qwen3_5_moe_bf16": MoeSpec(QWEN3_5_MOE, nested=True),
    "qwen3_5_moe_bf16_hf": MoeSpec(QWEN3_5_MOE, nested=True, raw=True, seed="qwen3_5_moe_bf16"),
    "qwen3_5_moe_q4_g32": MoeSpec(
        QWEN3_5_MOE, config=WIDE,
        quantization=routers(affine(4, 32), "language_model.model.", 4, "gate",
                             "shared_expert_gate")),
}


def make_config(spec):
    text = {**BASE, **spec.family, **spec.config, "torch_dtype": spec.dtype}
    if spec.family is QWEN3_MOE:
        config = text
    elif spec.nested:
        config = {"model_type": "qwen3_5_moe",
                  "architectures": ["Qwen3_5MoeForConditionalGeneration"],
                  "tie_word_embeddings": False, "text_config": text}
    else:
        config = {**text, "model_type": "qwen3_5_moe"}
    if spec.quantization:
        config["quantization"] = spec.quantization
        config["quantization_config"] = spec.quantization
    return config, text


def make_weights(config, rng):
    """Float32 weights by name below the prefix, as MLX has them. Norm gains are multiples of 1/128,
    so that gain - 1 is exact in bf16 too."""
    hidden, inner = config["hidden_size"], config["moe_intermediate_size"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim, experts = config["head_dim"], config["num_experts"]
    hybrid = "linear_num_key_heads" in config
    weights = {}

    def linear(name, *shape, gain=1.0):
        weights[name + ".weight"] = rng.standard_normal(shape) * gain / np.sqrt(shape[-1])

    def norm(name, size):
        weights[name + ".weight"] = rng.integers(64, 192, size) / 128

    def mlp(prefix, size):
        linear(prefix + "gate_proj", size, hidden)
        linear(prefix + "up_proj", size, hidden)
        linear(prefix + "down_proj", hidden, size, gain=2.0)

    def attention(prefix):
        linear(prefix + "q_proj", heads * head_dim * (2 if hybrid else 1), hidden, gain=1.4)
        linear(prefix + "k_proj", kv_heads * head_dim, hidden, gain=1.4)
        linear(prefix + "v_proj", kv_heads * head_dim, hidden)
        linear(prefix + "o_proj", hidden, heads * head_dim)
        norm(prefix + "q_norm", head_dim)
        norm(prefix + "k_norm", head_dim)

    def gated_delta(prefix):
        k_size = config["linear_num_key_heads"] * config["linear_key_head_dim"]
        v_heads, v_dim = config["linear_num_value_heads"], config["linear_value_head_dim"]
        channels, taps = 2 * k_size + v_heads * v_dim, config["linear_conv_kernel_dim"]
        linear(prefix + "in_proj_qkv", channels, hidden)
        linear(prefix + "in_proj_z", v_heads * v_dim, hidden)
        linear(prefix + "in_proj_a", v_heads, hidden)
        linear(prefix + "in_proj_b", v_heads, hidden)
        linear(prefix + "out_proj", hidden, v_heads * v_dim)
        weights[prefix + "conv1d.weight"] = rng.standard_normal((channels, taps, 1)) * 0.6
        weights[prefix + "A_log"] = rng.uniform(-4, 1, v_heads)
        weights[prefix + "dt_bias"] = rng.standard_normal(v_heads)
        norm(prefix + "norm", v_dim)

    linear("embed_tokens", config["vocab_size"], hidden, gain=np.sqrt(hidden))
    for index in range(config["num_hidden_layers"]):
        layer = f"layers.{index}."
        if hybrid and config["layer_types"][index] == "linear_attention":
            gated_delta(layer + "linear_attn.")
        else:
            attention(layer + "self_attn.")
        norm(layer + "input_layernorm", hidden)
        norm(layer + "post_attention_layernorm", hidden)
        sparse = (index not in config.get("mlp_only_layers", [])
                  and (index + 1) % config.get("decoder_sparse_step", 1) == 0)
        if not sparse:
            mlp(layer + "mlp.", config["intermediate_size"])
            continue
        linear(layer + "mlp.gate", experts, hidden, gain=2.0)
        linear(layer + "mlp.switch_mlp.gate_proj", experts, inner, hidden)
        linear(layer + "mlp.switch_mlp.up_proj", experts, inner, hidden)
        linear(layer + "mlp.switch_mlp.down_proj", experts, hidden, inner, gain=2.0)
        if hybrid:
            mlp(layer + "mlp.shared_expert.", config["shared_expert_intermediate_size"])
            linear(layer + "mlp.shared_expert_gate", 1, hidden)
    norm("norm", hidden)
    linear("lm_head", config["vocab_size"], hidden, gain=LOGIT_STD)
    return {name: mx.array(value.astype(np.float32)) for name, value in weights.items()}


def mlx_names(weights, hybrid):
    outer = "language_model." if hybrid else ""
    return {outer + (name if name.startswith("lm_head") else "model." + name): value
            for name, value in weights.items()}


def raw_names(weights, hybrid):
    """Hugging Face's names. For qwen3_5_moe also its conventions: experts fused, gains minus one,
    the channel axis of the convolution in the middle; and tensors of parts that are not served."""
    raw = {}
    for name, value in weights.items():
        module, _, matrix = name.removesuffix(".weight").rpartition(".")
        parent = ("model.language_model." if hybrid else "model.") + module + "."
        if name.startswith("lm_head"):
            raw[name] = value
        elif module.endswith("switch_mlp"):
            parent = parent.replace("switch_mlp", "experts")
            if not hybrid:
                for expert in range(value.shape[0]):
                    raw[f"{parent}{expert}.{matrix}.weight"] = value[expert]
            elif matrix == "up_proj":
                gate = weights[f"{module}.gate_proj.weight"]
                raw[parent + "gate_up_proj"] = mx.concatenate([gate, value], axis=1)
            elif matrix == "down_proj":
                raw[parent + "down_proj"] = value
        else:
            if hybrid and name.endswith("norm.weight") and "linear_attn" not in name:
                value = value - 1
            if name.endswith("conv1d.weight") and hybrid:
                value = mx.transpose(value, (0, 2, 1))
            raw[("model.language_model." if hybrid else "model.") + name] = value
    if hybrid:
        raw["model.visual.patch_embed.proj.weight"] = mx.ones((4, 3))
        raw["mtp.norm.weight"] = mx.zeros((weights["norm.weight"].shape[0],))
    return raw


def make(name, spec, out):
    seed = spec.seed or name
    rng = np.random.default_rng(zlib.crc32(seed.encode()))
    directory = out / name
    config, text = make_config(spec)
    hybrid = spec.family is QWEN3_5_MOE
    weights = make_weights(text, rng)
    prompt = rng.integers(2, text["vocab_size"], PROMPT_TOKENS).tolist()
    named = (raw_names if spec.raw else mlx_names)(weights, hybrid)
    tensors = store(directory, spec, config, named)
    if spec.raw:
        (directory / "prompt.json").write_text(json.dumps(prompt) + "\n", encoding="utf-8")
        print(f"{name:24} {sum(t.nbytes for t in tensors.values()) / 1e3:.0f} kB, "
              "logits: make_golden_hf.py")
        return
    outer = "language_model." if hybrid else ""
    make_logits(name, directory, spec.quantization, tensors, prompt,
                lambda weights, groups: Decoder(text, weights, groups, outer + "model.",
                                                outer + "lm_head"))


if __name__ == "__main__":
    run_specs(__doc__.splitlines()[0], SPECS, make)
