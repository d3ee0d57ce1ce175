"""A dense decoder in plain numpy, for make_golden.py: a second opinion on mlx-lm's logits.

It also computes what quantised checkpoints give when the inputs of each quantised linear layer are
rounded to int8 by token and group, as the engine does it (src/kernels/kernels.h). A difference to
those logits is a bug; a difference to the float logits may be the rounding. Everything else is
float64. Not fast, not general: whole sequence at once, no cache.
"""
import math

import numpy as np


def inverse_frequencies(config, head_dim):
    """Rotary frequencies and the factor on cos and sin, from the fields that checkpoints carry."""
    rope = dict(config.get("rope_parameters") or {})
    rope.update(config.get("rope_scaling") or {})
    theta = config.get("rope_theta") or rope["rope_theta"]
    inverse = theta ** (-np.arange(0, head_dim, 2) / head_dim)
    kind = rope.get("type") or rope.get("rope_type") or "default"
    if kind == "default":
        return inverse, 1.0
    factor = rope["factor"]
    if kind == "linear":
        return inverse / factor, 1.0
    original = rope["original_max_position_embeddings"]
    if kind == "llama3":
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        wavelength = 2 * math.pi / inverse
        smooth = np.clip((original / wavelength - low) / (high - low), 0, 1)
        return inverse * ((1 - smooth) / factor + smooth), 1.0
    if kind == "yarn":
        def bound(turns):
            return head_dim * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(theta))
        low = max(math.floor(bound(rope.get("beta_fast", 32))), 0)
        high = min(math.ceil(bound(rope.get("beta_slow", 1))), head_dim - 1)
        ramp = np.clip((np.arange(head_dim // 2) - low) / max(high - low, 0.001), 0, 1)
        return inverse * (1 - ramp) + inverse / factor * ramp, 0.1 * math.log(factor) + 1
    raise ValueError(f"rope type {kind}")


def round_to_int8(x, group_size):
    """x as the quantised kernels see it: int8 codes times one scale for each token and group."""
    groups = x.astype(np.float32).reshape(x.shape[0], -1, group_size)
    peak = np.abs(groups).max(axis=2, keepdims=True)
    inverse = np.divide(np.float32(127), peak, out=np.zeros_like(peak), where=peak > 0)
    codes = np.rint(groups * inverse)
    return (codes.astype(np.float64) * (peak * np.float32(1 / 127))).reshape(x.shape)


class Decoder:
    """`weights`: float arrays by tensor name. `group_sizes`: quantised module -> group size; empty
    computes without rounding activations."""

    def __init__(self, config, weights, group_sizes):
        self.config = config
        self.weights = {name: np.asarray(w, np.float64) for name, w in weights.items()}
        self.group_sizes = group_sizes

    def linear(self, module, x):
        if module in self.group_sizes:
            x = round_to_int8(x, self.group_sizes[module])
        y = x @ self.weights[module + ".weight"].T
        return y + self.weights.get(module + ".bias", 0.0)

    def norm(self, module, x):
        rms = np.sqrt((x * x).mean(axis=-1, keepdims=True) + self.config["rms_norm_eps"])
        return x / rms * self.weights[module + ".weight"]

    def attention(self, prefix, x):
        config = self.config
        heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
        head_dim = config.get("head_dim", config["hidden_size"] // heads)
        tokens = x.shape[0]
        q = self.linear(prefix + "q_proj", x).reshape(tokens, heads, head_dim)
        k = self.linear(prefix + "k_proj", x).reshape(tokens, kv_heads, head_dim)
        v = self.linear(prefix + "v_proj", x).reshape(tokens, kv_heads, head_dim)
        if prefix + "q_norm.weight" in self.weights:
            q, k = self.norm(prefix + "q_norm", q), self.norm(prefix + "k_norm", k)
        inverse, magnitude = inverse_frequencies(config, head_dim)
        angle = np.arange(tokens)[:, None, None] * inverse  # [tokens, 1, head_dim / 2]
        cos, sin = np.cos(angle) * magnitude, np.sin(angle) * magnitude

        def rotate(t):
            a, b = np.split(t, 2, axis=-1)
            return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

        q, k = rotate(q), rotate(k)
        k, v = (np.repeat(t, heads // kv_heads, axis=1) for t in (k, v))
        scores = np.einsum("ihd,jhd->hij", q, k) / math.sqrt(head_dim)
        scores = np.where(np.tril(np.ones((tokens, tokens), bool)), scores, -np.inf)
        p = np.exp(scores - scores.max(axis=-1, keepdims=True))
        p /= p.sum(axis=-1, keepdims=True)
        return self.linear(prefix + "o_proj", np.einsum("hij,jhd->ihd", p, v).reshape(tokens, -1))

    def logits(self, tokens):
        """[tokens, vocab]"""
        x = self.weights["model.embed_tokens.weight"][tokens]
        for index in range(self.config["num_hidden_layers"]):
            layer = f"model.layers.{index}."
            x = x + self.attention(layer + "self_attn.", self.norm(layer + "input_layernorm", x))
            h = self.norm(layer + "post_attention_layernorm", x)
            gate = self.linear(layer + "mlp.gate_proj", h)
            up = self.linear(layer + "mlp.up_proj", h)
            x = x + self.linear(layer + "mlp.down_proj", gate / (1 + np.exp(-gate)) * up)
        x = self.norm("model.norm", x)
        tied = self.config["tie_word_embeddings"]
        return self.linear("model.embed_tokens" if tied else "lm_head", x)
