#!/usr/bin/env python3
"""Calls and reasoning in outputs of real models: the cases of the package canitoolcall, as text and
as tokens, in many splits, and the formats of real chat templates.

usage: toolcalls.py MACH_BINARY [DIRECTORY_OF_TEMPLATE_ARCHIVE]

A case is judged by the package's own checks, which tell apart equal and equal up to whitespace
around text. One rule is ours (docs/parsing.md): of an output that was cut off inside a call, the
call is reported with arguments that are not JSON, so that no client runs it. Such a call is left
out before the checks.
"""
import collections
import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import zipfile

from canitoolcall import checks, fixtures
from canitoolcall.results import Observation, ParsedToolCall, ParseResult, Status

MACH = str(pathlib.Path(sys.argv[1]).absolute())
ARCHIVES = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else None
SPLITS = ("whole", "line", "char", "byte", "2", "3", "5", "8", "13")

# family or, where a family has several formats, variant: call format, reasoning format
FORMATS = {
    "qwen3-hermes": ("hermes", "qwen3"),
    "qwen3-xml": ("qwen3_coder", "qwen3"),
    "gpt-oss": ("harmony", "none"),
    "deepseek-v32": ("deepseek_v32", "deepseek_v4"),
    "deepseek-v4": ("deepseek_v4", "deepseek_v4"),
    "deepseek-v41": ("deepseek_v41", "deepseek_v4"),
    "gemma4": ("gemma4", "gemma4"),
}

QWEN3 = {151657: "<tool_call>", 151658: "</tool_call>", 151667: "<think>", 151668: "</think>"}
QWEN35 = {248058: "<tool_call>", 248059: "</tool_call>", 248068: "<think>", 248069: "</think>"}
HARMONY = {200002: "<|return|>", 200003: "<|constrain|>", 200005: "<|channel|>",
           200006: "<|start|>", 200007: "<|end|>", 200008: "<|message|>", 200012: "<|call|>"}
GEMMA4 = {48: "<|tool_call>", 49: "<tool_call|>", 52: '<|"|>', 100: "<|channel>",
          101: "<channel|>"}
DEEPSEEK_V32 = {128793: "｜DSML｜", 128798: "<think>", 128799: "</think>"}
DEEPSEEK_V4 = {128825: "｜DSML｜", 128821: "<think>", 128822: "</think>"}
# Ids of the special tokens that formats use, by the name of the model that a case is for.
SPECIAL_IDS = ((r"Qwen3\.\d", QWEN35), ("Qwen3", QWEN3), ("gpt-oss", HARMONY), ("gemma-4", GEMMA4),
               (r"DeepSeek-V3\.2", DEEPSEEK_V32), ("DeepSeek-V4", DEEPSEEK_V4))

# What is detected of each template: call format, reasoning format.
TEMPLATES = {
    "cohere": ("none", "none"), "cohere2": ("none", "none"),
    "deepseek_r1_distill": ("none", "deepseek_r1"), "deepseekv3": ("none", "deepseek_r1"),
    "diffusion_gemma": ("gemma4", "gemma4"), "gemma": ("none", "none"), "gemma3": ("none", "none"),
    "gemma4": ("gemma4", "gemma4"), "gemma4_v2": ("gemma4", "gemma4"),
    "gemma4_v3": ("gemma4", "gemma4"), "gemma4_v4": ("gemma4", "gemma4"),
    "gemma4_v5": ("gemma4", "gemma4"), "glm4moe": ("none", "qwen3"), "gptoss": ("harmony", "none"),
    "idefics3": ("none", "none"), "lfm2": ("none", "none"), "lfm2_2_5": ("none", "qwen3"),
    "lfm2_2_5_v2": ("none", "qwen3"), "lfm2_2_5_vl": ("none", "qwen3"), "lfm2_v2": ("none", "none"),
    "llama3": ("none", "none"), "llama3_1": ("none", "none"), "llama3_2": ("none", "none"),
    "llava_next": ("none", "none"), "muse_glimmer": ("none", "none"),
    "nemotron_3_5_lightning": ("qwen3_coder", "qwen3"), "nemotron_3_nano": ("qwen3_coder", "qwen3"),
    "nemotron_3_super": ("qwen3_coder", "qwen3"), "nemotron_3_ultra": ("qwen3_coder", "qwen3"),
    "phi3": ("none", "none"), "phi3_5": ("none", "none"), "qwen2_5": ("hermes", "none"),
    "qwen2_5_vl": ("none", "none"), "qwen3": ("hermes", "qwen3"),
    "qwen3_5_nothink": ("qwen3_coder", "qwen3"), "qwen3_5_think": ("qwen3_coder", "qwen3"),
    "qwen3_6": ("qwen3_coder", "qwen3"), "qwen3_8": ("qwen3_coder", "qwen3"),
    "qwen3_instruct_2507": ("hermes", "none"), "qwen3_vl": ("hermes", "none"),
    "smolvlm": ("none", "none"),
}


def variant(case):
    if case.family != "deepseek":
        return case.family
    return next((tag[2:] for tag in case.tags if tag.startswith("x-deepseek-")), "")


def special_ids(case):
    return next(ids for name, ids in SPECIAL_IDS if re.search(name, case.reference_model))


