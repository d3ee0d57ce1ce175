"""OpenCode, the real program, in a scratch repository: the scripted model reads one file and edits
another with OpenCode's own tools.
"""
import json
import os
import pathlib
import platform
import re
import subprocess

import pytest

from scripted import Server, call

HERE = pathlib.Path(__file__).parent
OPENCODE = HERE / "node_modules/opencode-linux-x64-baseline/bin/opencode"
TITLE = {"contains": "title generator", "text": "Greeting in a file, made polite as notes want it"}
SLOW_TITLE = TITLE | {"token_ms": 500}  # about ten seconds

# The program that the package opencode-ai starts; it comes for other processors as other packages.
pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="OpenCode is for x86-64")


def configure(home, url, context=65536, output=4096):
    """The configuration of examples/opencode, with this server and these limits."""
    example = HERE.parents[1] / "examples/opencode/.opencode-config/opencode/opencode.json"
    root = json.loads(example.read_text())
    provider = root["provider"]["mach"]
    provider["options"]["baseURL"] = url
    provider["models"]["local"]["limit"] = {"context": context, "output": output}
    directory = home / "config/opencode"
    directory.mkdir(parents=True)
    (directory / "opencode.json").write_text(json.dumps(root))


def run(home, repository, prompt, timeout=60):
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(home), "TERM": "dumb",
        "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1",
        "OPENCODE_DISABLE_MODELS_FETCH": "1", "OPENCODE_DISABLE_AUTOUPDATE": "1",
        "OPENCODE_DISABLE_LSP_DOWNLOAD": "1", "OPENCODE_DISABLE_DEFAULT_PLUGINS": "1",
        **{f"XDG_{kind.upper()}_HOME": str(home / kind)
           for kind in ("config", "data", "cache", "state")}}
    return subprocess.run([OPENCODE, "run", "-m", "mach/local", prompt], cwd=repository,
                          env=environment, capture_output=True, text=True, timeout=timeout,
                          stdin=subprocess.DEVNULL)


@pytest.fixture
def repository(tmp_path):
    path = tmp_path / "work"
    path.mkdir()
    (path / "notes.txt").write_text("Greetings are polite here.\n")
    (path / "hello.py").write_text('def greet(name):\n    return f"hi {name}"\n')
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "start"]):
        subprocess.run(git + command, cwd=path, check=True)
    return path


def test_reads_and_edits(tmp_path, repository):
    edit = {"filePath": str(repository / "hello.py"), "oldString": '    return f"hi {name}"',
            "newString": '    return f"Good day, {name}!  <b> ü 🚀"'}
    rules = [
        SLOW_TITLE,
        {"contains": "Good day", "after_tool": True, "text": "The greeting is polite now."},
        {"contains": "Greetings are polite", "after_tool": True,
         "reasoning": "The notes want politeness.", "text": call("edit", edit)},
        {"last": "polite as the notes", "reasoning": "First the notes.\nAnd the code.",
         "text": "I look at both.\n\n" + call("read", {"filePath": str(repository / "notes.txt")})
                 + "\n" + call("read", {"filePath": str(repository / "hello.py")})},
    ]
    home = tmp_path / "home"
    with Server(rules, "--served-model-name", "local") as server:
        configure(home, server.url)
        done = run(home, repository, "Make hello.py polite as the notes want it.")
        prompts = server.prompts()
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    assert (repository / "hello.py").read_text() == \
        'def greet(name):\n    return f"Good day, {name}!  <b> ü 🚀"\n'
    assert "The greeting is polite now." in done.stdout

    # A title is asked for at the same time; the rest does not wait for it.
    title = [p for p in prompts if p["rule"] == 0]
    steps = [p for p in prompts if p["rule"] != 0]
    assert [p["rule"] for p in steps] == [3, 2, 1] and len(title) == 1
    assert steps[0]["at_s"] - title[0]["at_s"] < 10

    tools = re.findall(r'"name": "(\w+)"', steps[0]["prompt"].split("</tools>")[0])
    assert {"read", "edit", "write", "bash"} <= set(tools)
    assert steps[0]["prompt"].count('"type": "function"') >= 9

    # Each turn is the one before with more behind it: calls and reasoning come back as they were.
    assert steps[1]["prompt"].count("<tool_response>") == 2
    assert "<function=read>" in steps[1]["prompt"]
    assert "First the notes.\nAnd the code." in steps[1]["prompt"]
    for before, after in zip(steps, steps[1:]):
        assert after["prompt"].startswith(before["prompt"].removesuffix("<think>\n"))


def test_compacts_when_the_context_is_full(tmp_path, repository):
    long = repository / "long.txt"
    long.write_text("".join(f"line {i} of a long file with words in it\n" for i in range(1500)))
    rules = [
        TITLE,
        {"contains": "Keep every section", "text": "SUMMARY: the file was too long."},
        {"contains": "SUMMARY: the file", "text": "All is done after the summary."},
        {"last": "long.txt", "text": call("read", {"filePath": str(long)})},
    ]
    home = tmp_path / "home"
    with Server(rules, "--served-model-name", "local", "--max-context", 24000) as server:
        # OpenCode believes in more than there is, so that it is told.
        configure(home, server.url, context=200000, output=2000)
        done = run(home, repository, "What is in long.txt?")
        prompts = server.prompts()
        log = server.log_text()
    print(done.stdout, done.stderr)
    assert log.count('"status":400') == 1
    assert "maximum context length is 24000 tokens" in done.stderr
    assert [p["rule"] for p in prompts if p["rule"] != 0] == [3, 1, 2]
    assert "All is done after the summary." in done.stdout


def test_subagents_run_at_the_same_time(tmp_path, repository):
    def task(part):
        return call("task", {"description": f"part {part}", "prompt": f"do part {part} of it",
                             "subagent_type": "general"})

    def answer(part):
        return {"last": f"do part {part}", "lacks": "share the work", "token_ms": 150,
                "text": f"This is the answer of part {part}, said word by word and slowly."}

    rules = [
        TITLE,
        {"after_tool": True, "contains": ["answer of part 1", "answer of part 2"],
         "text": "Both parts are done."},
        answer(1),
        answer(2),
        {"last": "share the work", "text": task(1) + "\n" + task(2)},
    ]
    home = tmp_path / "home"
    with Server(rules, "--served-model-name", "local") as server:
        configure(home, server.url)
        done = run(home, repository, "Please share the work.")
        prompts = server.prompts()
    print(done.stdout, done.stderr)
    assert done.returncode == 0 and "Both parts are done." in done.stdout
    begun = [p["at_s"] for p in prompts if p["rule"] in (2, 3)]
    assert len(begun) == 2 and begun[1] - begun[0] < 4  # each takes longer
