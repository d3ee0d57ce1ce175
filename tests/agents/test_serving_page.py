"""docs/serving.md says what is so: each example is run and its answer compared with the one shown, and
the tables are compared with the program.
"""
import os
import pathlib
import re
import subprocess
import urllib.parse

import pytest

import serving_page
from scripted import BUILD, Process, Server, call, send
from serving_page import code_of, examples, tables
from test_errors import ANTHROPIC_TYPES, ERRORS, INVALID

SOURCE = pathlib.Path(__file__).parents[2] / "src"
MACH = pathlib.Path(os.environ.get("MACH_BIN", BUILD / "bin/mach"))
MODEL = pathlib.Path(os.environ.get("MACH_MODEL", "models/SmolLM2-135M-Instruct"))
EXAMPLES = examples()
# What the examples' model says.
RULES = [
    {"after_tool": True, "text": "It is 18 °C and clear in Paris."},
    {"last": "weather in Paris", "text": call("get_weather", {"city": "Paris"})},
    {"last": "capital of France", "text": "Paris."},
    {"last": "17 * 23", "reasoning": "17 * 20 is 340, and 17 * 3 is 51. Together that is 391.",
     "text": "391."},
    {"last": "Ada Lovelace", "text": '{"name": "Ada Lovelace", "born": 1815}'},
    {"last": "Yes or no", "text": "Yes"},
    {"last": "Count to five", "token_ms": 2, "text": "1, 2, 3, 4, 5"},
    {"last": "Once upon a time", "text": " there was a king who could not sleep."},
]


@pytest.fixture(scope="module")
def server_with():
    """One server for each set of flags, with the name that the examples use."""
    running = {}

    def serve(flags):
        if flags not in running:
            running[flags] = Server(RULES, "--served-model-name", "local", "--max-context", 32768,
                                    *flags.split())
        return running[flags]

    yield serve
    for server in running.values():
        server.stop()


@pytest.mark.parametrize("example", [e for e in EXAMPLES if not e.starts_server],
                         ids=lambda example: example.id)
def test_example(example, server_with):
    assert example.answer is not None, "it shows no answer"
    server = server_with(example.flags)
    printed = example.run(urllib.parse.urlsplit(server.url).netloc)
    if not example.flags:
        server.wait_idle()  # for the next one's statistics
    difference = example.compare(printed)
    assert difference is None, f"{difference}\n{printed}"


@pytest.mark.parametrize("example", [e for e in EXAMPLES if e.starts_server],
                         ids=lambda example: example.id)
def test_start(example):
    words = example.code.replace("8080", "0").split()
    assert words[:3] == ["mach", "serve", "models/SmolLM2-135M-Instruct"] and example.answer is None
    if not MODEL.exists():
        pytest.skip(f"there is no {MODEL}")
    with Process(MACH, "serve", MODEL, *words[3:]) as server:
        reply = send(server.url, "POST", "/v1/chat/completions", {
            "model": "local", "max_tokens": 3, "messages": [{"role": "user", "content": "Hi"}]})
        assert reply.status == 200, reply.body


def test_comparing_can_fail():
    """What the page shows is not taken for whatever comes."""
    same, text = serving_page.differs, serving_page.text_differs
    shown = {"id": "a-…", "n": 1, "created": 5, "list": [1, "…"], "sub": {"a": None, "…": "…"}}
    true = {"id": "a-7", "n": 1, "created": 9, "list": [1, 2], "sub": {"a": None, "b": 2}}
    assert same(shown, true) is None
    for change in ({"id": "b-7"}, {"n": 2}, {"n": True}, {"n": "1"}, {"created": "9"}, {"list": [2]},
                   {"list": []}, {"sub": {"b": 2}}, {"sub": {"a": 0, "b": 2}}, {"more": 1}):
        assert same(shown, true | change), change
    assert same(shown, {key: value for key, value in true.items() if key != "n"})
    assert text(["a", "…", "d…"], ["a", "b", "c", "de"]) is None
    for lines in (["b", "d"], ["a", "b"], ["a", "d", "e"], []):
        assert text(["a", "…", "d…"], lines), lines
    assert text(['data: {"a":1}'], ['data: {"a":2}']) and not text(['data: {"a":1}'], ['data: {"a": 1}'])


def routes(server):
    """What the server has, as {path: methods}: it says so of each path that its source names."""
    found = {}
    for file in (SOURCE / "server").glob("*.cc"):
        for path in re.findall(r'"(/[^"\s\\]*)"', file.read_text()):
            reply = send(server.url, "OPTIONS", path)
            if reply.status == 204:
                found[path] = set(reply.headers["Allow"].split(", ")) - {"HEAD", "OPTIONS"}
    return found


