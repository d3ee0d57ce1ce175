"""Every error that clients can meet, over HTTP: a row for each, and what brings it about.

The first rows are the table of errors of the API's specification, case by case; the others are what
HTTP, the sender's rights and memory add. `docs/serving.md` has the same table, and a test compares
the two (test_serving_page.py).
"""
import json
import pathlib
import re
import socket
import urllib.parse

import pytest

from scripted import FAKE_BINARY, Process, Server, send, wait_until

INVALID, SERVER = "invalid_request_error", "server_error"
ERRORS = {  # case: status, type, code
    "bad JSON or UTF-8": (400, INVALID, None),
    "bad field": (400, INVALID, None),
    "bad schema": (400, INVALID, None),
    "bad tool_choice": (400, INVALID, None),
    "prompt, or prompt + max_tokens, over the context": (400, INVALID, "context_length_exceeded"),
    "key missing or wrong": (401, INVALID, "invalid_api_key"),
    "unknown model": (404, INVALID, "model_not_found"),
    "unknown route": (404, INVALID, None),
    "unknown method": (405, INVALID, None),
    "body too large": (413, INVALID, None),
    "queue full": (503, SERVER, "server_busy"),
    "internal": (500, SERVER, "internal_error"),
    # beyond the specification
    "more memory than there is": (400, INVALID, "out_of_memory"),
    "page of another site, or another machine's name": (403, INVALID, None),
    "not in time": (408, INVALID, None),
    "compressed body": (415, INVALID, None),
    "headers too large": (431, INVALID, None),
    "loading": (503, SERVER, "model_loading"),
}
# Takes ten seconds, so it is in tests/server/server_test.cc, EveryRefusalIsAccounted.
ELSEWHERE = {"not in time"}

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
MESSAGES, RESPONSES = "/v1/messages", "/v1/responses"
CONTEXT = 4096
HELLO = [{"role": "user", "content": "Hello"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


class Request:
    """What is sent to which server, and the `param` of the answer: None is null, ANY is not looked at."""
    ANY = object()

    def __init__(self, case, name, body=None, param=ANY, to="scripted", method="POST", path=CHAT,
                 headers=None):
        self.case, self.body, self.param, self.server = case, body, param, to
        self.method, self.path, self.headers = method, path, headers or {}
        self.id = f"{case.replace(' ', '_')}-{name}"


def bad(case, name, param, **fields):
    """A chat with these fields."""
    fields.setdefault("messages", HELLO)
    return Request(case, name, fields, param)


def schema(name, of, **more):
    return bad("bad schema", name, "response_format.json_schema.schema", response_format={
        "type": "json_schema", "json_schema": {"name": "n", "schema": of, **more}})


REQUESTS = [
    *(Request("bad JSON or UTF-8", name, body, None) for name, body in {
        "empty": b"", "spaces": b" \n", "cut": b'{"messages":', "no-object": b"[1]",
        "two-objects": b"{}{}", "no-text": b"\xff\xfe", "no-utf8": b'{"messages":"\xff"}',
        "half-a-character": b'{"messages":"\xe2\x82"}', "nul": b'{"a":"\x00"}',
        "nested-lists": b"[" * 100_000, "nested-objects": b'{"a":' * 5000,
        "huge-number": b'{"temperature":1e999}', "trailing-comma": b'{"a":1,}',
    }.items()),
    *(Request("bad JSON or UTF-8", path.strip("/").replace("/", "-"), b"{", None, path=path)
      for path in (COMPLETIONS, RESPONSES, "/tokenize", "/detokenize")),

    bad("bad field", "no-messages", "messages", messages=None),
    bad("bad field", "empty-messages", "messages", messages=[]),
    bad("bad field", "messages-no-list", "messages", messages="Hello"),
    bad("bad field", "role", "messages[0].role", messages=[{"role": "robot", "content": "x"}]),
    bad("bad field", "no-role", "messages[0].role", messages=[{"content": "x"}]),
    bad("bad field", "content", "messages[0].content", messages=[{"role": "user", "content": 1}]),
    bad("bad field", "image", "messages[0].content[0].type", messages=[{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "data:,"}}]}]),
    bad("bad field", "past-call", "messages[0].tool_calls[0].function.name", messages=[
        {"role": "assistant", "tool_calls": [{"function": {"arguments": "{}"}}]}]),
    bad("bad field", "temperature", "temperature", temperature=-1),
    bad("bad field", "top_p", "top_p", top_p=7),
    bad("bad field", "top_k", "top_k", top_k=-2),
    bad("bad field", "min_p", "min_p", min_p=1.5),
    bad("bad field", "penalty", "presence_penalty", presence_penalty=2.5),
    bad("bad field", "repetition", "repetition_penalty", repetition_penalty=0),
    bad("bad field", "seed", "seed", seed=2**70),
    bad("bad field", "n-zero", "n", n=0),
    bad("bad field", "n-many", "n", n=1000),
    bad("bad field", "wrong-type", "max_tokens", max_tokens="many"),
    bad("bad field", "no-tokens", "max_tokens", max_tokens=0),
    bad("bad field", "min_tokens", "min_tokens", min_tokens=3, max_tokens=2),
    bad("bad field", "empty-stop", "stop", stop=""),
    bad("bad field", "empty-stop-in-list", "stop[1]", stop=["a", ""]),
    bad("bad field", "stop-token", "stop_token_ids[0]", stop_token_ids=[10**9]),
    bad("bad field", "logit_bias", "logit_bias.x", logit_bias={"x": 1}),
    bad("bad field", "stream_options", "stream_options", stream_options={"include_usage": True}),
    bad("bad field", "top_logprobs", "top_logprobs", top_logprobs=2),
    bad("bad field", "many-logprobs", "top_logprobs", logprobs=True, top_logprobs=21),
    bad("bad field", "effort", "reasoning_effort", reasoning_effort="enormous"),
    bad("bad field", "format", "response_format.type", response_format={"type": "yaml"}),
    bad("bad field", "template", "chat_template_kwargs.messages",
        chat_template_kwargs={"messages": []}),
    bad("bad field", "unsupported", "functions", functions=[]),
    bad("bad field", "best_of", "best_of", best_of=2),
    bad("bad field", "audio", "audio", audio={}),
    bad("bad field", "function_call", "function_call", function_call="auto"),
    bad("bad field", "beams", "use_beam_search", use_beam_search=True),
    bad("bad field", "echo", "echo", echo=True),
    bad("bad field", "prompt_logprobs", "prompt_logprobs", prompt_logprobs=1),
    bad("bad field", "no-tools", "tools", tools=[]),
    bad("bad field", "unnamed-tool", "tools[0].function.name",
        tools=[{"type": "function", "function": {}}]),
    bad("bad field", "tool-name", "tools[0].function.name",
        tools=[{"type": "function", "function": {"name": "a b"}}]),
    Request("bad field", "prompt", {"prompt": []}, "prompt", path=COMPLETIONS),
    Request("bad field", "prompt-token", {"prompt": [10**9]}, "prompt[0]", path=COMPLETIONS),
    Request("bad field", "input", {"input": []}, "input", path=RESPONSES),
    Request("bad field", "previous", {"input": "x", "previous_response_id": "resp_1"},
            "previous_response_id", path=RESPONSES),
    Request("bad field", "max_tokens", {"messages": HELLO}, path=MESSAGES),
    Request("bad field", "tokenize", {"prompt": 1}, "prompt", path="/tokenize"),
    Request("bad field", "detokenize", {"tokens": [-1]}, "tokens[0]", path="/detokenize"),

    bad("bad schema", "missing", "response_format.json_schema.schema",
        response_format={"type": "json_schema", "json_schema": {"name": "n"}}),
    schema("no-object", "string"),
    schema("unknown-type", {"type": "strin"}),
    schema("not-enforceable", {"type": "array", "uniqueItems": True}),
    schema("dangling-ref", {"$ref": "#/$defs/none"}),
    schema("bad-pattern", {"type": "string", "pattern": "("}),
    schema("never", {"type": "integer", "minimum": 3, "maximum": 1}),
    Request("bad schema", "responses", {"input": "x", "text": {"format": {
        "type": "json_schema", "name": "n", "schema": {"type": "strin"}}}}, path=RESPONSES),
    Request("bad schema", "messages", {"messages": HELLO, "max_tokens": 9, "output_config": {
        "format": {"type": "json_schema", "schema": {"type": "strin"}}}}, path=MESSAGES),

    bad("bad tool_choice", "without-tools", "tool_choice", tool_choice="auto"),
    bad("bad tool_choice", "unknown", "tool_choice", tools=[TOOL], tool_choice="sometimes"),
    bad("bad tool_choice", "type", "tool_choice", tools=[TOOL], tool_choice=1),
    bad("bad tool_choice", "other-object", "tool_choice.type", tools=[TOOL],
        tool_choice={"type": "allowed_tools"}),
    bad("bad tool_choice", "unnamed", "tool_choice.function.name", tools=[TOOL],
        tool_choice={"type": "function", "function": {}}),
    bad("bad tool_choice", "undeclared", "tool_choice.function.name", tools=[TOOL],
        tool_choice={"type": "function", "function": {"name": "none_such"}}),

    *(Request("prompt, or prompt + max_tokens, over the context", name, body, param, path=path)
      for name, path, body, param in [
          ("prompt", CHAT, {"messages": [{"role": "user", "content": "word " * 9000}]}, "messages"),
          ("both", CHAT, {"messages": HELLO, "max_tokens": CONTEXT}, "messages"),
          ("huge", CHAT, {"messages": HELLO, "max_tokens": 2**63 - 1}, "messages"),
          ("completion", COMPLETIONS, {"prompt": "a", "max_tokens": CONTEXT}, "prompt"),
          ("second-prompt", COMPLETIONS, {"prompt": ["a", "word " * 9000]}, "prompt[1]"),
          ("responses", RESPONSES, {"input": "a", "max_output_tokens": CONTEXT}, "messages"),
          ("messages", MESSAGES, {"messages": HELLO, "max_tokens": CONTEXT}, None)]),

    *(Request("key missing or wrong", name, method=method, path=path, body=body, headers=headers,
              to="locked")
      for name, method, path, body, headers in [
          ("missing", "POST", CHAT, {"messages": HELLO}, {}),
          ("wrong", "POST", CHAT, {"messages": HELLO}, {"Authorization": "Bearer guess"}),
          ("x-api-key", "GET", "/v1/models", None, {"x-api-key": "guess"}),
          ("basic", "GET", "/v1/stats", None, {"Authorization": "Basic secret"}),
          ("empty", "GET", "/v1/models", None, {"Authorization": "Bearer "}),
          ("messages", "POST", MESSAGES, {}, {}),
          ("tokenize", "POST", "/tokenize", {}, {}),
          ("unknown-route", "GET", "/v1/nope", None, {}),
          ("unknown-method", "DELETE", "/v1/models", None, {})]),

    *(Request("unknown model", path.strip("/").replace("/", "-"), {"model": "other", **body}, "model",
              path=path)
      for path, body in [
          (CHAT, {"messages": HELLO}), (COMPLETIONS, {"prompt": "a"}), (RESPONSES, {"input": "a"}),
          (MESSAGES, {"messages": HELLO, "max_tokens": 9}),
          ("/v1/messages/count_tokens", {"messages": HELLO}),
          ("/tokenize", {"prompt": "a"}), ("/detokenize", {"tokens": [1]})]),
    Request("unknown model", "by-name", param="model", method="GET", path="/v1/models/other"),
    Request("unknown model", "no-name", param="model", method="GET", path="/v1/models/%20"),

    *(Request("unknown route", name, param=None, method=method, path=path)
      for name, method, path in [
          ("get", "GET", "/v1/nope"), ("post", "POST", "/v1/chat"), ("root", "GET", "/nope"),
          ("no-text", "GET", "/v1/%ff%00"), ("below-messages", "POST", "/v1/messages/nope"),
          ("options", "OPTIONS", "/nope")]),
    Request("unknown route", "embeddings", {"input": "x"}, None, path="/v1/embeddings"),

    *(Request("unknown method", f"{method}{path.replace('/', '-')}", param=None, method=method,
              path=path)
      for method, path in [("GET", CHAT), ("DELETE", "/v1/models"), ("PUT", "/health"),
                           ("POST", "/metrics"), ("GET", MESSAGES), ("GET", "/tokenize"),
                           ("BREW", "/v1/stats")]),

    # Refused by what it says of itself: nothing of it is sent.
    *(Request("body too large", path.replace("/", "-"), param=None, path=path,
              headers={"Content-Length": str(65 << 20)})
      for path in (CHAT, COMPLETIONS, MESSAGES, RESPONSES, "/tokenize")),

    *(Request("queue full", path.replace("/", "-"), body, None, to="busy", path=path)
      for path, body in [
          (CHAT, {"messages": HELLO}), (CHAT + "?streamed", {"messages": HELLO, "stream": True}),
          (COMPLETIONS, {"prompt": "a"}), (RESPONSES, {"input": "a"}),
          (MESSAGES, {"messages": HELLO, "max_tokens": 9})]),

    *(Request("internal", f"{word}{path.replace('/', '-')}", body, None, to="fake", path=path)
      for word in ("fail", "disk") for path, body in [
          (CHAT, {"messages": [{"role": "user", "content": f"[[{word}]]"}]}),
          (COMPLETIONS, {"prompt": f"[[{word}]]"}), (RESPONSES, {"input": f"[[{word}]]"}),
          (MESSAGES, {"messages": [{"role": "user", "content": f"[[{word}]]"}],
                      "max_tokens": 99})]),

    Request("more memory than there is", "chat",
            {"messages": [{"role": "user", "content": "[[memory]]"}]}, None, to="fake"),

    *(Request("page of another site, or another machine's name", name, param=None, method="GET",
              path="/v1/models", headers=headers)
      for name, headers in [("origin", {"Origin": "https://evil.example"}),
                            ("null", {"Origin": "null"}), ("host", {"Host": "evil.example"})]),
    Request("compressed body", "gzip", b"\x1f\x8b", None, headers={"Content-Encoding": "gzip"}),
    Request("headers too large", "one", param=None, method="GET", path="/health",
            headers={"X-Long": "x" * (33 << 10)}),

    *(Request("loading", path.replace("/", "-"), method="GET" if body is None else "POST", body=body,
              path=path, param=None, to="loading")
      for path, body in [("/v1/models", None), ("/v1/stats", None), (CHAT, {"messages": HELLO}),
                         (MESSAGES, {}), ("/tokenize", {})]),
]

