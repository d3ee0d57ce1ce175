"""The official Python client, unmodified, against a running server with any model.

Nothing here depends on what the model says, only on how the server says it.
"""
import concurrent.futures
import json
import threading
import time
import urllib.request

import openai
import pytest

MESSAGES = [{"role": "user", "content": "Count from one to ten in words."}]


@pytest.fixture(scope="session")
def client(base_url):
    return openai.OpenAI(base_url=base_url, api_key="local", max_retries=0, timeout=120)


@pytest.fixture(scope="session")
def model(client):
    return client.models.list().data[0].id


@pytest.fixture
def chat(client, model):
    def run(**fields):
        fields.setdefault("messages", MESSAGES)
        fields.setdefault("max_tokens", 16)
        fields.setdefault("temperature", 0)
        return client.chat.completions.create(model=model, **fields)

    return run


def get(base_url, path):
    with urllib.request.urlopen(base_url.removesuffix("/v1") + path, timeout=30) as reply:
        return reply.read().decode()


def stats(base_url):
    return json.loads(get(base_url, "/v1/stats"))


def wait_until(check, seconds=10):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if check():
            return True
        time.sleep(0.02)
    return False


# --- models and reports ---------------------------------------------------------------------------


def test_models(client, model):
    entry = client.models.retrieve(model)
    assert entry.id == model and entry.object == "model" and entry.created > 0
    assert entry.max_model_len > 0
    with pytest.raises(openai.NotFoundError) as failure:
        client.models.retrieve("no-such-model")
    assert failure.value.code == "model_not_found"


def test_reports(base_url, model):
    capabilities = json.loads(get(base_url, "/v1/capabilities"))
    assert capabilities["model"] == model
    assert set(capabilities) == {"model", "backend", "supported", "arch", "serving", "grammar"}
    assert "active" in stats(base_url)["requests"]
    assert "prefix_cache" in json.loads(get(base_url, "/v1/cache/stats"))
    assert "mach_http_responses_total" in get(base_url, "/metrics")
    assert json.loads(get(base_url, "/health"))["status"] == "ok"


# --- chat -----------------------------------------------------------------------------------------


def test_chat(chat, model):
    reply = chat()
    assert reply.object == "chat.completion" and reply.model == model
    assert reply.id.startswith("chatcmpl-")
    choice = reply.choices[0]
    assert choice.message.role == "assistant" and choice.message.content
    assert choice.finish_reason in ("stop", "length")
    assert reply.usage.completion_tokens <= 16
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert reply.usage.prompt_tokens_details.cached_tokens >= 0
    assert reply._request_id


def test_stream_equals_whole(chat):
    whole = chat()
    chunks = list(chat(stream=True, stream_options={"include_usage": True}))
    assert {chunk.id for chunk in chunks} == {chunks[0].id}
    assert all(chunk.object == "chat.completion.chunk" for chunk in chunks)
    first = chunks[0].choices[0].delta
    assert first.role == "assistant" and first.content == ""
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    reasons = [c.choices[0].finish_reason for c in chunks if c.choices]
    assert reasons[:-1] == [None] * (len(reasons) - 1)
    assert reasons[-1] == whole.choices[0].finish_reason
    assert chunks[-1].choices == [] and chunks[-1].usage == whole.usage
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_continuous_usage(chat):
    options = {"include_usage": True, "continuous_usage_stats": True}
    counts = [c.usage.completion_tokens for c in chat(stream=True, stream_options=options)]
    assert counts == sorted(counts) and counts[-1] > 0


def test_same_seed_same_text(chat):
    texts = {chat(seed=7, temperature=1.0).choices[0].message.content for _ in range(3)}
    assert len(texts) == 1


def test_n(chat):
    reply = chat(n=3, temperature=1.0, seed=1, max_tokens=8)
    assert [choice.index for choice in reply.choices] == [0, 1, 2]
    assert reply.usage.completion_tokens > 8
    seen = {}
    for chunk in chat(n=3, temperature=1.0, seed=1, max_tokens=8, stream=True):
        for choice in chunk.choices:
            seen[choice.index] = seen.get(choice.index, "") + (choice.delta.content or "")
    assert seen == {choice.index: choice.message.content for choice in reply.choices}


def test_stop_string(chat):
    text = chat(max_tokens=40).choices[0].message.content
    stop = text[len(text) // 2 :][:3]
    reply = chat(max_tokens=40, stop=[stop])
    choice = reply.choices[0]
    assert choice.finish_reason == "stop" and choice.stop_reason == stop
    assert choice.message.content == text[: text.index(stop)]
    kept = chat(max_tokens=40, stop=stop, extra_body={"include_stop_str_in_output": True})
    assert kept.choices[0].message.content == text[: text.index(stop)] + stop
    streamed = "".join(
        c.choices[0].delta.content or "" for c in chat(max_tokens=40, stop=stop, stream=True)
    )
    assert streamed == choice.message.content


def test_length_and_min_tokens(chat):
    reply = chat(max_tokens=5, extra_body={"ignore_eos": True})
    assert reply.choices[0].finish_reason == "length"
    assert reply.usage.completion_tokens == 5
    reply = chat(max_tokens=12, extra_body={"min_tokens": 12})
    assert reply.usage.completion_tokens == 12


def test_logprobs(chat):
    reply = chat(logprobs=True, top_logprobs=3, max_tokens=6)
    content = reply.choices[0].logprobs.content
    assert content and all(entry.logprob <= 0 for entry in content)
    assert all(len(entry.top_logprobs) == 3 for entry in content)
    joined = b"".join(bytes(entry.bytes) for entry in content).decode(errors="replace")
    assert joined.startswith(reply.choices[0].message.content)
    streamed = []
    for chunk in chat(logprobs=True, top_logprobs=3, max_tokens=6, stream=True):
        if chunk.choices and chunk.choices[0].logprobs:
            streamed += chunk.choices[0].logprobs.content
    assert streamed == content


def test_message_forms(chat):
    reply = chat(
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "developer", "content": "Be kind."},
            {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
            {"role": "assistant", "content": None},
            {"role": "user", "content": "More"},
            {"role": "user", "content": "Even more"},
        ]
    )
    assert reply.choices[0].finish_reason


