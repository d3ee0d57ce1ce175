#!/usr/bin/env python3
"""Writes seed inputs for the fuzz targets: small valid files of each format, and a few odd ones.

A target gets the seeds of every format whose name its own name contains, so `safetensors_fuzz` gets
the safetensors files. Runs without packages.

usage: make_fuzz_seeds.py OUT_DIR TARGET ...
"""
import json
import pathlib
import struct
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
CHATML = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + "
          "message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
          "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")


def safetensors(tensors, metadata=None):
    """`tensors`: name -> (dtype, shape, bytes)."""
    header, data = {}, b""
    if metadata:
        header["__metadata__"] = metadata
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape,
                        "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def safetensors_seeds():
    yield safetensors({"a": ("F32", [2, 2], bytes(16))}, {"format": "mlx"})
    yield safetensors({"model.norm.weight": ("BF16", [4], bytes(8)),
                       "l.weight": ("U32", [2, 4], bytes(32)),
                       "l.scales": ("F16", [2, 1], bytes(4)),
                       "l.biases": ("F16", [2, 1], bytes(4))})
    yield safetensors({"scalar": ("I64", [], bytes(8)), "empty": ("U8", [0, 3], b"")})
    yield safetensors({})
    yield struct.pack("<Q", 2**63) + b"{}"
    yield json.dumps({"metadata": {"total_size": 8}, "weight_map": {
        "a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}).encode()


def gguf_string(text):
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def gguf_value(value):
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + gguf_string(value)
    packed = [gguf_value(item) for item in value]
    kind = packed[0][:4] if packed else struct.pack("<I", 8)
    return struct.pack("<I", 9) + kind + struct.pack("<Q", len(packed)) + b"".join(
        item[4:] for item in packed)


def gguf(fields, tensors, version=3):
    """`tensors`: (name, dimensions with the row first, type number, bytes)."""
    out = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(fields))
    for key, value in fields.items():
        out += gguf_string(key) + gguf_value(value)
    data = b""
    for name, dimensions, kind, raw in tensors:
        out += gguf_string(name) + struct.pack("<I", len(dimensions))
        out += struct.pack(f"<{len(dimensions)}Q", *dimensions)
        out += struct.pack("<IQ", kind, len(data))
        data += raw + bytes(-len(raw) % 32)
    return out + bytes(-len(out) % 32) + data


def gguf_seeds():
    llama = {
        "general.architecture": "llama", "general.alignment": 32, "llama.block_count": 1,
        "llama.context_length": 64, "llama.embedding_length": 32, "llama.feed_forward_length": 32,
        "llama.attention.head_count": 2, "llama.attention.head_count_kv": 1,
        "llama.rope.freq_base": 10000.0, "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": ["<|endoftext|>", "a", "b", "ab"],
        "tokenizer.ggml.token_type": [3, 1, 1, 1], "tokenizer.ggml.merges": ["a b"],
        "tokenizer.ggml.add_bos_token": False, "tokenizer.ggml.eos_token_id": 0,
        "tokenizer.chat_template": CHATML,
    }
    # (name, type number, bytes of one block, elements of one block)
    kinds = [("f32", 0, 4, 1), ("f16", 1, 2, 1), ("q4_0", 2, 18, 32), ("q4_1", 3, 20, 32),
             ("q8_0", 8, 34, 32), ("q4_k", 12, 144, 256), ("q6_k", 14, 210, 256),
             ("bf16", 30, 2, 1)]
    for version in (2, 3):
        yield gguf(llama, [(f"blk.0.{name}.weight", [max(32, block), 2], kind,
                            bytes(size * (max(32, block) // block) * 2))
                           for name, kind, size, block in kinds], version)
    yield gguf({}, [])
    yield b"GGUF" + struct.pack("<IQQ", 3, 2**60, 2**60)


def config_seeds():
    for path in sorted((ROOT / "tests/golden").glob("*/config.json")):
        yield path.read_bytes()


def sidecar_manifest_seeds():
    affine = {"encoding": "affine", "bits": 4, "group_size": 32, "dtype": "BF16"}
    plain = {"encoding": "float", "dtype": "F16"}
    # A strip of 16 outputs x 32 inputs is 320 bytes at 4 bits, 1024 as float 16.
    for encoding, strip_bytes in ((affine, 320), (plain, 1024)):
        parts = [{"name": name, "offset_bytes": 4096 * i, "size_bytes": 2 * strip_bytes,
                  "out_features": 32, "in_features": 32, **encoding}
                 for i, name in enumerate(("gate", "up", "down"))]
        yield (json.dumps({
            "format_version": 1, "model_type": "qwen3_5_moe", "source_fingerprint": "0" * 32,
            "layers": 4, "experts": 2,
            "record": {"size_bytes": 16384, "layout": "strips-16", "parts": parts},
            "moe_layers": [{"layer": layer, "file": f"layer_{layer:04}.bin",
                            "xxh3_128": ["0" * 32, "f" * 32]} for layer in (1, 3)],
            "manifest_xxh3_128": "0" * 32}, indent=1) + "\n").encode()


def tokenizer_seeds():
    byte_level = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": 4, "content": "<|end|>", "single_word": False, "lstrip": False,
                          "rstrip": False, "normalized": False, "special": True}],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": "\\p{N}{1,3}| ?\\p{L}+|\\s+"},
             "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False,
             "use_regex": False}]},
        "post_processor": None, "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "byte_fallback": False,
                  "ignore_merges": False, "vocab": {"a": 0, "b": 1, "ab": 2, "\u0120": 3},
                  "merges": [["a", "b"]]},
    }
    sentencepiece = {
        "version": "1.0", "added_tokens": [],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "\u2581"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]},
        "pre_tokenizer": None, "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True,
                  "vocab": {"<unk>": 0, "<0x0A>": 1, "\u2581": 2, "a": 3, "\u2581a": 4},
                  "merges": ["\u2581 a"]},
    }
    for value in (byte_level, sentencepiece):
        yield json.dumps(value).encode()