ANTHROPIC_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error",
                   413: "request_too_large", 500: "api_error", 503: "overloaded_error"}


@pytest.fixture(scope="module")
def scripted():
    with Server([{"text": "Hello."}], "--max-context", CONTEXT) as server:
        yield server


@pytest.fixture(scope="module")
def locked():
    with Server([{"text": "Hello."}], "--api-key", "secret") as server:
        yield server


@pytest.fixture(scope="module")
def fake():
    with Process(FAKE_BINARY, "--grace-s", 0) as server:
        yield server


@pytest.fixture(scope="module")
def busy():
    """One request runs, one waits, and there is room for no more."""
    with Process(FAKE_BINARY, "--max-queue", 1, "--grace-s", 0) as server:
        waiting = []
        for state in ("active", "queued"):
            waiting.append(socket.create_connection(address(server.url)))
            body = json.dumps({"messages": [{"role": "user", "content": "[[prefill]]"}]})
            waiting[-1].sendall(f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\n"
                                f"Content-Length: {len(body)}\r\n\r\n{body}".encode())
            assert wait_until(lambda: server.stats()["requests"][state] == 1)
        yield server
        for connection in waiting:
            connection.close()


@pytest.fixture(scope="module")
def loading():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with Process(FAKE_BINARY, "--port", port, "--load-s", 1000, ready=False) as server:
        server.url = f"http://127.0.0.1:{port}/v1"
        assert wait_until(lambda: answers(server.url))
        yield server