# --- completions ------------------------------------------------------------------------------------


def test_completions(client, model):
    def run(prompt, **fields):
        return client.completions.create(
            model=model, prompt=prompt, max_tokens=8, temperature=0, **fields
        )

    one = run("Once upon a time")
    assert one.object == "text_completion" and one.id.startswith("cmpl-")
    assert one.choices[0].text
    two = run(["Once upon a time", "The capital of France is"])
    assert [choice.index for choice in two.choices] == [0, 1]
    assert two.choices[0].text == one.choices[0].text
    assert run([1, 2, 3]).usage.prompt_tokens == 3
    streamed = "".join(c.choices[0].text for c in run("Once upon a time", stream=True) if c.choices)
    assert streamed == one.choices[0].text
    logprobs = run("Once", logprobs=2).choices[0].logprobs
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.text_offset)
    assert logprobs.text_offset[0] == 0
    for token, top in zip(logprobs.tokens, logprobs.top_logprobs):
        assert token in top and len(top) <= 3
    sampled = run("Once", logprobs=0).choices[0].logprobs
    assert [list(top) for top in sampled.top_logprobs] == [[token] for token in sampled.tokens]


# --- errors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields, param",
    [
        ({"messages": []}, "messages"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": 7}, "top_p"),
        ({"n": 1000}, "n"),
        ({"stop": ""}, "stop"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"extra_body": {"max_tokens": "many"}}, "max_tokens"),
        ({"extra_body": {"stream_options": {"include_usage": True}}}, "stream_options"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "data:,"}}]}]},
         "messages[0].content[0].type"),
    ],
)
def test_bad_requests(chat, fields, param):
    with pytest.raises(openai.BadRequestError) as failure:
        chat(**fields)
    assert failure.value.param == param
    assert failure.value.type == "invalid_request_error"


def test_bad_request_in_a_stream_is_plain_json(chat):
    with pytest.raises(openai.BadRequestError):
        chat(temperature=-1, stream=True)


def test_context_overflow(chat):
    with pytest.raises(openai.BadRequestError) as failure:
        chat(max_tokens=1_000_000_000)
    assert failure.value.code == "context_length_exceeded"
    assert "This model's maximum context length is" in str(failure.value)


def test_unknown_model(client):
    with pytest.raises(openai.NotFoundError) as failure:
        client.chat.completions.create(model="no-such-model", messages=MESSAGES)
    assert failure.value.code == "model_not_found"


def test_huge_prompts(chat):
    with pytest.raises(openai.BadRequestError):
        chat(messages=[{"role": "user", "content": "word " * 4_000_000}])
    with pytest.raises(openai.APIStatusError) as failure:
        chat(messages=[{"role": "user", "content": "x" * 100_000_000}])
    assert failure.value.status_code == 413


# --- cancellation and load ----------------------------------------------------------------------------


def test_closing_a_stream_cancels_it(base_url, chat):
    before = stats(base_url)["requests"]["cancelled"]
    stream = chat(max_tokens=2000, stream=True, extra_body={"ignore_eos": True})
    for count, _ in enumerate(stream):
        if count == 3:
            break
    stream.close()
    assert wait_until(lambda: stats(base_url)["requests"]["cancelled"] > before)
    assert wait_until(lambda: stats(base_url)["requests"]["active"] == 0)


def test_dropping_a_whole_request_cancels_it(base_url, client, model):
    before = stats(base_url)["requests"]["cancelled"]
    impatient = client.with_options(timeout=0.3)
    with pytest.raises(openai.APITimeoutError):
        impatient.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "[[slow]] Tell me a long story."}],
            max_tokens=2000, extra_body={"ignore_eos": True})
    assert wait_until(lambda: stats(base_url)["requests"]["cancelled"] > before)
    assert wait_until(lambda: stats(base_url)["requests"]["active"] == 0)


def test_leaving_the_queue(base_url, chat):
    blocker = chat(max_tokens=2000, stream=True, extra_body={"ignore_eos": True})
    next(iter(blocker))
    before = stats(base_url)["requests"]["cancelled"]
    waiting = chat(max_tokens=5, stream=True)
    waiting.close()
    assert wait_until(lambda: stats(base_url)["requests"]["cancelled"] > before)
    blocker.close()
    assert wait_until(lambda: stats(base_url)["requests"]["active"] == 0)


def test_parallel_requests(chat):
    alone = chat(seed=3, temperature=1.0).choices[0].message.content
    barrier = threading.Barrier(8)

    def run(streamed):
        barrier.wait()
        if not streamed:
            return chat(seed=3, temperature=1.0).choices[0].message.content
        chunks = chat(seed=3, temperature=1.0, stream=True)
        return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(run, [i % 2 == 0 for i in range(8)]))
    assert set(texts) == {alone}