def template_seeds():
    yield CHATML.encode()
    yield (b"{%- macro line(x, y=1) -%}{{ x | trim }}:{{ y }}{%- endmacro -%}"
           b"{% set ns = namespace(n=0) %}{% for m in messages if m.role != 'system' %}"
           b"{% set ns.n = ns.n + 1 %}{{ line(m.content, loop.index0) }}{% else %}none{% endfor %}")
    yield b"{{ tools | tojson(indent=4) }}{{ raise_exception('no ' ~ messages[0]['role']) }}"
    yield b"{% if x is defined and x is not none %}{{ x[1:-1:2] }}{% elif not y %}{# c #}{% endif %}"
    yield b"{{ strftime_now('%d %b %Y') }}{{ (1 + 2) * 3 // 4 % 5 ** 2 }}{{ 'a' in 'abc' }}"
    yield b"{" * 200 + b"{{ [[[[1]]]] }}"


MESSAGES = {
    "max_tokens": 9, "stream": True, "system": [{"type": "text", "text": "s"}],
    "messages": [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "t", "signature": "s"}, {"type": "text", "text": "a"},
            {"type": "tool_use", "id": "t1", "name": "f", "input": {"x": 1}}]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t1", "is_error": True,
             "content": [{"type": "text", "text": "r"}]}, {"type": "text", "text": "u"}]}],
    "tools": [{"name": "f", "input_schema": {"type": "object"}}],
    "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 1024}, "stop_sequences": ["x"]}
RESPONSES = {
    "stream": True, "instructions": "s", "max_output_tokens": 9, "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "hello"}]},
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "t"}]},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "r"}],
    "tools": [{"type": "function", "name": "f", "parameters": {}}, {"type": "web_search"}],
    "tool_choice": {"type": "function", "name": "f"}, "reasoning": {"effort": "low"},
    "text": {"format": {"type": "json_schema", "name": "n", "schema": {}}}}


