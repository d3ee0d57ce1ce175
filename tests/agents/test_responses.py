"""The official OpenAI client against /v1/responses, where the server has it."""
import json

import openai
import pytest

from scripted import Server, call, wait_until

TOOLS = [{"type": "function", "name": "get_weather", "description": "The weather of a city",
          "strict": False,
          "parameters": {"type": "object", "required": ["city"],
                         "properties": {"city": {"type": "string"},
                                        "days": {"type": "integer"}}}}]
RULES = [
    {"after_tool": True, "contains": "18 degrees", "text": "It is 18 degrees."},
    {"last": "weather", "reasoning": "Two cities.",
     "text": call("get_weather", {"city": "Zürich", "days": 2}) + "\n"
             + call("get_weather", {"city": "東京"})},
    {"last": "slow", "token_ms": 20, "text": "word " * 2000},
    {"last": "plain", "reasoning": "Simple.", "text": "A plain answer."},
]


@pytest.fixture(scope="module")
def server():
    with Server(RULES) as running:
        if running.post("/responses", {})[0] == 404:
            pytest.skip("this server has no /v1/responses")
        yield running


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=server.url, api_key="local", max_retries=0, timeout=60)


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def ask(request, client):
    def run(asked, **fields):
        if not request.param:
            return client.responses.create(model="scripted", input=asked, store=False, **fields)
        final = None
        for event in client.responses.create(model="scripted", input=asked, store=False,
                                             stream=True, **fields):
            assert final is None
            if event.type in ("response.completed", "response.incomplete"):
                final = event.response
        return final
    return run


def test_text_and_reasoning(ask):
    response = ask("plain")
    assert response.status == "completed" and response.output_text.strip() == "A plain answer."
    assert [item.type for item in response.output] == ["reasoning", "message"]
    assert response.usage.input_tokens > 0 and response.usage.output_tokens > 5


def test_tool_loop(ask):
    first = ask("weather", tools=TOOLS)
    calls = [item for item in first.output if item.type == "function_call"]
    assert [json.loads(item.arguments) for item in calls] == [
        {"city": "Zürich", "days": 2}, {"city": "東京"}]
    history = [{"role": "user", "content": "weather"}]
    for item in calls:
        history.append({"type": "function_call", "call_id": item.call_id, "name": item.name,
                        "arguments": item.arguments})
    for item in calls:
        history.append({"type": "function_call_output", "call_id": item.call_id,
                        "output": "18 degrees"})
    assert ask(history, tools=TOOLS).output_text.strip() == "It is 18 degrees."


def test_what_codex_sends(ask):
    """Tools of other types, several developer messages, content in parts."""
    response = ask(
        [{"type": "message", "role": "developer",
          "content": [{"type": "input_text", "text": "Be brief."}]},
         {"type": "message", "role": "developer",
          "content": [{"type": "input_text", "text": "Be kind."}]},
         {"type": "message", "role": "user",
          "content": [{"type": "input_text", "text": "plain"}]}],
        tools=TOOLS + [{"type": "web_search", "external_web_access": True},
                       {"type": "namespace", "name": "agents", "description": "others",
                        "tools": [{"type": "function", "name": "close", "description": "x",
                                   "strict": False, "parameters": {"type": "object"}}]}],
        tool_choice="auto", parallel_tool_calls=True, include=["reasoning.encrypted_content"],
        reasoning={"summary": "auto"}, prompt_cache_key="key")
    assert response.output_text.strip() == "A plain answer."


def test_limits_and_errors(ask):
    response = ask("slow", max_output_tokens=20)
    assert response.status == "incomplete"
    assert response.incomplete_details.reason == "max_output_tokens"
    with pytest.raises(openai.BadRequestError) as failure:
        ask("plain", max_output_tokens=70000)
    assert failure.value.code == "context_length_exceeded"
    with pytest.raises(openai.NotFoundError):
        ask("plain", extra_body={"model": "no-such-model"})


def test_cancel(client, server):
    before = server.stats()["requests"]["cancelled"]
    stream = client.responses.create(model="scripted", input="slow", stream=True, store=False)
    for event in stream:
        if event.type == "response.output_text.delta":
            break
    stream.close()
    assert wait_until(lambda: server.stats()["requests"]["cancelled"] == before + 1, 1)
