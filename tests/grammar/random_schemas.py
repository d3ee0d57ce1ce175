#!/usr/bin/env python3
"""`mach grammar` against the validator jsonschema, on small random schemas that put the keywords together
in ways that nobody would.

A schema is refused, or then each of some random values is writable exactly if it is valid. Members come
in an order that the grammar chooses, so a value counts as writable if one of its orders is.

usage: random_schemas.py MACH [--schemas 1000] [--seed 1]
"""
import argparse
import itertools
import json
import random
import sys

import jsonschema

from walked import Walked

DRAFT = "https://json-schema.org/draft/2020-12/schema"
NAMES = ["a", "b", "c"]
TYPES = ["null", "boolean", "integer", "number", "string", "array", "object"]
PATTERNS = ["a", "^ab?$", "[^a]"]
MEMBER_PATTERNS = ["^a", "b", "^[bc]$", "c$"]
NAME_SCHEMAS = [{"pattern": "^[ab]"}, {"maxLength": 1}, {"minLength": 1}, {"enum": ["a", "c"]},
                {"not": {"const": "b"}}, {"type": "string"}, True, False]
DEPTH = 3
VALUES = 25
MOST_ORDERS = 400


class Dice(random.Random):
    def value(self, depth):
        kind = self.randrange(12 if depth else 8)
        if kind >= 10:
            return [self.value(depth - 1) for _ in range(self.randrange(4))]
        if kind >= 8:
            return {name: self.value(depth - 1) for name in NAMES if self.random() < 0.5}
        return self.choice([None, True, False, 0, 1, 2, 3, -1, 10, 0.5, 1.5, -2.25,
                            "", "a", "a", "ab", "b", "b", "abc", "é", "xyz"])

    def schemas(self, depth, most):
        return [self.schema(depth) for _ in range(self.randint(1, most))]

    def keyword(self, depth):
        """Some keywords that belong together, as members of a schema."""
        below = depth - 1
        flat = [
            lambda: {"type": self.choice(TYPES)},
            lambda: {"type": self.sample(TYPES, 2)},
            lambda: {"enum": [self.value(1) for _ in range(self.randint(1, 3))]},
            lambda: {"const": self.value(1)},
            lambda: {"required": self.sample(NAMES, self.randint(1, 2))},
            lambda: {"dependentRequired": {self.choice(NAMES):
                                           self.sample(NAMES, self.randint(0, 2))}},
            lambda: {"propertyNames": self.choice(NAME_SCHEMAS)},
            lambda: {self.choice(["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]):
                     self.choice([0, 1, 2, 0.5, -1])},
            lambda: {self.choice(["minLength", "maxLength", "minItems", "maxItems",
                                  "minProperties", "maxProperties"]): self.choice([0, 1, 2])},
            lambda: {"multipleOf": self.choice([1, 2, 0.5])},
            lambda: {"pattern": self.choice(PATTERNS)},
            lambda: {"$ref": "#/$defs/" + self.choice("xy")},
        ]
        deep = [
            lambda: {"properties": {name: self.schema(below) for name in NAMES
                                    if self.random() < 0.6}},
            lambda: {"additionalProperties": self.choice([False, self.schema(below)])},
            lambda: {"patternProperties": {self.choice(MEMBER_PATTERNS): self.schema(below)}},
            lambda: {self.choice(["anyOf", "allOf", "oneOf"]): self.schemas(below, 3)},
            lambda: {"not": self.schema(below)},
            lambda: {"if": self.schema(below), "then": self.schema(below),
                     **({"else": self.schema(below)} if self.random() < 0.6 else {})},
            lambda: {"dependentSchemas": {self.choice(NAMES): self.schema(below)}},
            lambda: {"items": self.schema(below)},
            lambda: {"prefixItems": self.schemas(below, 2)},
        ]
        return self.choice(flat + deep if depth else flat)()

    def schema(self, depth):
        if self.random() < 0.05:
            return self.random() < 0.6
        schema = {}
        for _ in range(self.choice([1, 1, 2, 2, 3])):
            schema.update(self.keyword(depth))
        return schema


def orders(value):
    """JSON texts of a value, its members in each order."""
    if isinstance(value, dict):
        for members in itertools.permutations(value.items()):
            for parts in itertools.product(*[list(orders(item)) for _, item in members]):
                yield "{" + ",".join(json.dumps(name) + ":" + text for (name, _), text
                                     in zip(members, parts)) + "}"
    elif isinstance(value, list):
        for parts in itertools.product(*[list(orders(item)) for item in value]):
            yield "[" + ",".join(parts) + "]"
    else:
        yield json.dumps(value, ensure_ascii=False)


def check(mach, schema, values):
    """None for a schema that is refused, else what is wrong: texts."""
    lines, owners = [], []
    for index, value in enumerate(values):
        for text in itertools.islice(orders(value), MOST_ORDERS):
            lines.append(text)
            owners.append(index)
    try:
        walked = Walked(mach, schema, lines)
    except RuntimeError as error:
        return [str(error)]
    if walked.reason is not None:
        return None
    writable = {owner for owner, answer in zip(owners, walked.answers) if answer == "accepted"}
    validator = jsonschema.Draft202012Validator(schema)
    wrong = []
    for index, value in enumerate(values):
        if validator.is_valid(value) != (index in writable):
            what = "not valid, writable" if index in writable else "valid, not writable"
            wrong.append(f"{what}: {json.dumps(value)}")
    return wrong


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mach")
    parser.add_argument("--schemas", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    dice = Dice(options.seed)
    enforced = refused = failed = 0
    for _ in range(options.schemas):
        schema = dice.schema(DEPTH)
        schema = {"$schema": DRAFT, **(schema if isinstance(schema, dict) else {}),
                  "$defs": {"x": dice.schema(1), "y": dice.schema(1)}}
        wrong = check(options.mach, schema, [dice.value(2) for _ in range(VALUES)])
        if wrong is None:
            refused += 1
            continue
        enforced += 1
        failed += bool(wrong)
        for what in wrong:
            print(f"WRONG {what} under {json.dumps(schema)}")
    print(f"seed {options.seed}: {enforced} enforced, {refused} refused")
    failed += 3 * enforced < options.schemas  # then nothing is tested
    print(f"{enforced + refused - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