def address(url):
    parts = urllib.parse.urlsplit(url)
    return parts.hostname, parts.port


def answers(url):
    try:
        return send(url, "GET", "/health").status == 200
    except OSError:
        return False


@pytest.mark.parametrize("request_", REQUESTS, ids=[r.id for r in REQUESTS])
def test_error(request_, request):
    server = request.getfixturevalue(request_.server)
    status, kind, code = ERRORS[request_.case]
    reply = send(server.url, request_.method, request_.path, request_.body, request_.headers)
    assert reply.status == status, reply.body[:300]
    assert reply.headers["Content-Type"] == "application/json"
    assert re.fullmatch("[0-9a-f]{24}", reply.headers["x-request-id"])
    body = reply.json()
    if request_.path.startswith(MESSAGES):
        assert body["type"] == "error" and body["request_id"] == reply.headers["x-request-id"]
        assert set(body["error"]) == {"type", "message"}
        assert body["error"]["type"] == ANTHROPIC_TYPES.get(status, INVALID)
    else:
        assert set(body["error"]) == {"message", "type", "param", "code"}
        assert (body["error"]["type"], body["error"]["code"]) == (kind, code), body
        if request_.param is not Request.ANY:
            assert body["error"]["param"] == request_.param, body
    assert set(body) - {"error", "type", "request_id"} == ({"progress"} if code == "model_loading"
                                                           else set())
    assert 1 <= len(body["error"]["message"]) < 600
    assert (reply.headers["Retry-After"] == "1") == (status == 503)
    assert ("Allow" in reply.headers) == (status == 405)
    assert (reply.headers["WWW-Authenticate"] == "Bearer") == (status == 401)


