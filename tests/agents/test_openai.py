"""The official Python client with tools and reasoning, in two call formats."""
import json

import openai
import pytest

from scripted import Server, call, wait_until

WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "The weather of a city",
    "parameters": {"type": "object",
                   "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
                   "required": ["city"]}}}
WRITE = {"type": "function", "function": {
    "name": "write_file", "description": "Writes a file",
    "parameters": {"type": "object",
                   "properties": {"path": {"type": "string"}, "content": {"type": "string"}},
                   "required": ["path", "content"]}}}
TIME = {"type": "function", "function": {"name": "get_time"}}
TOOLS = [WEATHER, WRITE, TIME]
BODY = "".join(f'line {i}: "ü" \\ <b> & \'🚀\'\n\tindented\n' for i in range(40))


def rules(form):
    def calls(*which):
        return "\n".join(call(name, arguments, form) for name, arguments in which)

    return [
        {"after_tool": True, "contains": "18 degrees", "reasoning": "The tool has answered.",
         "text": "It is 18 degrees in Paris."},
        {"last": "one call", "reasoning": "I need the weather.\nOf Paris.",
         "text": calls(("get_weather", {"city": "Paris", "days": 3}))},
        {"last": "two calls", "text": "Both at once.\n\n" + calls(
            ("get_weather", {"city": "Zürich"}), ("get_weather", {"city": "東京", "days": 2}))},
        {"last": "long call", "token_ms": 2,
         "text": calls(("write_file", {"path": "a.txt", "content": BODY}))},
        {"last": "no arguments", "text": calls(("get_time", {}))},
        {"last": "unknown tool", "text": calls(("Get_Weather", {"city": "Bern"}))},
        {"last": "as json", "reasoning": "So be it.", "text": 'Here it is:\n{"name": "Zoë"}'},
        {"last": "plain", "reasoning": "Nothing to do.", "text": "Plain text with a < b."},
        {"last": "slow", "token_ms": 20, "text": " ".join(str(i) for i in range(2000))},
        {"last": "think only", "reasoning": " ".join(str(i) for i in range(2000)), "text": "x"},
    ]


@pytest.fixture(scope="module", params=["qwen3_coder", "hermes"])
def server(request):
    with Server(rules(request.param), "--tool-call-parser", request.param) as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=server.url, api_key="local", max_retries=0, timeout=60)


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def chat(request, client):
    """One answer as a ChatCompletionMessage, finish_reason and usage, however it came."""
    def run(text, messages=None, **fields):
        fields.setdefault("tools", TOOLS)
        fields = {key: value for key, value in fields.items() if value is not None}
        messages = messages or [{"role": "user", "content": text}]
        if not request.param:
            reply = client.chat.completions.create(
                model="scripted", messages=messages, **fields)
            choice = reply.choices[0]
            return choice.message, choice.finish_reason, reply.usage
        return joined(client.chat.completions.create(
            model="scripted", messages=messages, stream=True,
            stream_options={"include_usage": True}, **fields))
    return run


class Joined:
    """What clients that add deltas up have in the end."""

    def __init__(self):
        self.content = self.reasoning_content = None
        self.tool_calls = None


class JoinedCall:
    def __init__(self, start):
        assert start.id.startswith("call_") and start.type == "function"
        assert start.function.name and start.function.arguments == ""
        self.id, self.function = start.id, start.function


def joined(stream):
    message, reason, usage, calls = Joined(), None, None, {}
    for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            assert reason is None
            reason = choice.finish_reason
            if choice.delta.content:
                message.content = (message.content or "") + choice.delta.content
            thought = getattr(choice.delta, "reasoning_content", None)
            if thought:
                message.reasoning_content = (message.reasoning_content or "") + thought
            for delta in choice.delta.tool_calls or []:
                if delta.index not in calls:
                    calls[delta.index] = JoinedCall(delta)
                    continue
                assert delta.id is None and delta.type is None and delta.function.name is None
                calls[delta.index].function.arguments += delta.function.arguments
    message.tool_calls = [calls[i] for i in range(len(calls))] or None
    return message, reason, usage


def arguments(message):
    return [(c.function.name, json.loads(c.function.arguments)) for c in message.tool_calls or []]


