"""mach_scripted_server as a process: the server and all that is around a model, with a script for a
model. tests/scripted/script.h says what rules are.
"""
import json
import os
import pathlib
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

BUILD = pathlib.Path(os.environ.get("MACH_BUILD_DIR", "build/release"))
BINARY = BUILD / "tests/scripted/mach_scripted_server"


def call(name, arguments, form="qwen3_coder"):
    """A call as the model writes it."""
    if form == "hermes":
        body = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
        return f"<tool_call>\n{body}\n</tool_call>"
    written = "".join(
        f"<parameter={key}>\n"
        f"{value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}\n"
        "</parameter>\n"
        for key, value in arguments.items())
    return f"<tool_call>\n<function={name}>\n{written}</function>\n</tool_call>"


class Server:
    """Serves `rules` until it is stopped; a context manager. `url` ends with /v1."""

    def __init__(self, rules, *flags):
        self.files = tempfile.TemporaryDirectory(prefix="mach-scripted-")
        script = pathlib.Path(self.files.name) / "script.json"
        script.write_text(json.dumps({"rules": rules}))
        self.record = pathlib.Path(self.files.name) / "record"
        self.log = open(pathlib.Path(self.files.name) / "log", "w+")
        self.process = subprocess.Popen(
            [str(part) for part in [BINARY, "--script", script, "--record", self.record, *flags]],
            stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.url = ""
        for line in self.process.stdout:
            if line.startswith("serving on "):
                self.url = line.split()[-1]
                break
        if not self.url:
            raise RuntimeError(f"the server did not start: {self.log_text()}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def log_text(self):
        self.log.seek(0)
        return self.log.read()

    def prompts(self):
        """What the model was asked, in order: {"at_s", "rule": its number, "prompt"}."""
        return [json.loads(line) for line in self.record.read_text().splitlines()]

    def get(self, path):
        """(status, parsed body)"""
        return self._ask(path, None)

    def post(self, path, body):
        return self._ask(path, body)

    def stats(self):
        return self.get("/stats")[1]

    def wait_idle(self, seconds=10):
        return wait_until(lambda: self.stats()["requests"]["active"] == 0, seconds)

    def stop(self):
        self.process.terminate()
        try:
            status = self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        self.process.stdout.close()
        self.log.close()
        self.files.cleanup()
        return status

    def _ask(self, path, body):
        request = urllib.request.Request(
            self.url + path, None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return reply.status, json.loads(reply.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())


def wait_until(check, seconds=10):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if check():
            return True
        time.sleep(0.02)
    return False
