"""A decoder in plain numpy, for make_golden.py and make_golden_moe.py: a second opinion on mlx-lm's
logits. Dense and Mixture-of-Experts layers, full attention and Gated DeltaNet; which part a layer
has, its tensors say.

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
    head_dim = int(head_dim * rope.get("partial_rotary_factor", 1.0))
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


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def silu(x):
    return x * sigmoid(x)


def round_to_int8(x, group_size):
    """x as the quantised kernels see it: int8 codes times one scale for each token and group."""
    groups = x.astype(np.float32).reshape(x.shape[0], -1, group_size)
    peak = np.abs(groups).max(axis=2, keepdims=True)
    inverse = np.divide(np.float32(127), peak, out=np.zeros_like(peak), where=peak > 0)
    codes = np.rint(groups * inverse)
    return (codes.astype(np.float64) * (peak * np.float32(1 / 127))).reshape(x.shape)


class Decoder:
    """`weights`: float arrays by tensor name. `group_sizes`: quantised module -> group size; empty
    computes without rounding activations. After logits(), `margin` is the smallest gap between the
    router logits of the last expert taken and the first one left out."""

    def __init__(self, config, weights, group_sizes, prefix="model.", head="lm_head"):
        self.config = config
        self.prefix = prefix
        self.head = head
        self.margin = np.inf
        self.weights = {name: np.asarray(w, np.float64) for name, w in weights.items()}
        self.group_sizes = group_sizes

    def linear(self, module, x):
        if module in self.group_sizes:
            x = round_to_int8(x, self.group_sizes[module])
        y = x @ self.weights[module + ".weight"].T
        return y + self.weights.get(module + ".bias", 0.0)

    def expert_linear(self, module, expert, x):
        if module in self.group_sizes:
            x = round_to_int8(x, self.group_sizes[module])
        return x @ self.weights[module + ".weight"][expert].T

    def norm(self, module, x):
        rms = np.sqrt((x * x).mean(axis=-1, keepdims=True) + self.config["rms_norm_eps"])
        return x / rms * self.weights[module + ".weight"]

    def attention(self, prefix, x):
        config = self.config
        heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
        head_dim = config.get("head_dim", config["hidden_size"] // heads)
        tokens = x.shape[0]
        q = self.linear(prefix + "q_proj", x).reshape(tokens, heads, -1)
        q, gate = q[..., :head_dim], q[..., head_dim:]  # no gate: empty
        k = self.linear(prefix + "k_proj", x).reshape(tokens, kv_heads, head_dim)
        v = self.linear(prefix + "v_proj", x).reshape(tokens, kv_heads, head_dim)
        if prefix + "q_norm.weight" in self.weights:
            q, k = self.norm(prefix + "q_norm", q), self.norm(prefix + "k_norm", k)
        inverse, magnitude = inverse_frequencies(config, head_dim)
        rotated = 2 * len(inverse)
        angle = np.arange(tokens)[:, None, None] * inverse  # [tokens, 1, rotated / 2]
        cos, sin = np.cos(angle) * magnitude, np.sin(angle) * magnitude

        def rotate(t):
            a, b = np.split(t[..., :rotated], 2, axis=-1)
            return np.concatenate([a * cos - b * sin, b * cos + a * sin, t[..., rotated:]], axis=-1)

        q, k = rotate(q), rotate(k)
        k, v = (np.repeat(t, heads // kv_heads, axis=1) for t in (k, v))
        scores = np.einsum("ihd,jhd->hij", q, k) / math.sqrt(head_dim)
        scores = np.where(np.tril(np.ones((tokens, tokens), bool)), scores, -np.inf)
        p = np.exp(scores - scores.max(axis=-1, keepdims=True))
        p /= p.sum(axis=-1, keepdims=True)
        out = np.einsum("hij,jhd->ihd", p, v)
        if gate.size:
            out = out * sigmoid(gate)
        return self.linear(prefix + "o_proj", out.reshape(tokens, -1))

    def gated_delta(self, prefix, x):
        config = self.config
        k_heads, v_heads = config["linear_num_key_heads"], config["linear_num_value_heads"]
        k_dim, v_dim = config["linear_key_head_dim"], config["linear_value_head_dim"]
        tokens = x.shape[0]
        qkv = self.linear(prefix + "in_proj_qkv", x)
        z = self.linear(prefix + "in_proj_z", x).reshape(tokens, v_heads, v_dim)
        a, b = self.linear(prefix + "in_proj_a", x), self.linear(prefix + "in_proj_b", x)
        conv = self.weights[prefix + "conv1d.weight"][:, :, 0]  # [channels, taps]
        taps = conv.shape[1]
        padded = np.concatenate([np.zeros((taps - 1, qkv.shape[1])), qkv])
        qkv = silu(sum(padded[t:t + tokens] * conv[:, t] for t in range(taps)))
        q, k, v = np.split(qkv, [k_heads * k_dim, 2 * k_heads * k_dim], axis=1)
        q, k = (np.repeat(t.reshape(tokens, k_heads, k_dim), v_heads // k_heads, axis=1)
                for t in (q, k))
        v = v.reshape(tokens, v_heads, v_dim)
        q, k = (t / np.sqrt((t * t).sum(axis=-1, keepdims=True) + 1e-6) for t in (q, k))
        decay = np.exp(-np.exp(self.weights[prefix + "A_log"])
                       * np.log1p(np.exp(a + self.weights[prefix + "dt_bias"])))
        beta = sigmoid(b)
        state = np.zeros((v_heads, v_dim, k_dim))
        out = np.empty((tokens, v_heads, v_dim))
        for t in range(tokens):
            state *= decay[t][:, None, None]
            delta = beta[t][:, None] * (v[t] - np.einsum("hvk,hk->hv", state, k[t]))
            state += delta[:, :, None] * k[t][:, None, :]
            out[t] = np.einsum("hvk,hk->hv", state, q[t] / math.sqrt(k_dim))
        out = self.norm(prefix + "norm", out) * silu(z)
        return self.linear(prefix + "out_proj", out.reshape(tokens, -1))

    def mlp(self, prefix, x):
        gate, up = self.linear(prefix + "gate_proj", x), self.linear(prefix + "up_proj", x)
        return self.linear(prefix + "down_proj", silu(gate) * up)

    def mixture(self, prefix, x):
        config = self.config
        top_k = config["num_experts_per_tok"]
        logits = self.linear(prefix + "gate", x)
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        order = np.argsort(-logits, axis=1, kind="stable")
        sorted_logits = np.take_along_axis(logits, order, axis=1)
        self.margin = min(self.margin,
                          (sorted_logits[:, top_k - 1] - sorted_logits[:, top_k]).min())
        out = np.zeros_like(x)
        for row, ids in enumerate(order[:, :top_k]):
            weights = p[row, ids]
            if config.get("norm_topk_prob", True):
                weights = weights / weights.sum()
            h = x[row:row + 1]
            for expert, weight in zip(ids, weights):
                module = prefix + "switch_mlp."
                inner = (silu(self.expert_linear(module + "gate_proj", expert, h))
                         * self.expert_linear(module + "up_proj", expert, h))
                out[row] += weight * self.expert_linear(module + "down_proj", expert, inner)[0]
        if prefix + "shared_expert.up_proj.weight" in self.weights:
            gate = sigmoid(self.linear(prefix + "shared_expert_gate", x))
            out += gate * self.mlp(prefix + "shared_expert.", x)
        return out

    def logits(self, tokens):
        """[tokens, vocab]"""
        embedding = self.prefix + "embed_tokens"
        x = self.weights[embedding + ".weight"][tokens]
        for index in range(self.config["num_hidden_layers"]):
            layer = f"{self.prefix}layers.{index}."
            h = self.norm(layer + "input_layernorm", x)
            if layer + "self_attn.q_proj.weight" in self.weights:
                x = x + self.attention(layer + "self_attn.", h)
            else:
                x = x + self.gated_delta(layer + "linear_attn.", h)
            h = self.norm(layer + "post_attention_layernorm", x)
            experts = layer + "mlp.gate.weight" in self.weights
            x = x + (self.mixture if experts else self.mlp)(layer + "mlp.", h)
        x = self.norm(self.prefix + "norm", x)
        return self.linear(embedding if self.config["tie_word_embeddings"] else self.head, x)