def thought(message):
    """Whitespace at its end may stay."""
    return (getattr(message, "reasoning_content", None) or "").rstrip()


def said(message):
    """What follows a thought is verbatim, and begins with its empty line."""
    return message.content.removeprefix("\n\n")


def grammar(server):
    return any(server.get("/capabilities")[1]["grammar"].values())


def test_call(chat):
    message, reason, usage = chat("one call")
    assert reason == "tool_calls" and message.content is None
    assert arguments(message) == [("get_weather", {"city": "Paris", "days": 3})]
    assert thought(message) == "I need the weather.\nOf Paris."
    assert usage.completion_tokens > 20
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.completion_tokens_details.reasoning_tokens >= 0


def test_parallel_calls(chat):
    message, reason, _ = chat("two calls")
    assert reason == "tool_calls" and message.content.strip() == "Both at once."
    assert arguments(message) == [("get_weather", {"city": "Zürich"}),
                                  ("get_weather", {"city": "東京", "days": 2})]
    assert message.tool_calls[0].id != message.tool_calls[1].id


def test_one_call_at_a_time(chat):
    message, reason, _ = chat("two calls", parallel_tool_calls=False)
    assert reason == "tool_calls"
    assert arguments(message) == [("get_weather", {"city": "Zürich"})]


def test_arguments_are_verbatim(chat):
    message, reason, _ = chat("long call")
    assert reason == "tool_calls"
    assert arguments(message) == [("write_file", {"path": "a.txt", "content": BODY})]


def test_no_arguments(chat):
    assert arguments(chat("no arguments")[0]) == [("get_time", {})]


def test_unknown_tools_are_passed_on(chat, server):
    if grammar(server):
        pytest.skip("the grammar of this server has declared names only")
    assert arguments(chat("unknown tool")[0]) == [("Get_Weather", {"city": "Bern"})]


def test_tool_loop(chat):
    first = chat("one call")[0]
    made = first.tool_calls[0]
    messages = [
        {"role": "user", "content": "one call"},
        {"role": "assistant", "content": None, "reasoning_content": first.reasoning_content,
         "tool_calls": [{"id": made.id, "type": "function",
                         "function": {"name": made.function.name,
                                      "arguments": made.function.arguments}}]},
        {"role": "tool", "tool_call_id": made.id, "content": "18 degrees"}]
    message, reason, _ = chat("", messages)
    assert reason == "stop" and said(message) == "It is 18 degrees in Paris."
    assert message.tool_calls is None


def test_no_argument_is_missing():
    """A model that closes its call too early is led to the next argument, and comes to an end."""
    with Server([{"text": call("write_file", {"path": "a.txt"})}]) as running:
        if not grammar(running):
            pytest.skip("this server has no grammar")
        status, body = running.post("/chat/completions", {
            "messages": [{"role": "user", "content": "half a call"}], "tools": TOOLS,
            "max_tokens": 1000})
    assert status == 200 and body["choices"][0]["finish_reason"] == "tool_calls"
    made = [each["function"] for each in body["choices"][0]["message"]["tool_calls"]]
    assert [(one["name"], set(json.loads(one["arguments"]))) for one in made] == [
        ("write_file", {"path", "content"})]


def test_tool_choice_none(chat):
    message, reason, _ = chat("one call", tool_choice="none")
    assert reason == "stop" and message.tool_calls is None and "get_weather" in message.content


def test_tool_choice_required(chat, server):
    if not grammar(server):
        pytest.skip("this server has no grammar")
    # What the model would say first is masked.
    message, reason, _ = chat("two calls", tool_choice="required")
    assert reason == "tool_calls" and message.content is None
    assert arguments(message) == [("get_weather", {"city": "Zürich"}),
                                  ("get_weather", {"city": "東京", "days": 2})]


def test_named_tool(chat, server):
    if not grammar(server):
        pytest.skip("this server has no grammar")
    named = {"type": "function", "function": {"name": "get_weather"}}
    message, reason, _ = chat("one call", tool_choice=named)
    assert reason == "stop" and message.content is None
    assert arguments(message) == [("get_weather", {"city": "Paris", "days": 3})]


