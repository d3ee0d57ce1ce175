"""Requests that no client means to send: none is answered with a fault of the server's own.

Each is a good request in which something is put out of order: a value anywhere in it, a member too
many or too few, or the text of its JSON. MACH_SEED=N repeats a run, MACH_HOSTILE=N sends as many.
"""
import copy
import json
import os
import random

import pytest

from scripted import Server, call, send

COUNT = int(os.environ.get("MACH_HOSTILE", 1000))
SEED = int(os.environ.get("MACH_SEED", 0)) or random.SystemRandom().randrange(1, 1 << 31)

SCHEMA = {"type": "object", "required": ["city"], "additionalProperties": False,
          "properties": {"city": {"type": "string", "minLength": 1, "pattern": "^[A-Z]"},
                         "days": {"type": ["integer", "null"], "minimum": 0, "maximum": 9},
                         "kind": {"enum": ["a", 1, None]},
                         "parts": {"type": "array", "items": {"$ref": "#/$defs/part"}, "maxItems": 2}},
          "$defs": {"part": {"anyOf": [{"const": 1}, {"type": "boolean"}]}}}
FUNCTION = {"name": "get_weather", "description": "Weather", "parameters": SCHEMA, "strict": True}
CHAT = {
    "model": "scripted", "max_tokens": 40, "temperature": 0.5, "top_p": 0.9, "top_k": 5,
    "min_p": 0.1, "presence_penalty": 0.5, "frequency_penalty": -0.5, "repetition_penalty": 1.1,
    "seed": 7, "n": 2, "stop": ["END", "."], "stop_token_ids": [5], "min_tokens": 1,
    "include_stop_str_in_output": True, "ignore_eos": False, "logit_bias": {"7": 1.5},
    "logprobs": True, "top_logprobs": 2, "stream": False, "stream_options": None,
    "tools": [{"type": "function", "function": FUNCTION}], "tool_choice": "auto",
    "parallel_tool_calls": True, "reasoning_effort": "low", "include_reasoning": True,
    "thinking_budget": 5, "chat_template_kwargs": {"enable_thinking": True}, "receipt": True,
    "response_format": {"type": "json_schema", "json_schema": {
        "name": "n", "schema": SCHEMA, "strict": True}},
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "What is the weather?"}]},
        {"role": "assistant", "content": None, "reasoning_content": "Hm.", "tool_calls": [
            {"id": "call_1", "type": "function",
             "function": {"name": "get_weather", "arguments": '{"city": "Bern"}'}}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "18 degrees"}]}
COMPLETION = {key: CHAT[key] for key in
              ("model", "max_tokens", "temperature", "seed", "n", "stop", "logit_bias", "min_tokens")
              } | {"prompt": ["Once", [1, 2, 3]], "logprobs": 2, "stream": True,
                   "stream_options": {"include_usage": True}}
MESSAGES = {
    "model": "scripted", "max_tokens": 40, "stream": False, "temperature": 0.5, "top_p": 0.5,
    "top_k": 3, "stop_sequences": ["END"], "system": [{"type": "text", "text": "Be brief."}],
    "tools": [{"name": "get_weather", "description": "Weather", "input_schema": SCHEMA,
               "strict": True}],
    "tool_choice": {"type": "auto", "disable_parallel_tool_use": False},
    "thinking": {"type": "enabled", "budget_tokens": 5, "display": "summarized"},
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}},
    "metadata": {"user_id": "u"}, "mcp_servers": [],
    "messages": [
        {"role": "user", "content": "What is the weather?"},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": "s"}, {"type": "text", "text": "So:"},
            {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Bern"}}]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "toolu_1", "is_error": True,
             "content": [{"type": "text", "text": "18 degrees"}]}, {"type": "text", "text": "Well?"}]}]}