def test_each_row_is_brought_about():
    assert {request.case for request in REQUESTS} | ELSEWHERE == set(ERRORS)
    others = pathlib.Path(__file__).parents[1] / "server/server_test.cc"
    assert re.search(r'EveryRefusalIsAccounted.*?"408"', others.read_text(), re.DOTALL)


def test_overflows_say_by_how_much(scripted):
    long = {"messages": [{"role": "user", "content": "word " * 9000}]}
    both = {"messages": HELLO, "max_tokens": CONTEXT}
    for body, wanted in ((long, 0), (both, CONTEXT)):
        message = send(scripted.url, "POST", CHAT, body).json()["error"]["message"]
        assert re.fullmatch(
            rf"This model's maximum context length is {CONTEXT} tokens\. However, you requested "
            rf"{wanted} output tokens and your prompt contains at least \d+ input tokens\.", message)
    message = send(scripted.url, "POST", MESSAGES, long | {"max_tokens": 9}).json()["error"]["message"]
    assert re.fullmatch(rf"prompt is too long: \d+ tokens > {CONTEXT} maximum", message)
    message = send(scripted.url, "POST", MESSAGES, both).json()["error"]["message"]
    assert message.startswith("input length and `max_tokens` exceed context limit: ")


@pytest.mark.parametrize("text", [
    b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00",
    b"PRI * HTTP/2.0\r\n\r\n", b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
    b"GET /health HTTP/1.1\r\nHost: localhost\r\nx-request-id: \x01\r\n\r\n"])