def request_seeds():
    chat = {"model": "m", "messages": [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "hello \u00e9 \ud83d\ude42"}]},
        {"role": "assistant", "content": None}], "stream": True,
        "stream_options": {"include_usage": True}, "temperature": 0.5, "top_p": 0.9, "seed": 1,
        "max_completion_tokens": 16, "stop": ["\n\n", "x"], "logprobs": True, "top_logprobs": 3,
        "logit_bias": {"5": -100}, "n": 1, "presence_penalty": 0.1, "frequency_penalty": -0.1}
    yield json.dumps(chat).encode()
    yield json.dumps({
        "messages": [{"role": "user", "content": "u"}, {"role": "assistant", "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}}]},
            {"role": "tool", "tool_call_id": "c", "content": "r"}],
        "tools": [{"type": "function", "function": {"name": "f", "strict": True, "parameters": {
            "type": "object", "properties": {"x": {"type": "integer"}}}}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}}, "thinking_budget": 9,
        "parallel_tool_calls": False, "response_format": {"type": "json_schema", "json_schema": {
            "name": "n", "schema": {"type": "object"}}}}).encode()
    yield json.dumps({"model": "m", "prompt": "once", "max_tokens": 4, "echo": False,
                      "stop": "."}).encode()
    yield json.dumps({"model": "m", "prompt": [1, 2, 3], "logprobs": 2}).encode()
    yield b"[" * 500
    yield b'{"model":"m","messages":[{"role":"user","content":"\xff\\ud800"}]}'
    yield json.dumps(MESSAGES).encode()
    yield json.dumps(RESPONSES).encode()
    yield b'{"model":"m","prompt":"x","tokens":[1,2],"return_token_strs":true}'


def output_seeds():
    """Two bytes that choose formats, then output; bytes from 128 on are the target's fragments."""
    # By the numbers of chat::CallFormat.
    answers = {
        1: b"Hm.</think>\n\n<tool_call>\n<function=run>\n<parameter=cmd>\nls < a\n</parameter>\n"
           b"<parameter=n>\n{\"a\": 1}\n</parameter>\n</function>\n</tool_call>",
        2: b"Yes.\n<tool_call>\n{\"name\": \"run\", \"arguments\": {\"cmd\": \"ls\"}}\n</tool_call>",
        3: b"<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary "
           b"to=functions.run <|constrain|>json<|message|>{\"cmd\":\"ls\"}<|call|>",
        4: "<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"run\">\n<｜DSML｜parameter name=\"cmd\" "
           "string=\"true\">ls</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>".encode(),
        7: b"<|channel>thought\nHm.<channel|><|tool_call>call:run{cmd:<|\"|>ls<|\"|>,n:1}<tool_call|>",
    }
    for number, answer in answers.items():
        for special_tokens in (0, 64):
            yield bytes([number + 8 * (number % 5), special_tokens]) + answer


def schema_seeds():
    object_of = {"type": "object", "additionalProperties": False}
    schemas = [
        {**object_of, "properties": {"a": {"type": "string", "maxLength": 5},
                                     "b": {"type": "integer", "minimum": 3}}, "required": ["a"]},
        {"type": "array", "items": {"enum": ["x", 1, None]}, "minItems": 1, "maxItems": 3},
        {"anyOf": [{"type": "string", "format": "date"}, {"const": {"k": [1]}}]},
        {"$ref": "#/$defs/n", "$defs": {"n": {**object_of, "properties": {
            "next": {"anyOf": [{"$ref": "#/$defs/n"}, {"type": "null"}]}}}}},
        {"type": "string", "pattern": "^[a-z]{2}[0-9]+$"},
        {"type": "object", "patternProperties": {"^x-": {"type": "number"}},
         "propertyNames": {"maxLength": 4}, "minProperties": 1},
        {"if": {"required": ["a"]}, "then": {"required": ["b"]}, "not": {"type": "string"}},
        {"allOf": [{"minimum": 2}, {"multipleOf": 5}], "type": "number"},
        {"oneOf": [{"type": "boolean"}, {"type": "array", "prefixItems": [True, False]}]},
        {"type": ["object", "null"], "dependentRequired": {"a": ["b"]}, "uniqueItems": True},
    ]
    for index, schema in enumerate(schemas):
        for tools in (1, 4 * index):
            yield bytes([index, tools]) + json.dumps(schema).encode()


def http_seeds():
    body = b'{"model":"m","messages":[]}'
    yield b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n"
    yield (b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
           b"Content-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body)
    yield (b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
           b"5\r\n{\"a\":\r\n2\r\n1}\r\n0\r\n\r\nGET /health HTTP/1.0\r\n\r\n")
    yield b"OPTIONS * HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    for path, asked in ((b"messages", MESSAGES), (b"responses", RESPONSES)):
        # How the scripted model writes calls is not known, so it cannot be made to.
        body = json.dumps({k: v for k, v in asked.items() if k != "tool_choice"}).encode()
        # The first byte is how many are read at once.
        yield (b"\xffPOST /v1/" + path + b" HTTP/1.1\r\nHost: a\r\nContent-Length: "
               + str(len(body)).encode() + b"\r\n\r\n" + body)


FORMATS = {
    "safetensors": safetensors_seeds,
    "gguf": gguf_seeds,
    "config": config_seeds,
    "sidecar_manifest": sidecar_manifest_seeds,
    "tokenizer": tokenizer_seeds,
    "template": template_seeds,
    "jinja": template_seeds,
    "request": request_seeds,
    "json": request_seeds,
    "http": http_seeds,
    "output": output_seeds,
    "schema": schema_seeds,
}


def main():
    out = pathlib.Path(sys.argv[1])
    for target in sys.argv[2:]:
        directory = out / target
        directory.mkdir(parents=True, exist_ok=True)
        for name, seeds in FORMATS.items():
            if name in target:
                for index, data in enumerate(seeds()):
                    (directory / f"{name}-{index}").write_bytes(data)


if __name__ == "__main__":
    main()
