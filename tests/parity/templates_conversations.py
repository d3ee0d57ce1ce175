"""Conversations that exercise what chat templates look at."""
import copy


def _tool(name, description, properties, required, **extra):
    parameters = {"type": "object", "properties": properties, "required": required}
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters, **extra},
    }


WEATHER = _tool(
    "get_weather",
    "Current weather <b>for</b> a city & its \"surroundings\".",
    {
        "city": {"type": "string", "description": "City, e.g. Zürich"},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
        "days": {"type": "integer", "minimum": 1, "maximum": 14},
    },
    ["city"],
)
SEARCH = _tool(
    "search",
    "Finds documents.\nSecond line.",
    {
        "query": {"type": ["string", "null"], "description": "東京 'quoted'"},
        "filters": {
            "type": "object",
            "description": "Nested filters",
            "properties": {
                "tags": {"type": "array", "items": {"type": "string"}},
                "score": {"type": "number", "default": 0.5},
                "exact": {"type": "boolean", "default": False},
                "range": {
                    "anyOf": [
                        {"type": "integer"},
                        {"type": "array", "items": {"type": "integer"}, "maxItems": 2},
                    ]
                },
            },
            "required": ["tags"],
            "additionalProperties": False,
        },
        "limits": {"type": "array", "items": {"type": "object", "properties": {}}},
    },
    ["query", "filters"],
    strict=True,
    **{"return": {"type": "string", "description": "hits"}},
)
EMPTY = _tool("ping", "", {}, [])
BARE = {"type": "function", "function": {"name": "now", "description": "Time", "parameters": {}}}
TOOLS = [WEATHER, SEARCH, EMPTY]


def _call(name, arguments, call_id="call_1"):
    call = {"type": "function", "function": {"name": name, "arguments": arguments}}
    if call_id is not None:
        call = {"id": call_id, **call}
    return call


def _system(text):
    return {"role": "system", "content": text}


def _user(content):
    return {"role": "user", "content": content}


def _assistant(content, **extra):
    return {"role": "assistant", "content": content, **extra}


def _tool_result(content, **extra):
    return {"role": "tool", "content": content, **extra}


ARGUMENTS = {
    "city": "Zürich",
    "days": 3,
    "ratio": 0.1,
    "big": 1e22,
    "flag": True,
    "none": None,
    "nested": {"list": [1, "two", {"three": []}], "text": 'a "b" \\ \n c'},
}


def _tool_loop(arguments, content="", result="12 °C", **extra):
    return [
        _user("Weather in Zürich?"),
        _assistant(content, tool_calls=[_call("get_weather", arguments)], **extra),
        _tool_result(result, name="get_weather", tool_call_id="call_1"),
        _assistant("It is 12 °C."),
        _user("And tomorrow?"),
    ]