def test_what_is_no_http(scripted, text):
    with socket.create_connection(address(scripted.url)) as connection:
        connection.sendall(text)
        connection.shutdown(socket.SHUT_WR)
        reply = b"".join(iter(lambda: connection.recv(65536), b""))
    head, body = reply.split(b"\r\n\r\n", 1)
    assert head.startswith(b"HTTP/1.1 400 ") and b"x-request-id: " in head
    assert json.loads(body)["error"]["type"] == INVALID


def test_too_many_connections():
    with Server([{"text": "Hello."}], "--max-connections", 1) as server:
        with socket.create_connection(address(server.url)) as first:
            first.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert first.recv(12) == b"HTTP/1.1 200"
            reply = send(server.url, "GET", "/health")
            assert reply.status == 503 and reply.headers["Retry-After"] == "1"
            assert reply.json()["error"]["code"] == "server_busy"
        assert wait_until(lambda: answers(server.url))


def test_of_a_member_twice_the_last_counts(scripted):
    for first, second, status in ((99, 1, 200), (1, 99, 400)):
        body = f'{{"n": {first}, "prompt": "a", "max_tokens": 1, "n": {second}}}'
        assert send(scripted.url, "POST", COMPLETIONS, body).status == status


def test_faults_are_named_by_their_request(fake):
    body = {"messages": [{"role": "user", "content": "[[disk]]"}]}
    reply = send(fake.url, "POST", CHAT, body, {"x-request-id": "mine-7"})
    assert reply.status == 500 and "mine-7" in reply.json()["error"]["message"]
    assert b"layer_0001" not in reply.body
    assert wait_until(lambda: re.search("id=mine-7 .*layer_0001", fake.log_text()))


@pytest.mark.parametrize("path, body, last", [
    (CHAT, {"messages": [{"role": "user", "content": "[[fail]]"}]}, "data: [DONE]"),
    (COMPLETIONS, {"prompt": "[[fail]]"}, "data: [DONE]"),
    (RESPONSES, {"input": "[[fail]]"}, "event: response.failed"),
    (MESSAGES, {"messages": [{"role": "user", "content": "[[fail]]"}], "max_tokens": 99},
     "event: error")])
def test_faults_in_a_stream(fake, path, body, last):
    reply = send(fake.url, "POST", path, body | {"stream": True})
    assert reply.status == 200
    events = reply.body.decode().strip().split("\n\n")
    assert events[-1].split("\n")[0] == last
    fault = events[-2] if last.endswith("[DONE]") else events[-1]
    assert ("api_error" if path == MESSAGES else "internal_error") in fault


def test_loading_says_how_far_it_is(loading):
    body = send(loading.url, "GET", "/v1/models").json()
    assert set(body["progress"]) == {"bytes_done", "bytes_total", "fraction"}
    health = send(loading.url, "GET", "/health").json()
    assert health["status"] == "loading" and set(health["progress"]) == set(body["progress"])
    assert send(loading.url, "GET", "/v1/nope").status == 404


def test_servers_still_answer(scripted, fake, locked):
    assert send(scripted.url, "POST", CHAT, {"messages": HELLO}).status == 200
    assert send(fake.url, "POST", CHAT, {"messages": HELLO}).status == 200
    key = {"Authorization": "Bearer secret"}
    assert send(locked.url, "POST", CHAT, {"messages": HELLO}, key).status == 200
