"""docs/serving.md taken apart: its examples and tables, and how an answer is compared with what the
page shows.

An example is a block of sh or python, and the block of json or text behind it is its answer. The
examples talk to http://127.0.0.1:8080, where tests put the address of their server. A comment
`<!-- server: FLAGS -->` before an example says with which flags its server runs.

In an answer `…` stands for what may differ: in a string for any text, as the last item of a list
for more items, as a member `"…": "…"` for more members, as a line for any lines. Numbers are equal,
but for times and counters (VARIES), of which there may be others.
"""
import contextlib
import io
import json
import pathlib
import re
import subprocess

PAGE = pathlib.Path(__file__).parents[2] / "docs/serving.md"
ADDRESS = "127.0.0.1:8080"
VARIES = re.compile(r"created|created_at|logprob|.*_?seconds|.*tok_s|.*_bytes|.*_age_s"
                    r"|total|tokens")  # of statistics


class Example:
    def __init__(self, line, language, code, flags):
        self.line, self.language, self.code, self.flags = line, language, code, flags
        self.kind = self.answer = None
        self.id = f"line_{line}"

    @property
    def starts_server(self):
        return self.code.startswith("mach serve")

    def run(self, address):
        """What it prints, talking to HOST:PORT."""
        code = self.code.replace(ADDRESS, address)
        if self.language == "sh":
            done = subprocess.run(["bash", "-euo", "pipefail", "-c", code], capture_output=True,
                                  text=True, timeout=60)
            assert done.returncode == 0, done.stderr
            return done.stdout
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * self.line + code, PAGE, "exec"), {"__name__": "example"})
        return printed.getvalue()

    def compare(self, printed):
        """What is not as the page shows it, or None."""
        if self.kind == "json":
            return differs(json.loads(self.answer), json.loads(printed))
        return text_differs(self.answer.splitlines(), printed.rstrip().splitlines())


def examples():
    """All of the page. Each block is one, or the answer to one."""
    found, flags, fence, block = [], "", None, []
    for number, line in enumerate(PAGE.read_text().splitlines(), 1):
        if not line.startswith("```"):
            if fence is not None:
                block.append(line)
            elif comment := re.fullmatch(r"<!-- server: (.*) -->", line):
                flags = comment[1]
            continue
        if fence is None:
            fence, start, block = line[3:], number, []
            continue
        code, where = "\n".join(block), f"{PAGE.name}:{start}"
        if fence in ("sh", "python"):
            found.append(Example(start, fence, code, flags))
            flags = ""
        else:
            assert fence in ("json", "text"), f"{where}: neither an example nor an answer"
            assert found and found[-1].answer is None, f"{where}: an answer to nothing"
            found[-1].kind, found[-1].answer = fence, code
        fence = None
    return found


def tables(heading):
    """The rows of the tables below a heading, up to the next of its level: lists of cells."""
    level = heading.split(" ")[0]
    rows, inside, head = [], False, True
    for line in PAGE.read_text().splitlines():
        if re.match(rf"#{{1,{len(level)}}} ", line):
            inside = line == heading
        if not inside or not line.startswith("|"):
            head = True
            continue
        if head:
            head = False  # the row of titles, and the rule below it
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not set("".join(cells)) <= set("-: "):
            rows.append(cells)
    assert rows, f"no tables below {heading}"
    return rows


def code_of(cell):
    """What stands in backticks in a cell."""
    return re.findall(r"`([^`]+)`", cell)


def like(shown, text):
    return re.fullmatch(".*".join(map(re.escape, shown.split("…"))), text, re.DOTALL)


def differs(shown, true, at="answer", key=""):
    if isinstance(shown, dict) and isinstance(true, dict):
        names = [name for name in shown if name != "…"]
        others = [name for name in true if name in names or "…" not in shown]
        if names != others:
            return f"{at}: has {list(true)}, not {list(shown)}"
        return first(differs(shown[name], true[name], f"{at}.{name}", name) for name in names)
    if isinstance(shown, list) and isinstance(true, list):
        more = bool(shown) and shown[-1] == "…"
        items = shown[:-1] if more else shown
        if len(true) < len(items) or (len(true) > len(items) and not more):
            return f"{at}: has {len(true)} items, not {len(shown)}"
        return first(differs(*pair, f"{at}[{i}]") for i, pair in enumerate(zip(items, true)))
    if isinstance(shown, str) and isinstance(true, str):
        return None if like(shown, true) else f"{at}: is {true!r}, not {shown!r}"
    if is_number(shown) and is_number(true) and VARIES.fullmatch(key):
        return None
    same = type(shown) is type(true) and shown == true
    return None if same else f"{at}: is {true!r}, not {shown!r}"


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def first(differences):
    return next((difference for difference in differences if difference), None)


def line_differs(shown, true):
    # An event of a stream, or what stands before its JSON.
    if shown.startswith("data: {") and true.startswith("data: {"):
        return differs(json.loads(shown[6:]), json.loads(true[6:]), true[:40])
    return None if like(shown, true) else f"is {true!r}, not {shown!r}"


def text_differs(shown, true):
    """`…` alone is any number of lines; the rest matches in order."""
    at = 0
    while at < len(shown):
        if shown[at] == "…":
            rest = shown[at + 1:]
            tries = [text_differs(rest, true[skip:]) for skip in range(at, len(true) + 1)]
            return None if None in tries else f"nowhere behind line {at}: {rest[0]!r}: {tries[0]}"
        if at == len(true):
            return f"ends before {shown[at]!r}"
        if difference := line_differs(shown[at], true[at]):
            return f"line {at + 1} {difference}"
        at += 1
    return None if at == len(true) else f"goes on with {true[at]!r}"
