#!/usr/bin/env python3
"""Published JSON schemas under a real and a random model: does all that is written under a schema that
is accepted validate, and what are the others refused for?

    real_schemas.py [--real models/SmolLM2-135M-Instruct] [--tries 2] [--max-tokens 400]
                    [--every 1] [--only TEXT] [--list] [--seed 1]

Each schema is sent to `mach serve` as response_format, over HTTP: to a real model, and as often to a
checkpoint of `mach synth`, whose random choices go wherever the grammar lets them. An answer that
ended by itself has to parse and to validate with jsonschema-rs, formats included; of one that
max_tokens cut off, every byte has to be one that the grammar allows. Random weights hardly ever end a
text: logit_bias helps the bytes that close one. It changes what is likely, not what is allowed.

Then answers that ended are changed in small ways and walked through the grammar (`mach grammar`): a
change that is not valid must not be writable. Valid ones that are not writable are counted too; those
that are only of another order or spelling are among them.

Needs MACH_BIN (default build/release/bin/mach), pip, and for the real model ./dev model. Exit 1 if
anything is wrong.
"""
import argparse
import collections
import copy
import decimal
import json
import math
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import time

import schema_collection
import serving

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests/grammar"))
from walked import Walked  # noqa: E402

MACH = os.environ.get("MACH_BIN", "build/release/bin/mach")
MODELS = ("real", "random")
# What helps the random model to an end, in its tries in turn: short texts at all costs, long texts
# in few members, short texts in many.
BIASES = ({'"': 8, "}": 5, "]": 5}, {'"': 6, "}": 3, "]": 3}, {'"': 9, ",": 2}, {'"': 8, "}": 1, "]": 3})
CHANGES = 30     # of the answers to a schema
SECONDS = 300    # for one answer


def keyword_of(reason):
    match = re.search(r"'([^']+)' (?:cannot be enforced|leads nowhere|cannot lead|leads round|is a)",
                      reason)
    if match and match.group(1) == "format":
        return "format " + reason.rsplit(": ", 1)[-1].strip('"')
    if match and match.group(1) == "pattern":
        return "pattern: " + re.sub(r"^.* has (an? )?", "", reason, flags=re.S)
    if match:
        return match.group(1)
    return re.sub(r"^.*?(no grammar can be made of it|schema[^:]*): ", "", reason)[:70]


def exact(text):
    """A number, also one that is too large for a double."""
    try:
        return decimal.Decimal(text)
    except decimal.DecimalException:
        return decimal.Decimal("-1e9999" if text.startswith("-") else "1e9999")


def in_one_line(text):
    """White space that holds line ends as a space, which may stand where it may. No string has one."""
    return re.sub(r"\n[ \n\t]*", " ", text)


def is_reachable(schema, text):
    answer = Walked(MACH, schema, [in_one_line(text)]).answers[0]
    match = re.fullmatch(r"refused at byte (\d+) of (\d+)", answer)
    return not match or match.group(1) == match.group(2)


def changed(value, dice):
    """One small change somewhere in a copy of a JSON value."""
    value = copy.deepcopy(value)
    places = []

    def visit(node, put):
        places.append((node, put))
        if isinstance(node, dict):
            for key in node:
                visit(node[key], lambda new, node=node, key=key: node.__setitem__(key, new))
        elif isinstance(node, list):
            for i, item in enumerate(node):
                visit(item, lambda new, node=node, i=i: node.__setitem__(i, new))

    root = [value]
    visit(value, lambda new: root.__setitem__(0, new))
    node, put = dice.choice(places)
    kind = dice.randrange(3)
    if isinstance(node, dict) and node and kind == 0:
        del node[dice.choice(list(node))]
    elif isinstance(node, dict) and kind == 1:
        node[dice.choice(["zz", "x-other", "0"])] = dice.choice([1, "a", {}, []])
    elif isinstance(node, list) and node and kind == 0:
        del node[dice.randrange(len(node))]
    elif isinstance(node, list) and kind == 1:
        node.append(copy.deepcopy(dice.choice(node)) if node else dice.choice([1, "a", {}]))
    elif isinstance(node, str) and kind < 2:
        put(dice.choice([node[:-1], node + "a", node * 3, "", node.upper()]))
    elif isinstance(node, (int, float)) and not isinstance(node, bool) and kind < 2:
        put(dice.choice([node + 1, node - 1, -node, node * 1000, 0, 0.5]))
    else:
        put(dice.choice([None, True, 0, -1, 3.5, "", "abc", [], {}, [1], {"a": 1}]))
    return root[0]