def test_json_schema(chat, server):
    if not grammar(server):
        pytest.skip("this server has no grammar")
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"],
              "additionalProperties": False}
    message, reason, _ = chat("as json", tools=None, max_tokens=300, response_format={
        "type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}})
    assert reason == "stop" and json.loads(message.content) == {"name": "Zoë"}


def test_reasoning(chat):
    message, reason, _ = chat("plain", tools=None)
    assert reason == "stop" and said(message) == "Plain text with a < b."
    assert thought(message) == "Nothing to do."
    message, _, _ = chat("plain", extra_body={"chat_template_kwargs": {"enable_thinking": False}})
    assert getattr(message, "reasoning_content", None) is None
    assert said(message) == "Plain text with a < b."
    message, _, _ = chat("plain", extra_body={"include_reasoning": False})
    assert getattr(message, "reasoning_content", None) is None
    message, reason, _ = chat("think only", max_tokens=50)
    assert reason == "length" and message.content is None
    assert message.reasoning_content.startswith("0 1 2 3")


def test_cut_calls_cannot_be_run(chat):
    message, reason, _ = chat("long call", max_tokens=60)
    assert reason == "length"
    with pytest.raises(json.JSONDecodeError):
        json.loads(message.tool_calls[0].function.arguments)


def test_arguments_stream_as_they_are_written(client):
    stream = client.chat.completions.create(
        model="scripted", messages=[{"role": "user", "content": "long call"}], tools=TOOLS,
        stream=True)
    text, pieces = "", 0
    for chunk in stream:
        for delta in chunk.choices[0].delta.tool_calls or []:
            if delta.function.arguments:
                pieces += 1
                text += delta.function.arguments
                if pieces < 100:
                    with pytest.raises(json.JSONDecodeError):
                        json.loads(text)
    assert json.loads(text)["content"] == BODY and pieces > 100


def test_stream_helper(client):
    with client.chat.completions.stream(
            model="scripted", messages=[{"role": "user", "content": "two calls"}],
            tools=TOOLS) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert "tool_calls.function.arguments.delta" in kinds
    assert [c.function.name for c in final.choices[0].message.tool_calls] == ["get_weather"] * 2


def test_context_overflow(chat):
    with pytest.raises(openai.BadRequestError) as failure:
        chat("plain", max_tokens=70000)
    assert failure.value.code == "context_length_exceeded"
    assert failure.value.message.find("This model's maximum context length is 65536 tokens") >= 0


def test_cancel(client, server):
    stream = client.chat.completions.create(
        model="scripted", messages=[{"role": "user", "content": "slow"}], stream=True)
    before = server.stats()["requests"]["cancelled"]
    for chunk in stream:
        if chunk.choices[0].delta.content:
            break
    assert server.stats()["requests"]["active"] == 1
    stream.close()
    assert wait_until(lambda: server.stats()["requests"]["cancelled"] == before + 1, 1)
    assert server.wait_idle(1)


def test_busy():
    with Server(rules("hermes"), "--sequences", 1, "--max-queue", 1) as server:
        client = openai.OpenAI(base_url=server.url, api_key="local", max_retries=0, timeout=60)

        def start():
            return client.chat.completions.create(
                model="scripted", messages=[{"role": "user", "content": "slow"}], stream=True)

        running = start()
        assert wait_until(lambda: server.stats()["requests"]["active"] == 1)
        waiting = start()
        assert wait_until(lambda: server.stats()["requests"]["queued"] == 1)
        with pytest.raises(openai.InternalServerError) as failure:
            start()
        assert failure.value.status_code == 503 and failure.value.code == "server_busy"
        assert int(failure.value.response.headers["Retry-After"]) > 0
        running.close()
        assert next(iter(waiting)).choices[0].delta.role == "assistant"
        waiting.close()
        assert server.wait_idle()


def test_key():
    with Server(rules("hermes"), "--api-key", "secret") as server:
        for key, works in (("secret", True), ("local", False)):
            client = openai.OpenAI(base_url=server.url, api_key=key, max_retries=0)
            if works:
                assert client.models.list().data[0].id == "scripted"
            else:
                with pytest.raises(openai.AuthenticationError) as failure:
                    client.models.list()
                assert failure.value.code == "invalid_api_key"
