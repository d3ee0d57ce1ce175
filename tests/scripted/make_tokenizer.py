#!/usr/bin/env python3
"""Writes tokenizer.json: byte-level BPE as Qwen3 has it, with Qwen3's added tokens and few merges.

    make_tokenizer.py TEXT ...    merges are learnt from these files
"""
import json
import pathlib
import sys

from tokenizers import Tokenizer, Regex, decoders, models, pre_tokenizers, trainers

WORDS = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>",
           "<|object_ref_end|>", "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>",
           "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"]
PLAIN = ["<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>",
         "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>",
         "<think>", "</think>"]
VOCABULARY = 256 + 1000

tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
    pre_tokenizers.Split(Regex(WORDS), "isolated"),
    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
tokenizer.decoder = decoders.ByteLevel()
tokenizer.train(sys.argv[1:], trainers.BpeTrainer(
    vocab_size=VOCABULARY, show_progress=False,
    initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
root = json.loads(tokenizer.to_str())
root["added_tokens"] = [
    {"id": VOCABULARY + i, "content": text, "single_word": False, "lstrip": False, "rstrip": False,
     "normalized": False, "special": text in SPECIAL}
    for i, text in enumerate(SPECIAL + PLAIN)]
out = pathlib.Path(__file__).with_name("tokenizer.json")
out.write_text(json.dumps(root, ensure_ascii=False, separators=(",", ":")) + "\n")
