#!/usr/bin/env python3
"""Golden logits of the raw Hugging Face checkpoints of tests/golden/, from transformers.

Reads DIR/*_hf as make_golden_moe.py wrote them and writes OUT/<name>/golden.safetensors. Computes in
float32 on the CPU. Needs torch, transformers 5 and safetensors, and nothing of this project.

usage: make_golden_hf.py DIR OUT
"""
import json
import pathlib
import sys

import torch
import transformers
from safetensors.torch import load_file, save_file

DECODE_STEPS = 8


def load(directory):
    """The text model, every one of its parameters taken from the file."""
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    if config["model_type"] == "qwen3_moe":
        model, info = transformers.AutoModelForCausalLM.from_pretrained(
            directory, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
        for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            if info[problem]:
                raise SystemExit(f"{directory.name}: {problem}: {info[problem]}")
        return model.eval()
    text = config["text_config"]
    model = transformers.Qwen3_5MoeForCausalLM(transformers.Qwen3_5MoeTextConfig(**text))
    model.set_attn_implementation("eager")
    tensors = load_file(directory / "model.safetensors")
    served = {name.replace("model.language_model.", "model."): tensor.float()
              for name, tensor in tensors.items()
              if not name.startswith(("model.visual.", "mtp."))}
    model.float().load_state_dict(served, strict=True)
    return model.eval()


@torch.no_grad()
def main():
    source, out = map(pathlib.Path, sys.argv[1:])
    torch.use_deterministic_algorithms(True)
    for directory in sorted(source.glob("*_hf")):
        model = load(directory)
        prompt = json.loads((directory / "prompt.json").read_text(encoding="utf-8"))
        step = model(torch.tensor([prompt]), use_cache=True)
        prefill = step.logits[0]
        logits, tokens, decode = prefill[-1], [], []
        for _ in range(DECODE_STEPS):
            tokens.append(int(logits.argmax()))
            step = model(torch.tensor([[tokens[-1]]]), past_key_values=step.past_key_values,
                         use_cache=True)
            logits = step.logits[0, -1]
            decode.append(logits)
        (out / directory.name).mkdir(parents=True, exist_ok=True)
        versions = {"torch": torch.__version__, "transformers": transformers.__version__}
        save_file({"prompt": torch.tensor(prompt, dtype=torch.int32),
                   "prefill_logits": prefill.contiguous(),
                   "decode_tokens": torch.tensor(tokens, dtype=torch.int32),
                   "decode_logits": torch.stack(decode)},
                  out / directory.name / "golden.safetensors", metadata=versions)
        print(directory.name, versions, f"logits std {prefill.std(dim=1).mean():.2f}, {tokens}")


if __name__ == "__main__":
    main()
