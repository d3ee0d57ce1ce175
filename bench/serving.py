"""A `mach serve` process for the scripts beside this file: start, ask, stop or kill.

Standard library only. The server picks a free port and says so in its log, which is kept in a file.
"""
import http.client
import json
import subprocess
import time


class Server:
    """Starts at once; wait_ready() before asking. As a context manager it stops the server."""

    def __init__(self, mach, checkpoint, flags, log_path):
        self.log_path = log_path
        self.port = None
        self.log = open(log_path, "wb")
        self.process = subprocess.Popen(
            [str(part) for part in [mach, "serve", checkpoint, "--port", 0, "--log-format", "json",
                                    *flags]],
            stdout=self.log, stderr=self.log)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def log_text(self):
        return self.log_path.read_text(errors="replace")

    def wait_ready(self, timeout_s=600):
        """False if the process ended before it was ready."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and self.process.poll() is None:
            for line in self.log_text().splitlines():
                if '"listening"' in line and line.startswith("{"):
                    self.port = json.loads(line)["port"]
                if '"model ready"' in line:
                    return True
            time.sleep(0.02)
        return False

    def post(self, path, body, timeout_s=600):
        """(status, parsed body)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            reply = connection.getresponse()
            return reply.status, json.loads(reply.read())
        finally:
            connection.close()

    def get(self, path, timeout_s=60):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def answer(self, prompt, tokens, seed=None):
        """The tokens of one answer with their log probabilities: greedy, or sampled with a seed."""
        body = {"messages": [{"role": "user", "content": prompt}], "max_tokens": tokens,
                "ignore_eos": True, "logprobs": True}
        body.update({"temperature": 0} if seed is None else {"temperature": 1.0, "seed": seed})
        status, reply = self.post("/v1/chat/completions", body)
        if status != 200:
            raise RuntimeError(f"status {status}: {json.dumps(reply)[:500]}")
        content = reply["choices"][0]["logprobs"]["content"]
        return [(token["token"], token["logprob"]) for token in content]

    def stop(self):
        """SIGTERM; returns the exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        return self._wait()

    def kill(self):
        """SIGKILL."""
        self.process.kill()
        return self._wait()

    def _wait(self):
        try:
            return self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
        finally:
            self.log.close()