RESPONSES = {
    "model": "scripted", "max_output_tokens": 40, "stream": False, "temperature": 0.5, "top_p": 0.5,
    "instructions": "Be brief.", "parallel_tool_calls": True, "tool_choice": "auto",
    "tools": [{"type": "function"} | FUNCTION, {"type": "web_search"}],
    "text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}},
    "reasoning": {"effort": "low", "summary": "auto"}, "metadata": {"a": "b"}, "user": "u",
    "include": ["reasoning.encrypted_content"], "store": False, "truncation": "auto",
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "What is the weather?"}]},
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "So:"}]},
        {"type": "function_call", "call_id": "call_1", "name": "get_weather",
         "arguments": '{"city": "Bern"}'},
        {"type": "function_call_output", "call_id": "call_1", "output": "18 degrees"}]}
GOOD = [
    ("/v1/chat/completions", CHAT), ("/v1/chat/completions", CHAT | {
        "stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}),
    ("/v1/chat/completions", CHAT | {"tool_choice": {
        "type": "function", "function": {"name": "get_weather"}}, "response_format": None}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 40,
                              "response_format": CHAT["response_format"]}),
    ("/v1/completions", COMPLETION), ("/v1/messages", MESSAGES),
    ("/v1/messages", MESSAGES | {"stream": True, "tool_choice": {"type": "any"}}),
    ("/v1/messages/count_tokens", MESSAGES), ("/v1/responses", RESPONSES),
    ("/v1/responses", RESPONSES | {"stream": True, "tool_choice": "required"}),
    ("/tokenize", CHAT | {"add_generation_prompt": False, "return_token_strs": True}),
    ("/tokenize", {"prompt": "Hello", "add_special_tokens": True, "return_token_strs": True}),
    ("/detokenize", {"tokens": [1, 2, 3], "model": "scripted"})]


def nested(depth, inner=None, key=None):
    for _ in range(depth):
        inner = {key: inner} if key else [inner]
    return inner


class Raw(str):
    """Stands in the JSON as it is."""


VALUES = [
    None, True, False, 0, 1, -1, 2, 1.5, -0.0, 1e-320, 1e308, -1e308, 2**31, -2**31, 2**53 + 1, 2**63,
    -2**63, 2**64, 10**40, Raw("1e999"), Raw("-1e999"), Raw("NaN"), Raw("01"), Raw("1E5"), Raw(""),
    "", " ", "0", "-1", "null", "\x00", "a\x00b", "\ud800", "\udc00x", "\U0001f680", "\u202e", "x" * 5000,
    "none", "auto", "required", "text", "system", "tool", "<|im_end|>", "<|im_start|>user", "<think>",
    "</think>", "<tool_call>", "</tool_call>", "{{ 1/0 }}", "{% for x in y %}", "%s%n", "../../x",
    [], {}, [None], [[]], [{}], [""], [0], {"": None}, {"\x00": "\x00"}, {"type": None}, {"type": ""},
    {"type": "function"}, {"type": "text", "text": "x"}, list(range(3000)), ["x"] * 200,
    {str(i): i for i in range(1000)}, nested(10), nested(55), nested(70), nested(10, key="a"),
    nested(55, key="properties"), Raw("[" * 3000 + "]" * 3000),
]
SCHEMAS = [
    True, False, {"$ref": "#"}, {"$ref": "#/$defs/part"}, {"$ref": "http://x.example/s"},
    {"$ref": 1}, {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
    {"type": "string", "pattern": "("}, {"type": "string", "pattern": "(a|b)*c{1,900}"},
    {"type": "string", "pattern": "\\p{L}+\\b(?=x)"}, {"type": "string", "pattern": "[z-a]"},
    {"type": "string", "minLength": 10**9}, {"type": "string", "minLength": 5, "maxLength": 2},
    {"type": "string", "format": "date-time"}, {"type": "string", "format": "\x00"},
    {"type": "integer", "multipleOf": 0}, {"type": "number", "multipleOf": 1e-9},
    {"type": "number", "minimum": 1e308, "maximum": 1e-308}, {"type": "integer", "minimum": 10**30},
    {"type": "number", "exclusiveMinimum": True}, {"type": "array", "minItems": 10**8},
    {"type": "array", "prefixItems": [], "items": False}, {"type": "array", "uniqueItems": True},
    {"type": []}, {"type": ["string", "string"]}, {"type": "none"}, {"enum": []}, {"enum": "a"},
    {"enum": [nested(30)]}, {"const": "\x00\ud800"}, {"anyOf": []}, {"oneOf": [{}, {}]},
    {"allOf": [{"type": "string"}, {"type": "integer"}]}, {"not": {}}, {"if": {}, "then": False},
    {"properties": []}, {"properties": {"a": 1}}, {"properties": {"": {}}, "required": ["", ""]},
    {"required": "city"}, {"required": ["nowhere"]}, {"additionalProperties": 5},
    {"patternProperties": {"(": {}}}, {"propertyNames": {"pattern": "^a"}}, {"minProperties": 9},
    {"dependentRequired": {"a": ["b"]}}, {"$schema": 7, "$id": "\x00"}, {"$anchor": "a"},
    {"properties": {f"p{i}": {"type": "string"} for i in range(300)}},
    {"enum": [f"value {i}" for i in range(2000)]}, nested(50, {"type": "string"}, "items"),
]


def places(value, at=()):
    """The paths of all values in it."""
    found = [at] if at else []
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        found += places(inner, at + (key,)) if isinstance(inner, (dict, list)) else [at + (key,)]
    return found


def mutate(rng, body):
    """Puts one value out of order; in which way."""
    # Each field as often as all that is in one.
    found = places(body)
    path = rng.choice(rng.choice([found, [path for path in found if len(path) == 1]]))
    *above, last = path
    holder = body
    for key in above:
        holder = holder[key]
    way = rng.choice(["value"] * 5 + ["schema", "delete", "move", "wrap", "twice", "number"])
    if way == "value":
        holder[last] = copy.deepcopy(rng.choice(VALUES))
    elif way == "schema":
        of = [p for p in found
              if p[-1] in ("schema", "parameters", "input_schema", "city", "items", "part")]
        if of:
            *above, last = rng.choice(of)
            holder = body
            for key in above:
                holder = holder[key]
        holder[last] = copy.deepcopy(rng.choice(SCHEMAS))
    elif way == "delete":
        del holder[last]
    elif way == "move":
        holder[last] = copy.deepcopy(value_at(body, rng.choice(found)))
    elif way == "wrap":
        holder[last] = rng.choice([[holder[last]], {"type": holder[last]}, str(holder[last])])
    elif way == "twice":
        if isinstance(holder, list):
            holder.extend(copy.deepcopy(holder) * rng.choice([1, 40]))
        else:
            holder[rng.choice(["", "\x00", "\x7f\r\n", "type", "content", "x" * 300])] = holder[last]
    else:
        holder[last] = rng.choice([-1, 1]) * rng.choice(
            [rng.random(), rng.randrange(1 << 70), 10.0 ** rng.randrange(-300, 300)])
    return f"{way} at {'.'.join(map(str, path))}"


def value_at(value, path):
    for key in path:
        value = value[key]
    return value


def write(value):
    """As json.dumps, with half characters escaped, and Raw as it is."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{write(of)}" for key, of in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(write, value)) + "]"
    return json.dumps(value)


def mangle(rng, text):
    """Puts the text of the JSON out of order."""
    at = rng.randrange(len(text))
    way = rng.randrange(7)
    if way == 0:
        return text[:at]
    if way == 1:
        return text[:at] + bytes([rng.randrange(256)]) + text[at + 1:]
    if way == 2:
        return text[:at] + rng.choice([b"\x00", b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\\u0000", b"\\ud83d",
                                       b"[" * 300, b'{"a":' * 300, b",", b'"', b"\xef\xbb\xbf"]) + text[at:]
    if way == 3:  # a member twice
        return b"{" + rng.choice([b'"messages":[]', b'"max_tokens":5', b'"model":null', b'"n":99',
                                  b'"tools":5', b'"prompt":""', b'"input":"x"', b'"stream":true']
                                 ) + b"," + text[1:]
    if way == 4:
        return text[:-1] + rng.choice([b',"messages":"x"}', b',"model":""}', b',"n":1,"n":2}',
                                       b',"tools":null}', b',"stream":7}', b'}}', b"} x"])
    if way == 5:
        return text + text
    return rng.choice([b"", b"\xef\xbb\xbf", b" " * 1000]) + text + rng.choice([b"", b"\n", b"\x00"])


def requests(seed, count):
    rng = random.Random(seed)
    for _ in range(count):
        path, good = rng.choice(GOOD)
        body, how = json.loads(json.dumps(good)), []  # deepcopy would keep what they share
        for _ in range(rng.choice([1, 1, 1, 2, 4])):
            if places(body):
                how.append(mutate(rng, body))
        text = write(body).encode("utf-8", "surrogatepass")
        if rng.random() < 0.15:
            text, how = mangle(rng, text), how + ["mangled"]
        yield path, text, "; ".join(how)


def check(path, reply, what):
    assert reply.status < 500 or reply.status == 503, (what, reply.body[:500])
    if reply.status != 200:
        error = reply.json()["error"]
        assert error["message"] and len(error["message"]) < 1000, what
        return
    if reply.headers["Content-Type"] == "application/json":
        reply.json()
        return
    text = reply.body.decode()
    events = [event for event in text.split("\n\n") if event and not event.startswith(":")]
    assert "internal_error" not in text and "api_error" not in text, (what, text[-500:])
    assert path in ("/v1/messages", "/v1/responses") or events[-1] == "data: [DONE]", what


@pytest.mark.parametrize("form", ["qwen3_coder", "hermes"])
def test_tools_are_never_refused(form):
    """What cannot be enforced of their schemas is left out, whatever it is."""
    rules = [{"text": call("f", {"x": "1", "y": "2"}, form)}]
    names = ["", "\x00", "\r\n", "\x7f", "\u2028", ">", "</function>", '"', "a b", "/", "x" * 5000]
    parameters = [*SCHEMAS, *({"type": "object", "properties": {"x": schema, "y": {}}}
                              for schema in SCHEMAS),
                  *({"type": "object", "properties": {name: {}, "n": {"const": name}},
                     "required": [name]} for name in names)]
    with Server(rules, "--tool-call-parser", form) as server:
        for of in parameters:
            if not isinstance(of, dict):
                continue  # no schema of arguments, and refused
            for choice in ("auto", "required"):
                reply = send(server.url, "POST", "/v1/chat/completions", {
                    "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 30,
                    "tools": [{"type": "function", "function": {"name": "f", "parameters": of}}],
                    "tool_choice": choice})
                assert reply.status == 200, (choice, of, reply.body)


def test_hostile_requests():
    print(f"MACH_SEED={SEED}")
    rules = [{"nth": 1, "reasoning": "Hm.", "text": 'Well:\n{"city": "Bern", "days": 1}'},
             {"reasoning": "Hm.", "text": call("get_weather", {"city": "Bern", "days": 2})}]
    with Server(rules, "--max-context", 3000) as server:
        statuses = {}
        for path, body, how in requests(SEED, COUNT):
            what = f"MACH_SEED={SEED} POST {path}: {how}"
            try:
                reply = send(server.url, "POST", path, body)
            except OSError as error:
                raise AssertionError(f"{what}: {body[:2000]}\n{server.log_text()[-2000:]}") from error
            check(path, reply, f"{what}: {body[:2000]}")
            statuses[reply.status] = statuses.get(reply.status, 0) + 1
        print(statuses)
        # Neither refuses everything nor reads nothing.
        assert COUNT < 100 or (statuses[200] > COUNT / 20 and statuses[400] > COUNT / 4)
        assert send(server.url, "POST", "/v1/chat/completions", {
            "messages": [{"role": "user", "content": "Hello"}]}).status == 200
        assert server.wait_idle()
        assert '"level":"error"' not in server.log_text()
