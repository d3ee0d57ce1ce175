"""What `mach grammar` says of texts under a schema, for the scripts that ask it."""
import json
import subprocess
import tempfile

SECONDS = 300


class Walked:
    """`reason`: of a schema that is refused, else None; `answers`: for each text."""

    def __init__(self, mach, schema, texts):
        with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
            json.dump(schema, file)
            file.flush()
            done = subprocess.run([mach, "grammar", "--schema", file.name], capture_output=True,
                                  input="".join(text + "\n" for text in texts), encoding="utf-8",
                                  timeout=SECONDS)
        self.reason = None
        self.answers = done.stdout.splitlines()
        if done.returncode in (1, 2) and not done.stdout:
            self.reason = done.stderr.strip().replace(file.name, "FILE")
        elif done.returncode != 0 or len(self.answers) != len(texts):
            raise RuntimeError(f"mach grammar: exit {done.returncode}: {done.stderr[-2000:]}")
