#!/usr/bin/env python3
"""`mach grammar` against the JSON Schema Test Suite, drafts 7 and 2020-12.

A schema is either refused, by the name of a keyword, or enforced: then every valid instance can be
written and no invalid one. Grammars fix the order of members and the spelling of numbers, so an
instance counts as writable if one of its spellings is: members in any order, 1.0 also as 1.

usage: json_schema_suite.py MACH SUITE_SDIST [--list] [--only TEXT]
"""
import argparse
import collections
import concurrent.futures
import itertools
import json
import os
import pathlib
import re
import sys
import tarfile

from walked import Walked

MOST_SPELLINGS = 400
DRAFT_NAMES = {"draft7": "http://json-schema.org/draft-07/schema#",
               "draft2020-12": "https://json-schema.org/draft/2020-12/schema"}
# Valid instances that cannot be written: beginning of the file's name, part of the test's, and why.
NOT_WRITABLE = [
    ("format.json", "is only an annotation by default", "formats are enforced"),
    ("vocabulary.json", "no validation: invalid number", "a metaschema of its own changes nothing"),
    ("optional/format/", "", "no leap seconds, quoted mail addresses, punycode"),
]
# The least that has to be enforced; the rest of the suite is refused.
LEAST_ENFORCED = {"draft7": 185, "draft2020-12": 215}


def spellings(value):
    """JSON texts of a value, a bounded number of them."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        yield json.dumps(value, ensure_ascii=False)
    elif isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        yield str(int(value))
        yield json.dumps(value)
    elif isinstance(value, (int, float)):
        yield json.dumps(value)
    elif isinstance(value, list):
        for parts in itertools.islice(
                itertools.product(*[list(spellings(item)) for item in value]), MOST_SPELLINGS):
            yield "[" + ",".join(parts) + "]"
    else:
        for members in itertools.islice(itertools.permutations(value.items()), MOST_SPELLINGS):
            choices = [[json.dumps(key, ensure_ascii=False) + ":" + text
                        for text in spellings(item)] for key, item in members]
            for parts in itertools.islice(itertools.product(*choices), MOST_SPELLINGS):
                yield "{" + ",".join(parts) + "}"


def groups(sdist):
    with tarfile.open(sdist) as archive:
        for member in sorted(archive.getmembers(), key=lambda m: m.name):
            match = re.fullmatch(r"[^/]+/json/tests/(draft7|draft2020-12)/"
                                 r"((?:optional/format/)?[^/]+\.json)", member.name)
            if not match:
                continue
            for group in json.load(archive.extractfile(member)):
                yield match.group(1), match.group(2), group


class Outcome:
    def __init__(self):
        self.refused = None  # the reason
        self.tests = []      # (valid, writable, description, spelling)


def run_group(mach, job):
    draft, _, group = job
    schema = group["schema"]
    if isinstance(schema, dict) and "$schema" not in schema:
        schema = {"$schema": DRAFT_NAMES[draft], **schema}
    lines, owners = [], []
    for index, test in enumerate(group["tests"]):
        for text in itertools.islice(spellings(test["data"]), MOST_SPELLINGS):
            lines.append(text)
            owners.append(index)
    walked = Walked(mach, schema, lines)
    outcome = Outcome()
    if walked.reason is not None:
        outcome.refused = walked.reason
        return outcome
    for index, test in enumerate(group["tests"]):
        accepted = [text for text, owner, answer in zip(lines, owners, walked.answers)
                    if owner == index and answer == "accepted"]
        outcome.tests.append((test["valid"], bool(accepted), test["description"],
                              accepted[0] if accepted else json.dumps(test["data"])))
    return outcome


def keyword_of(reason):
    match = re.search(r"'([^']+)' (?:cannot be enforced|leads nowhere|cannot lead)", reason)
    if match:
        return match.group(1)
    return re.sub(r"^.*?(no grammar can be made of it|schema[^:]*): ", "", reason)[:60]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mach")
    parser.add_argument("sdist", type=pathlib.Path)
    parser.add_argument("--list", action="store_true", help="every schema that is refused, and why")
    parser.add_argument("--only", default="", help="files whose name holds this")
    options = parser.parse_args()
    sdist = options.sdist
    if sdist.is_dir():
        sdist = next(sdist.glob("jsonschema-*.tar.gz"))
    jobs = [job for job in groups(sdist) if options.only in job[1]]
    counts = collections.defaultdict(collections.Counter)
    refused = collections.Counter()
    wrong = []
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for job, outcome in zip(jobs, pool.map(lambda job: run_group(options.mach, job), jobs)):
            draft, file, group = job
            count = counts[draft]
            if outcome.refused is not None:
                count["schemas refused"] += 1
                refused[keyword_of(outcome.refused)] += 1
                if options.list:
                    print(f"refused {draft}/{file}: {group['description']}: {outcome.refused}")
                continue
            count["schemas enforced"] += 1
            for valid, writable, description, text in outcome.tests:
                known = any(file.startswith(at) and part in description
                            for at, part, _ in NOT_WRITABLE)
                if valid == writable:
                    count["valid, writable" if valid else "invalid, not writable"] += 1
                elif valid and known:
                    count["valid, not writable as documented"] += 1
                else:
                    what = "valid, not writable" if valid else "invalid, writable"
                    count[what] += 1
                    wrong.append(f"{what}: {draft}/{file}: {group['description']}: {description}: "
                                 f"{text}")
    for draft, count in counts.items():
        print(f"{draft}: " + ", ".join(f"{n} {what}" for what, n in sorted(count.items())))
        if not options.only and count["schemas enforced"] < LEAST_ENFORCED[draft]:
            wrong.append(f"{draft}: only {count['schemas enforced']} schemas are enforced")
    print("refused by: " + ", ".join(f"{name} {n}" for name, n in refused.most_common()))
    for line in wrong:
        print("WRONG " + line)
    passed = sum(count["schemas enforced"] + count["schemas refused"] for count in counts.values())
    print(f"{passed - len(wrong)} passed, {len(wrong)} failed")
    return 1 if wrong or not jobs else 0


if __name__ == "__main__":
    sys.exit(main())