def test_endpoints(server_with):
    listed = {}
    for cell, _ in tables("## Endpoints"):
        for entry in code_of(cell):
            method, path = entry.split(" ")
            listed.setdefault(path, set()).add(method)
    assert listed == routes(server_with(""))
    code = "\n".join(example.code for example in EXAMPLES)
    for path in listed:
        if path not in ("/", "/page/{file}"):
            assert path.replace("{id}", "local") in code, f"{path} has no example"


def test_paths(server_with):
    url = server_with("").url
    for path in ("/v1/models", "/v1/models/", "/v1/models/local", "/health/", "/metrics"):
        whole, head = send(url, "GET", path), send(url, "HEAD", path)
        assert whole.status == head.status == 200 and whole.body and not head.body
        assert whole.headers["Content-Type"] == head.headers["Content-Type"]
    assert send(url, "OPTIONS", "/v1/models").headers["Allow"] == "GET, HEAD, OPTIONS"


def test_errors():
    listed = [(int(status), code_of(kind)[0], (code_of(code) or [None])[0])
              for _, status, kind, code in tables("## Errors")]
    assert len(listed) == len(set(listed))
    assert set(listed) == set(ERRORS.values())
    # And there are no others in the source.
    source = (SOURCE / "api/errors.cc").read_text()
    made = re.findall(r"Make\(\s*(\d+),(?:[^;]*?)\"(\w*)\"\);", source)
    assert len(made) == len(re.findall(r"\bMake\(\s*\d", source))
    made = {(int(status), code or None) for status, code in made}
    refused = re.findall(r"Refuse\((\d+)", (SOURCE / "http/session.cc").read_text())
    made |= {(int(status), "server_busy" if status == "503" else None) for status in refused}
    assert made == {(status, code) for status, _, code in listed}


def test_types_of_messages():
    listed = {int(status): code_of(kind)[0] for cell, kind in tables("### Errors of messages")
              for status in re.findall(r"\b\d{3}\b", cell)}
    statuses = {status for status, _, _ in ERRORS.values()}
    assert listed == {status: ANTHROPIC_TYPES.get(status, INVALID)
                      for status in statuses}


def test_headers():
    listed = [{name.lower() for cell, *_ in tables(heading) for name in code_of(cell)}
              for heading in ("### Headers of a request", "### Headers of an answer")]
    source = "".join(file.read_text() for folder in ("http", "server")
                     for file in sorted((SOURCE / folder).glob("*.cc")))
    read = set(re.findall(r'Header\("([\w-]+)"\)', source))
    read |= {name.replace("_", "-") for name in re.findall(r"http::field::(\w+)", source)}
    sent = {name.lower() for name in re.findall(
        r'(?:emplace_back\(|line\(|\{\{?)"([A-Z][\w-]*[a-z][\w-]*|x-[\w-]+)",', source)}
    sent |= {name.lower() for name in re.findall(r'"(Content-Length|Transfer-Encoding): ', source)}
    assert listed[0] == read | {"content-length", "connection"}
    assert listed[1] == sent


def test_fields():
    """Each field that is read is on the page."""
    page = re.sub(r"^```.*?^```", "", serving_page.PAGE.read_text(), flags=re.DOTALL | re.MULTILINE)
    known = set(re.findall(r"\w+", " ".join(code_of(page.replace("``", "")))))
    for file in sorted((SOURCE / "api").glob("*.cc")):
        text = file.read_text()
        names = re.findall(r'\b(?:Bool|String|Integer|Number|Object|Array|Find|RefuseUnless)'
                           r'\("([a-z_]+)"', text)
        names += re.findall(r'Parse\w+\(fields, "([a-z_]+)"', text)
        names += re.findall(r'^      \{"([a-z_]+)", ', text, re.MULTILINE)
        missing = set(names) - known
        assert not missing, f"{file.name} reads {sorted(missing)}"


def help_flags():
    """{flag: default or ""} of `mach serve --help`, in its order."""
    text = subprocess.run([MACH, "serve", "--help"], capture_output=True, text=True, check=True,
                          timeout=60).stdout
    texts, flag = {}, None
    for line in text.splitlines():
        if option := re.match(r"  (--\S+)(.*)", line):
            flag = re.sub(r"\{\w+\}", "", option[1])
            texts[flag] = option[2]
        elif flag and line.startswith("    "):
            texts[flag] += "  " + line.strip()
        else:
            flag = None
    return {flag: default_of(text) for flag, text in texts.items()}


def default_of(text):
    """Behind the type, or as the words have it."""
    kind, _, words = text.partition("  ")
    if shown := re.search(r"=(\S+)$", kind):
        return shown[1]
    said = re.search(r"\(default: ([^)]*)\)|Default: (\w+)", words)
    return (said[1] or said[2]) if said else ""


def test_flags():
    listed = {}
    for cell, default, _ in tables("## Flags of mach serve"):
        names = [name.split(" ")[0] for name in code_of(cell)]
        listed[",".join(names)] = default.replace("`", "")
    assert list(listed.items()) == list(help_flags().items())
