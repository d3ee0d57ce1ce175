"""The official Anthropic client, against /v1/messages where the server has it."""
import json

import anthropic
import pytest

from scripted import Server, call, wait_until

TOOLS = [{"name": "get_weather", "description": "The weather of a city",
          "input_schema": {"type": "object", "required": ["city"],
                           "properties": {"city": {"type": "string"},
                                          "days": {"type": "integer"}}}}]
RULES = [
    {"after_tool": True, "contains": "18 degrees", "text": "It is 18 degrees."},
    {"last": "weather", "reasoning": "Two cities.", "token_ms": 5,
     "text": "I ask.\n\n" + call("get_weather", {"city": "Zürich", "days": 2}) + "\n"
             + call("get_weather", {"city": "東京"})},
    {"last": "slow", "token_ms": 20, "text": "word " * 2000},
    {"last": "plain", "reasoning": "Simple.", "text": "A plain answer."},
]
THINKING = {"type": "enabled", "budget_tokens": 1024}


@pytest.fixture(scope="module")
def server():
    with Server(RULES) as running:
        if running.post("/messages", {})[0] == 404:
            pytest.skip("this server has no /v1/messages")
        yield running


@pytest.fixture(scope="module")
def client(server):
    return anthropic.Anthropic(base_url=server.url.removesuffix("/v1"), api_key="local",
                               max_retries=0, timeout=60)


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def ask(request, client):
    def run(content, **fields):
        fields = {"model": "scripted", "max_tokens": 2000,
                  "messages": content if isinstance(content, list)
                  else [{"role": "user", "content": content}], **fields}
        if not request.param:
            return client.messages.create(**fields)
        with client.messages.stream(**fields) as stream:
            return stream.get_final_message()
    return run


def test_text_and_thinking(ask):
    message = ask("plain", thinking=THINKING)
    assert message.role == "assistant" and message.stop_reason == "end_turn"
    assert [block.type for block in message.content] == ["thinking", "text"]
    assert message.content[0].thinking.strip() == "Simple."
    assert message.content[1].text.strip() == "A plain answer."
    assert message.usage.input_tokens > 0 and message.usage.output_tokens > 5


def test_tool_loop(ask):
    first = ask("weather", tools=TOOLS, thinking=THINKING)
    assert first.stop_reason == "tool_use"
    calls = [block for block in first.content if block.type == "tool_use"]
    assert [block.input for block in calls] == [{"city": "Zürich", "days": 2}, {"city": "東京"}]
    assert len({block.id for block in calls}) == 2
    history = [
        {"role": "user", "content": "weather"},
        {"role": "assistant", "content": [block.model_dump(exclude_none=True)
                                          for block in first.content]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": block.id, "content": "18 degrees"}
            for block in calls]}]
    last = ask(history, tools=TOOLS, thinking=THINKING)
    assert last.stop_reason == "end_turn"
    assert last.content[-1].text.strip() == "It is 18 degrees."


def test_arguments_stream_as_they_are_written(client):
    parts = []
    with client.messages.stream(model="scripted", max_tokens=2000, tools=TOOLS,
                                messages=[{"role": "user", "content": "weather"}]) as stream:
        for event in stream:
            if event.type == "content_block_delta" and event.delta.type == "input_json_delta":
                parts.append((event.index, event.delta.partial_json))
    whole = {}
    for index, text in parts:
        whole[index] = whole.get(index, "") + text
    assert [json.loads(text)["city"] for text in whole.values()] == ["Zürich", "東京"]
    assert len(parts) > 8


def test_limits_and_stops(ask):
    assert ask("slow", max_tokens=5).stop_reason == "max_tokens"
    stopped = ask("plain", stop_sequences=["answer"])
    assert stopped.stop_reason == "stop_sequence" and stopped.stop_sequence == "answer"


def test_what_claude_code_sends(ask):
    message = ask(
        [{"role": "user", "content": [
            {"type": "text", "text": "<system-reminder>a</system-reminder>"},
            {"type": "text", "text": "plain", "cache_control": {"type": "ephemeral"}}]}],
        system=[{"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1; cch=1a2b3;"},
                {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        tools=TOOLS, metadata={"user_id": "u"}, thinking={"type": "adaptive", "display": "omitted"},
        extra_query={"beta": "true"},
        extra_body={"context_management": {"edits": []}, "output_config": {"effort": "medium"}})
    assert message.content[-1].text.strip() == "A plain answer."


def test_billing_lines_keep_no_prompt_apart(ask, server):
    for line in ("cch=11111;", "cch=22222;"):
        ask("plain", system=[{"type": "text", "text": "x-anthropic-billing-header: " + line},
                             {"type": "text", "text": "Be brief."}])
    assert len({prompt["prompt"] for prompt in server.prompts()[-2:]}) == 1


def test_count_tokens(client):
    asked = {"model": "scripted", "messages": [{"role": "user", "content": "plain"}]}
    counted = client.messages.count_tokens(**asked).input_tokens
    assert counted == client.messages.create(max_tokens=100, **asked).usage.input_tokens


def test_errors(ask):
    with pytest.raises(anthropic.BadRequestError) as failure:
        ask([])
    assert failure.value.body["error"]["type"] == "invalid_request_error"
    with pytest.raises(anthropic.BadRequestError):
        ask("plain", max_tokens=70000)
    with pytest.raises(anthropic.NotFoundError):
        ask("plain", model="no-such-model")


def test_cancel(client, server):
    before = server.stats()["requests"]["cancelled"]
    with client.messages.stream(model="scripted", max_tokens=2000,
                                messages=[{"role": "user", "content": "slow"}]) as stream:
        next(stream.text_stream)
    assert wait_until(lambda: server.stats()["requests"]["cancelled"] == before + 1, 1)