def _base():
    thinking = "<think>\nFirst I think.\nThen more.\n</think>\n\nThe answer."
    nine = "abcdefghi"
    yield "one user", [_user("Hello!")]
    yield "system and user", [_system("You are helpful."), _user("Hi\nthere ")]
    yield "turns", [
        _user("Hi"),
        _assistant("Hello."),
        _user("How are you?"),
        _assistant("Fine."),
        _user("Good."),
    ]
    yield "system and turns", [
        _system("  Spaces around.  \n"),
        _user(" Hi "),
        _assistant(" Hello. \n"),
        _user("\n\nBye\t"),
    ]
    yield "ends with assistant", [_user("Complete this:"), _assistant("The quick brown")]
    yield "empty contents", [_system(""), _user(""), _assistant(""), _user("")]
    yield "none content", [_user("Hi"), _assistant(None), _user("Again")]
    yield "unicode", [
        _system("你是助手 🧑‍🚀"),
        _user("Grüße, İstanbul ΣΑΣ ǅ — naïve café \u00a0\u2028 \u200b end"),
        _assistant("😀" * 5),
        _user("ß"),
    ]
    yield "markup", [
        _system("<|im_start|> {{ not a template }} {% raw %}"),
        _user("<b>&amp;\"quotes\" 'single'</b> \\n %s {0}"),
    ]
    yield "developer", [
        {"role": "developer", "content": "Follow the rules."},
        _user("Hi"),
    ]
    yield "system in the middle", [_user("Hi"), _system("Now be brief."), _user("Go")]
    yield "two systems", [_system("One"), _system("Two"), _user("Go")]
    yield "two users", [_user("One"), _user("Two"), _assistant("Three")]
    yield "assistant first", [_assistant("I start."), _user("Fine.")]
    yield "unknown role", [_user("Hi"), {"role": "critic", "content": "Hm."}]
    yield "tool loop, dict arguments", _tool_loop(ARGUMENTS)
    yield "tool loop, text arguments", _tool_loop('{"city": "Zürich", "days": 3}')
    yield "tool loop, no arguments", _tool_loop({})
    yield "tool loop, none content", _tool_loop({"city": "Bern"}, content=None)
    yield "tool loop, nine letter ids", [
        _user("Weather?"),
        _assistant("", tool_calls=[_call("get_weather", {"city": "Bern"}, nine)]),
        _tool_result("cold", tool_call_id=nine, name="get_weather"),
        _user("Thanks"),
    ]
    yield "tool result is JSON", _tool_loop(
        {"city": "Bern"}, result='{"temperature": 12.5, "unit": "celsius"}'
    )
    yield "tool result is an object", _tool_loop(
        {"city": "Bern"}, result={"temperature": 12.5, "ok": True, "none": None}
    )
    yield "tool call with text and thinking", _tool_loop(
        ARGUMENTS, content="Let me look.", reasoning_content="They want weather.\n"
    )
    yield "parallel calls", [
        _system("Use tools."),
        _user("Compare."),
        _assistant(
            "",
            tool_calls=[
                _call("get_weather", {"city": "Bern"}, "call_a12"),
                _call("search", {"query": None, "filters": {"tags": []}}, "call_b34"),
            ],
        ),
        _tool_result("cold", tool_call_id="call_a12", name="get_weather"),
        _tool_result("nothing", tool_call_id="call_b34", name="search"),
    ]
    yield "calls in a row", [
        _user("Go"),
        _assistant("a", tool_calls=[_call("ping", {}, None)]),
        _tool_result("pong"),
        _assistant("b", tool_calls=[_call("ping", {}, None)]),
        _tool_result("pong"),
        _assistant("done", reasoning_content="thought"),
        _user("Again"),
        _assistant(None, tool_calls=[_call("ping", {}, None)]),
        _tool_result(""),
    ]
    yield "flat tool call", [
        _user("Go"),
        _assistant("", tool_calls=[{"name": "ping", "arguments": {"x": 1}}]),
        _tool_result("pong"),
    ]
    yield "empty tool_calls", [_user("Hi"), _assistant("Hello", tool_calls=[]), _user("Bye")]
    yield "none tool_calls", [_user("Hi"), _assistant("Hello", tool_calls=None), _user("Bye")]
    yield "thinking in content", [_user("Q"), _assistant(thinking), _user("Next"), ]
    yield "thinking at the end", [_user("Q"), _assistant(thinking)]
    yield "reasoning_content", [
        _user("Q"),
        _assistant("A", reasoning_content="\nBecause.\n"),
        _user("Q2"),
        _assistant("A2", reasoning_content=""),
    ]
    yield "reasoning under other names", [
        _user("Q"),
        _assistant("A", thinking="Thoughts."),
        _user("Q2"),
        _assistant("A2", reasoning="More thoughts."),
    ]
    yield "text parts", [
        _system([{"type": "text", "text": "System part."}]),
        _user([{"type": "text", "text": "One "}, {"type": "text", "text": " two"}]),
        _assistant([{"type": "text", "text": "Answer"}]),
        _user([{"type": "text", "text": "Three"}]),
    ]
    yield "image parts", [
        _user(
            [
                {"type": "image", "image": "file.png"},
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
                {"type": "video", "video": "file.mp4"},
                {"type": "audio", "audio": "file.wav"},
            ]
        )
    ]
    yield "tool result parts", _tool_loop(
        {"city": "Bern"},
        result=[{"type": "text", "text": "12 °C"}, {"type": "text", "text": " and wind"}],
    )
    yield "nothing", []
    yield "no content key", [_user("Hi"), {"role": "assistant"}, _user("Bye")]
    yield "names", [
        {"role": "user", "name": "Ann", "content": "I am Ann."},
        {"role": "assistant", "name": "bot", "content": "Hello Ann."},
        {"role": "user", "name": "Bob", "content": "I am Bob."},
    ]
    yield "think switches in text", [
        _system("Be brief. /no_think"),
        _user("Hi /think"),
        _assistant("<think></think>Hello"),
        _user("Bye /no_think"),
    ]
    yield "long", [
        message
        for i in range(15)
        for message in (_user(f"Question {i}?"), _assistant(f"Answer {i}.", reasoning_content="r"))
    ] + [_user("Last")]


def _switches():
    yield "plain", {}
    yield "prompt", {"add_generation_prompt": True}
    yield "tools", {"add_generation_prompt": True, "tools": TOOLS}
    yield "bare tool", {"tools": [BARE], "add_generation_prompt": True}
    yield "think", {"add_generation_prompt": True, "enable_thinking": True, "thinking": True}
    yield "no think", {
        "add_generation_prompt": True,
        "enable_thinking": False,
        "thinking": False,
        "tools": TOOLS,
    }
    yield "switches", {
        "add_generation_prompt": True,
        "reasoning_effort": "high",
        "preserve_thinking": True,
        "clear_thinking": False,
        "builtin_tools": ["wolfram_alpha", "code_interpreter"],
        "tools_in_user_message": False,
        "date_string": "01 Jan 2030",
        "model_identity": "You are mach.",
        "thinking_budget": 512,
        "documents": [{"title": "T", "text": "Some text."}],
        "tools": [WEATHER],
    }


def cases():
    """(name, messages, switches)"""
    for name, messages in _base():
        for switch, values in _switches():
            yield f"{name} / {switch}", copy.deepcopy(messages), copy.deepcopy(values)


def large():
    """200 messages and 10 tools: what a long agent session looks like."""
    messages = [_system("You are a coding agent.")]
    for i in range(50):
        messages.append(_user(f"Please change file {i}. " + "Some context. " * 40))
        arguments = {"path": f"src/file_{i}.cc", "content": "int main() {}\n" * 30}
        messages.append(_assistant("I will.", tool_calls=[_call("write_file", arguments)]))
        messages.append(_tool_result("ok\n" * 50, tool_call_id="call_1", name="write_file"))
        messages.append(_assistant("Done.", reasoning_content="It was easy."))
    tools = []
    for i in range(10):
        tool = copy.deepcopy(SEARCH)
        tool["function"]["name"] = f"tool_{i}"
        tools.append(tool)
    return messages[:200], tools