class Bench:
    def __init__(self, options, validators):
        self.options = options
        self.validators = validators
        self.refused = collections.Counter()
        self.examples = {}
        self.schemas = collections.defaultdict(collections.Counter)   # of each kind
        self.answers = collections.defaultdict(collections.Counter)   # of each model
        self.sizes = collections.defaultdict(list)                    # bytes of those that ended
        self.changes = collections.Counter()
        self.compile_ms = []
        self.wrong = []
        self.unwritable = []

    def fail(self, what, published, detail=""):
        self.wrong.append(f"{what}: {published.name}: {detail}")
        print("WRONG " + self.wrong[-1][:600], flush=True)

    def validator(self, published):
        try:
            return self.validators.validator_for(published.schema, validate_formats=True,
                                                 offline=True)
        except Exception as error:  # of whatever kind: it is the other side's
            return str(error)

    def ask(self, server, published, try_index, model, max_tokens=None):
        body = {"messages": [{"role": "user", "content":
                              f"Write an example of {published.name} as JSON."}],
                "max_tokens": max_tokens or self.options.max_tokens, "temperature": 1.0,
                "seed": self.options.seed + try_index,
                "response_format": {"type": "json_schema", "json_schema": {
                    "name": "x", "schema": published.schema}}}
        if model == "random":
            body["logit_bias"] = {str(ord(byte)): bias for byte, bias
                                  in BIASES[try_index % len(BIASES)].items()}
        return server.post("/v1/chat/completions", body, SECONDS)

    def admit(self, server, published):
        """Whether the schema is accepted; a refusal is counted."""
        times_s = []
        for _ in range(2):  # the second time it is compiled already
            begin_s = time.monotonic()
            status, reply = self.ask(server, published, 0, "random", max_tokens=1)
            times_s.append(time.monotonic() - begin_s)
        if status == 200:
            self.compile_ms.append(((times_s[0] - times_s[1]) * 1000, published.name))
            self.schemas[published.kind]["accepted"] += 1
            return True
        reason = reply.get("error", {}).get("message", "")
        if status != 400 or not reason:
            self.fail(f"status {status}", published, json.dumps(reply))
        keyword = keyword_of(reason)
        self.refused[keyword] += 1
        self.examples.setdefault(keyword, f"{published.name}: {reason[:160]}")
        self.schemas[published.kind]["refused"] += 1
        if self.options.list:
            print(f"refused {published.kind} {published.name}: {reason[:300]}")
        return False

    def generate(self, server, published, model, validator):
        """The answers that ended."""
        ended = []
        for try_index in range(self.options.tries):
            count = self.answers[model]
            status, reply = self.ask(server, published, try_index, model)
            if status != 200:
                self.fail(f"status {status} while generating", published, json.dumps(reply))
                continue
            choice = reply["choices"][0]
            text = choice["message"]["content"] or ""
            if choice["finish_reason"] == "length":
                count["cut off"] += 1
                if not is_reachable(published.schema, text):
                    self.fail("not reachable", published, text)
                continue
            if choice["finish_reason"] != "stop":
                self.fail(f"ended with {choice['finish_reason']}", published, text)
                continue
            try:
                value = json.loads(text, parse_float=exact)
            except ValueError as error:
                self.fail(f"no JSON ({error})", published, text)
                continue
            count["ended"] += 1
            self.sizes[model].append(len(text))
            if "Infinity" in json.dumps(json.loads(text)):  # valid, but few can read it
                count["ended, a number beyond double precision"] += 1
            else:
                ended.append(json.loads(text))
            if isinstance(validator, str):
                count["ended, the validator does not take the schema"] += 1
                continue
            error = next(validator.iter_errors(value), None)
            if error is None:
                count["ended, valid"] += 1
            else:
                self.fail("not valid", published, f"{text} -- {str(error)[:300]}")
        return ended

    def change(self, published, ended, validator):
        dice = random.Random(f"{self.options.seed} {published.name}")
        texts = {}
        for _ in range(CHANGES if ended else 0):
            value = changed(dice.choice(ended), dice)
            texts[json.dumps(value, ensure_ascii=False)] = value
        texts = {text: value for text, value in texts.items() if "\\u" not in text}
        if not texts:
            return
        walked = Walked(MACH, published.schema, list(texts))
        if walked.reason is not None:
            self.fail("refused by mach grammar alone", published, walked.reason)
            return
        for (text, value), answer in zip(texts.items(), walked.answers):
            valid, writable = validator.is_valid(value), answer == "accepted"
            self.changes[f"{'valid' if valid else 'not valid'}, "
                         f"{'writable' if writable else 'not writable'}"] += 1
            if writable and not valid:
                self.fail("not valid but writable", published,
                          f"{text} -- {str(next(validator.iter_errors(value)))[:300]}")
            elif valid and not writable:
                self.unwritable.append(f"{published.name}: {text}: {answer}")

    def run(self, servers, schemas):
        # The vocabulary is read with the first schema.
        self.ask(servers["random"], schema_collection.Published("", "", {}), 0, "random", 1)
        for published in schemas:
            validator = self.validator(published)
            if isinstance(validator, str):
                self.schemas[published.kind]["not taken by the validator"] += 1
            if not self.admit(servers["random"], published):
                continue
            ended = []
            for model in servers:
                ended += self.generate(servers[model], published, model, validator)
            if not isinstance(validator, str):
                self.change(published, ended, validator)
            elif self.options.list:
                print(f"the validator does not take {published.name}: {validator[:200]}")

    def report(self):
        for kind, count in self.schemas.items():
            print(f"{kind}: " + ", ".join(f"{n} {what}" for what, n in count.items()))
        total = sum(self.schemas.values(), collections.Counter())
        print(f"all: {total['accepted']} accepted, {total['refused']} refused, of which by")
        for keyword, n in self.refused.most_common():
            print(f"  {n:4d} {keyword}    ({self.examples[keyword]})")
        for model, count in self.answers.items():
            sizes = sorted(self.sizes[model]) or [0]
            print(f"answers of the {model} model: "
                  + ", ".join(f"{n} {what}" for what, n in count.items())
                  + f"; characters: median {sizes[len(sizes) // 2]}, most {sizes[-1]}")
        print("changed answers: " + ", ".join(f"{n} {what}" for what, n in self.changes.items()))
        if self.compile_ms:
            times = sorted(self.compile_ms)
            at = [times[min(len(times) - 1, math.floor(share * len(times)))][0]
                  for share in (0.5, 0.9)]
            print(f"compile: median {at[0]:.1f} ms, 90 % {at[1]:.1f} ms, most {times[-1][0]:.1f} ms "
                  f"({times[-1][1]})")
        if self.options.list:
            for line in self.unwritable:
                print("valid, not writable: " + line[:400])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=pathlib.Path, default="models/real-schemas",
                        help="packages, fetched if they are not there")
    parser.add_argument("--real", default="models/SmolLM2-135M-Instruct",
                        help="checkpoint of the real model; empty: without one")
    parser.add_argument("--tries", type=int, default=2, help="answers of a model under each schema")
    parser.add_argument("--max-tokens", type=int, default=400)
    parser.add_argument("--every", type=int, default=1, help="take one schema in so many")
    parser.add_argument("--only", default="", help="schemas whose name or kind holds this")
    parser.add_argument("--list", action="store_true", help="each refusal, and what is not writable")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    schema_collection.fetch(options.data)
    schemas = [published for published in schema_collection.collect(options.data)[::options.every]
               if options.only in published.name or options.only == published.kind]
    bench = Bench(options, schema_collection.validator_module(options.data))
    with tempfile.TemporaryDirectory(prefix="mach-schemas-") as name:
        directory = pathlib.Path(name)
        synthetic = directory / "random"
        subprocess.run([MACH, "synth", "--shape", "tiny", "--out", synthetic], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        checkpoints = dict(zip(MODELS, (options.real, synthetic)))
        servers = {model: serving.Server(MACH, checkpoint, ["--backend", "openai"],
                                         directory / f"{model}.log")
                   for model, checkpoint in checkpoints.items() if checkpoint}
        try:
            for model, server in servers.items():
                if not server.wait_ready():
                    sys.exit(f"{model}: the server did not start: {server.log_text()[-2000:]}")
            bench.run(servers, schemas)
        finally:
            codes = [server.stop() for server in servers.values()]
    if any(codes):
        bench.wrong.append(f"servers ended with {codes}")
    bench.report()
    for line in bench.wrong:
        print("WRONG " + line[:1000])
    print(f"{len(schemas) - len(bench.wrong)} passed, {len(bench.wrong)} failed")
    return 1 if bench.wrong or not schemas else 0


if __name__ == "__main__":
    sys.exit(main())