def pieces_of(case):
    """The output as pieces: special tokens, and the text between them. The text of a special token
    counts as one where the next special id is that token's: others are written with ordinary ones.
    """
    texts = special_ids(case)
    expected = [texts[i] for i in case.output_token_ids if i in texts]
    pattern = re.compile("|".join(re.escape(text) for text in texts.values()))
    pieces, at = [], 0
    for found in pattern.finditer(case.raw_output):
        if expected and expected[0] == found.group():
            expected.pop(0)
            pieces.append({"text": case.raw_output[at:found.start()]})
            pieces.append({"text": found.group(), "special": True})
            at = found.end()
    pieces.append({"text": case.raw_output[at:]})
    if expected:
        raise ValueError(f"{case.id}: {expected} are not in its text")
    return [piece for piece in pieces if piece["text"]]


def starts_in(case):
    prompt = case.generation_prompt or ""
    return "reasoning" if prompt.rstrip().endswith("<think>") else "content"


def joined(deltas):
    content, reasoning, calls = "", "", {}
    for delta in deltas:
        content += delta.get("content") or ""
        reasoning += delta.get("reasoning_content") or ""
        for part in delta.get("tool_calls", ()):
            call = calls.setdefault(part["index"], ["", ""])
            call[0] += part["function"].get("name") or ""
            call[1] += part["function"].get("arguments") or ""
    return content, reasoning, list(calls.values())


def result(content, reasoning, calls, cut_off):
    if cut_off and calls:
        try:
            json.loads(calls[-1][1])
        except ValueError:
            calls = calls[:-1]
    return ParseResult(content=content, reasoning_content=reasoning,
                       tool_calls=tuple(ParsedToolCall(name, text) for name, text in calls))


def parse(command, data, cut_off):
    """(not streamed, streamed)"""
    run = subprocess.run(command, input=data.encode(), capture_output=True, check=False)
    if run.returncode != 0:
        failed = ParseResult(exception=f"exit {run.returncode}: {run.stderr.decode()[:200]}")
        return failed, failed
    output = json.loads(run.stdout)
    message = output["message"]
    calls = [(call["function"]["name"], call["function"]["arguments"])
             for call in message.get("tool_calls", ())]
    whole = result(message["content"], message.get("reasoning_content"), calls, cut_off)
    return whole, result(*joined(output["deltas"]), cut_off)


def judge(case, family, directory):
    """(failures, whether equal up to whitespace only)"""
    call_format, reasoning = FORMATS[variant(case)]
    stem = pathlib.Path(directory) / case.id.replace("/", "_")
    tools, tokens = f"{stem}.tools.json", f"{stem}.tokens.json"
    pathlib.Path(tools).write_text(json.dumps([dict(tool) for tool in case.tools]))
    pathlib.Path(tokens).write_text(json.dumps(list(special_ids(case).values())))
    command = [MACH, "parse", "--format", call_format, "--reasoning", reasoning, "--starts-in",
               starts_in(case), "--tools", tools, "--ended", "length" if case.truncated else "stop"]
    pieces = pieces_of(case)
    inputs = {"tokens": (["--pieces", "--special-tokens", tokens],
                         "".join(json.dumps(piece) + "\n" for piece in pieces))}
    pattern = "|".join(re.escape(text) for text in special_ids(case).values())
    if not any(re.search(pattern, piece["text"]) for piece in pieces if not piece.get("special")):
        inputs["text"] = ([], case.raw_output)
    failures, soft = [], False
    for kind, (flags, data) in inputs.items():
        whole, streams = None, {}
        for split in SPLITS:
            message, stream = parse([*command, *flags, "--split", split], data, case.truncated)
            whole = whole or message
            streams[split] = stream
        for row in checks.run_checks(case, family, Observation(nonstream=whole, streams=streams)):
            soft = soft or row.status is Status.SOFT_PASS
            if row.status not in (Status.PASS, Status.SOFT_PASS):
                failures.append(f"{kind} {row.strategy}: {row.check}: {row.detail}")
    return failures, soft


def check_templates():
    """Failures, and how many templates were looked at; none where no directory is given."""
    failures, count = [], 0
    archives = sorted(ARCHIVES.glob("*.whl")) if ARCHIVES else []
    if ARCHIVES and not archives:
        return [f"no archive of templates in {ARCHIVES}"], 1
    for archive in archives:
        with zipfile.ZipFile(archive) as names, tempfile.TemporaryDirectory() as directory:
            for name in names.namelist():
                if not name.endswith(".jinja"):
                    continue
                stem = pathlib.PurePath(name).stem
                known = TEMPLATES.get(stem.removesuffix("_training"))
                path = names.extract(name, directory)
                run = subprocess.run([MACH, "parse", "--detect", path], capture_output=True,
                                     text=True, check=False)
                found = tuple(json.loads(run.stdout).values()) if run.returncode == 0 else None
                count += 1
                if found != known:
                    failures.append(f"template {stem}: {found}, not {known}")
    return failures, count


def main():
    families = fixtures.load_families()
    cases = [case for case in fixtures.load_fixtures() if variant(case) in FORMATS]
    table = collections.defaultdict(collections.Counter)
    failed = 0
    with tempfile.TemporaryDirectory() as directory, \
            concurrent.futures.ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        jobs = [pool.submit(judge, case, families[case.family], directory) for case in cases]
        for case, job in zip(cases, jobs):
            failures, soft = job.result()
            outcome = "failed" if failures else "up to whitespace" if soft else "equal"
            kind = "expected value" if case.expected is not None else "expected error"
            table[variant(case)][f"{kind}, {outcome}"] += 1
            failed += bool(failures)
            for failure in failures[:3]:
                print(f"FAILED {case.id} {failure}")
    for name in FORMATS:
        print(f"{name}: " + "; ".join(f"{count} {what}" for what, count in
                                      sorted(table[name].items())))
    template_failures, templates = check_templates()
    for failure in template_failures:
        print(f"FAILED {failure}")
    failed += len(template_failures)
    print(f"{len(cases) + templates - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
