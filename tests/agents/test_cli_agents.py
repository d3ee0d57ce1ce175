"""Other agents for the command line, the real programs, in a scratch repository: the scripted model
reads two files and edits one with each agent's own tools.

An agent is looked for in tests/agents/node_modules and in the directories of MACH_AGENTS, which are what
`npm install --prefix` made. Where it is in none of them, its test is skipped.
"""
import dataclasses
import os
import pathlib
import platform
import subprocess
import sys
from collections.abc import Callable

import pytest

from scripted import Server, call

HERE = pathlib.Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples/agents"
PLACES = [HERE] + [pathlib.Path(p) for p in os.environ.get("MACH_AGENTS", "").split(":") if p]
LINUX = "linux-" + {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), "x64")

OLD = '    return f"hi {name}"'
NEW = '    return f"Good day, {name}!  <b> ü 🚀"'
ASKED = "Make hello.py polite as the notes want it."


@dataclasses.dataclass
class Agent:
    name: str
    package: str  # what npm calls it, in the version that was tried
    program: str  # below node_modules
    config: dict  # files below examples/agents, and where they belong below the home directory
    arguments: list
    read: tuple[str, Callable]  # the tool's name, and its arguments for a path
    edit: tuple[str, Callable]
    environment: dict = dataclasses.field(default_factory=dict)
    keeps_reasoning: bool = True


AGENTS = [
    Agent("pi", "@earendil-works/pi-coding-agent@1.6.0", ".bin/pi",
          {"pi/models.json": ".pi/agent/models.json"},
          ["--provider", "mach", "--model", "local", "-p", ASKED],
          ("read", lambda path: {"path": path}),
          ("edit", lambda path: {"path": path, "edits": [{"oldText": OLD, "newText": NEW}]}),
          {"PI_OFFLINE": "1"}),
    Agent("cline", f"@cline/cli-{LINUX}@3.0.65", f"@cline/cli-{LINUX}/bin/cline",
          {f"cline/{name}.json": f".cline/data/settings/{name}.json"
           for name in ("providers", "global-settings")},
          [ASKED],
          ("read_files", lambda path: {"files": [{"path": path}]}),
          ("editor", lambda path: {"path": path, "old_text": OLD, "new_text": NEW}),
          {"CLINE_SESSION_BACKEND_MODE": "local"}),
    Agent("codex", "@openai/codex@0.171.0", ".bin/codex",
          {"codex/config.toml": ".codex/config.toml"},
          ["exec", "--dangerously-bypass-approvals-and-sandbox", ASKED],
          ("exec_command", lambda path: {"cmd": f"cat '{path}'"}),
          ("exec_command", lambda path: {
              "cmd": f"cat > '{path}' <<'END'\ndef greet(name):\n{NEW}\nEND"})),
    Agent("qwen-code", "@qwen-code/qwen-code@0.24.4", ".bin/qwen",
          {"qwen-code/settings.json": ".qwen/settings.json"},
          ["--approval-mode", "yolo", "-p", ASKED],
          ("read_file", lambda path: {"file_path": path}),
          ("edit", lambda path: {"file_path": path, "old_string": OLD, "new_string": NEW})),
    Agent("claude-code", f"@anthropic-ai/claude-code-{LINUX}@2.1.332",
          f"@anthropic-ai/claude-code-{LINUX}/claude",
          {"claude-code/settings.json": ".claude/settings.json"},
          ["-p", "--permission-mode", "acceptEdits", ASKED],
          ("Read", lambda path: {"file_path": path}),
          ("Edit", lambda path: {"file_path": path, "old_string": OLD, "new_string": NEW}),
          keeps_reasoning=False),
]


def program_of(agent):
    for place in PLACES:
        program = place / "node_modules" / agent.program
        if program.exists():
            return program
    pytest.skip(f"{agent.name} is not installed: npm install --prefix DIR {agent.package}, "
                "then MACH_AGENTS=DIR")


def run(agent, program, home, repository, url):
    """The agent with the configuration of its example, and this server."""
    for example, place in agent.config.items():
        (home / place).parent.mkdir(parents=True, exist_ok=True)
        (home / place).write_text((EXAMPLES / example).read_text().replace(
            "http://127.0.0.1:8080", url.removesuffix("/v1")))
    # Whatever wants to leave this machine is refused at once.
    nowhere = "http://127.0.0.1:9"
    environment = {
        "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",  # Node.js is there too
        "HOME": str(home), "TERM": "dumb", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1",
        "HTTP_PROXY": nowhere, "HTTPS_PROXY": nowhere, "https_proxy": nowhere, **agent.environment}
    return subprocess.run([program, *agent.arguments], cwd=repository, env=environment,
                          capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.name)
def test_reads_and_edits(agent, tmp_path):
    program = program_of(agent)
    repository = tmp_path / "work"
    repository.mkdir()
    notes, code = repository / "notes.txt", repository / "hello.py"
    notes.write_text("Greetings are polite here.\n")
    code.write_text(f"def greet(name):\n{OLD}\n")
    subprocess.run(["git", "init", "-q"], cwd=repository, check=True)

    def calls(tool, *paths):
        return "\n".join(call(tool[0], tool[1](str(path))) for path in paths)

    rules = [
        {"contains": "Good day", "after_tool": True, "text": "The greeting is polite now."},
        {"contains": "Greetings are polite", "after_tool": True,
         "reasoning": "The notes want politeness.", "text": calls(agent.edit, code)},
        {"contains": ASKED, "reasoning": "First the notes.\nAnd the code.",
         "text": "I look at both.\n\n" + calls(agent.read, notes, code)},
    ]
    with Server(rules, "--served-model-name", "local") as server:
        done = run(agent, program, tmp_path / "home", repository, server.url)
        prompts = server.prompts()
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    assert code.read_text() == f"def greet(name):\n{NEW}\n"
    assert "The greeting is polite now." in done.stdout
    assert [p["rule"] for p in prompts] == [2, 1, 0]

    for tool in agent.read[0], agent.edit[0]:
        assert f'"name": "{tool}"' in prompts[0]["prompt"]

    # Each turn is the one before with more behind it.
    assert ("First the notes.\nAnd the code." in prompts[1]["prompt"]) == agent.keeps_reasoning
    for before, after in zip(prompts, prompts[1:]):
        assert after["prompt"].startswith(before["prompt"].removesuffix("<think>\n"))
