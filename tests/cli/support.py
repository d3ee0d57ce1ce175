"""What the command-line tests share: checkpoints to serve, and a server as a child process."""
import json
import pathlib
import shutil
import subprocess
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "golden"


def byte_tokenizer():
    """A tokenizer.json whose tokens 0..255 are the bytes (byte-level BPE without merges)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letter = {byte: chr(byte) for byte in printable}
    letter.update({byte: chr(256 + i) for i, byte in enumerate(others)})
    return json.dumps({
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": {letter[byte]: byte for byte in range(256)},
                  "merges": []},
    })


def make_checkpoint(mach, golden, directory):
    """A golden checkpoint as an engine checkpoint with a sidecar and a tokenizer."""
    source = pathlib.Path(directory) / f"{golden}-source"
    out = pathlib.Path(directory) / golden
    shutil.copytree(GOLDEN / golden, source, ignore=shutil.ignore_patterns("golden.*"))
    (source / "tokenizer.json").write_text(byte_tokenizer())
    (source / "tokenizer_config.json").write_text("{}")
    subprocess.run([mach, "convert", source, "--out", out], check=True, capture_output=True)
    shutil.rmtree(source)
    return out


def expert_bytes(checkpoint):
    """(bytes of a record, of all records, experts that a token uses in a layer)."""
    config = json.loads((checkpoint / "config.json").read_text())
    config = config.get("text_config", config)
    files = sorted((checkpoint / "expert_sidecar").glob("layer_*.bin"))
    record = files[0].stat().st_size // config["num_experts"]
    return record, sum(path.stat().st_size for path in files), config["num_experts_per_tok"]


class Server:
    """`mach serve` on a free port, from start-up lines to exit code."""

    def __init__(self, mach, checkpoint, *flags):
        self.process = subprocess.Popen(
            [mach, "serve", checkpoint, "--port", "0", "--log-level", "warning", *map(str, flags)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.errors = []
        self.reader = threading.Thread(target=self.errors.extend, args=(self.process.stderr,))
        self.reader.start()
        self.lines = []
        self.url = None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if line.startswith("serving on "):
                self.url = line.split()[2]
                break

    def wait_for_log(self, text, seconds=20):
        """The lines of the log that hold `text`, once there are any; none if that takes too long."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            lines = [line for line in list(self.errors) if text in line]
            if lines:
                return lines
            time.sleep(0.02)
        return []

    def __enter__(self):
        if self.url is None:
            self.stop()
            raise RuntimeError("the server did not start: " + "".join(self.errors))
        return self

    def __exit__(self, *_):
        self.stop()

    def signal(self):
        """The key=value pairs of the start-up lines."""
        return dict(pair.split("=", 1) for line in self.lines for pair in line.split()
                    if "=" in pair)

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
        return self.wait()

    def kill(self):
        self.process.kill()
        return self.wait()

    def wait(self):
        code = self.process.wait()
        self.reader.join()
        self.process.stdout.close()
        self.process.stderr.close()
        return code
