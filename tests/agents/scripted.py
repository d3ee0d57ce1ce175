"""mach_scripted_server as a process: the server and all that is around a model, with a script for a
model. tests/scripted/script.h says what rules are. And mach_fake_server, whose engine fails on words
(tests/server/fake_engine.h).
"""
import dataclasses
import http.client
import json
import os
import pathlib
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

BUILD = pathlib.Path(os.environ.get("MACH_BUILD_DIR", "build/release"))
BINARY = BUILD / "tests/scripted/mach_scripted_server"
FAKE_BINARY = BUILD / "tests/server/mach_fake_server"


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


@dataclasses.dataclass
class Reply:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self):
        return json.loads(self.body)


def send(url, method, path, body=None, headers=None, timeout=60):
    """One request as it is, `path` from the root; the Reply, whatever its status."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=timeout)
    try:
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        connection.request(method, path, body.encode() if isinstance(body, str) else body,
                           headers or {})
        reply = connection.getresponse()
        return Reply(reply.status, reply.headers, reply.read())
    finally:
        connection.close()


class Process:
    """A server until it is stopped; a context manager. `url` ends with /v1, and is empty for one that
    is not waited for: not `ready`.
    """

    def __init__(self, *command, ready=True):
        self.log = tempfile.TemporaryFile("w+", prefix="mach-log-")
        self.process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE,
                                        stderr=self.log, text=True)
        self.url = ""
        if not ready:
            return
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


class Server(Process):
    """Serves `rules`."""

    def __init__(self, rules, *flags):
        self.files = tempfile.TemporaryDirectory(prefix="mach-scripted-")
        script = pathlib.Path(self.files.name) / "script.json"
        script.write_text(json.dumps({"rules": rules}))
        self.record = pathlib.Path(self.files.name) / "record"
        super().__init__(BINARY, "--script", script, "--record", self.record, *flags)

    def prompts(self):
        """What the model was asked, in order: {"at_s", "rule": its number, "prompt"}."""
        return [json.loads(line) for line in self.record.read_text().splitlines()]

    def stop(self):
        status = super().stop()
        self.files.cleanup()
        return status


def wait_until(check, seconds=10):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if check():
            return True
        time.sleep(0.02)
    return False
