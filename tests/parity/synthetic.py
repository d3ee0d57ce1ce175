"""Small tokenizer.json files for the components that the real tokenisers do not use."""
import json
import pathlib

from corpus import SAMPLES


def byte_chars():
    keep = list(range(0x21, 0x7f)) + list(range(0xa1, 0xad)) + list(range(0xae, 0x100))
    chars, extra = {}, 0
    for byte in range(256):
        if byte in keep:
            chars[byte] = chr(byte)
        else:
            chars[byte] = chr(0x100 + extra)
            extra += 1
    return chars


def bpe(alphabet, words, **options):
    """A vocabulary with merges that build some of `words` from the left and some from the right."""
    vocab = {}

    def add(token):
        vocab.setdefault(token, len(vocab))

    for token in alphabet:
        add(token)
    merges = []
    for number, word in enumerate(words):
        if len(word) < 2 or any(char not in vocab for char in word):
            continue
        built = word[0] if number % 2 == 0 else word[-1]
        for char in (word[1:] if number % 2 == 0 else reversed(word[:-1])):
            pair = (built, char) if number % 2 == 0 else (char, built)
            built = pair[0] + pair[1]
            if list(pair) not in merges:
                merges.append(list(pair))
            add(built)
    return {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "vocab": vocab,
            "merges": merges, **options}


def added(contents, first_id, **flags):
    fields = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    return [{"id": first_id + i, "content": content, **fields, **flags}
            for i, content in enumerate(contents)]


def tokenizer(model, normalizer=None, pre_tokenizer=None, decoder=None, post_processor=None, tokens=()):
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": list(tokens),
            "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": post_processor,
            "decoder": decoder, "model": model}


def split(pattern, behavior, invert=False):
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}


def make_all():
    words = [word for sample in SAMPLES for word in sample.split()][:400]
    chars = sorted({char for sample in SAMPLES[:12] for char in sample} - {" "})
    mapped = byte_chars()
    byte_words = ["".join(mapped[b] for b in (" " + word).encode()) for word in words]
    byte_model = bpe(mapped.values(), byte_words)
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    meta_words = ["\u2581" + word for word in words] + ["\u2581" * 4]
    fallback = bpe(["<unk>"] + byte_tokens + chars + ["\u2581"], meta_words, unk_token="<unk>",
                   fuse_unk=True, byte_fallback=True)
    unk_model = bpe(["<unk>"] + chars + ["\u2581", " "], meta_words, unk_token="<unk>")
    fuse_model = dict(unk_model, fuse_unk=True)
    partial = dict(bpe(["<unk>"] + byte_tokens[:200] + chars + ["\u2581", " "], meta_words,
                       unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    no_unk = dict(unk_model, unk_token=None, ignore_merges=True)
    text_decoder = {"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"},
        {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
    files = {}
    files["gpt2"] = tokenizer(byte_model, None, byte_level, byte_level, byte_level)
    files["gpt2_prefix_ignore"] = tokenizer(
        dict(byte_model, ignore_merges=True), {"type": "NFKC"}, dict(byte_level, add_prefix_space=True),
        byte_level)
    files["byte_level_twice"] = tokenizer(
        byte_model, {"type": "Lowercase"},
        {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level,
                                               {"type": "Punctuation", "behavior": "Contiguous"}]},
        byte_level)
    for behavior in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        for invert in (False, True):
            files[f"split_{behavior}_{invert}"] = tokenizer(
                byte_model, {"type": "NFD"},
                {"type": "Sequence", "pretokenizers": [
                    split({"Regex": r"\p{Lu}|[\p{P}\s]{1,2}"}, behavior, invert),
                    split({"String": "a"}, behavior, not invert),
                    dict(byte_level, use_regex=False)]}, byte_level)
    for number, pattern in enumerate([
            r"\s*\p{Han}+|\d{1,3}|[^\p{Han}\d]", r"(?<=[a-z])(?=[A-Z])", r"\p{N}{2}+|(?i:re|k)", r"\p{L}++\s?",
            r"(?:[A-Z]\p{Ll}*?)+|[\P{L}x]", r"^\S+$|[\p{S}\p{M}]", "", r"\s*", r"[^\s\p{P}]+?\b"[:-2],
            r"\p{^L}{1,4}", r"\p{N}+|\p{Lm}|\p{Lo}|\p{Sk}|\p{Pd}|\p{No}"]):
        files[f"regex_{number}"] = tokenizer(
            byte_model, None, {"type": "Sequence", "pretokenizers": [
                split({"Regex": pattern}, "Isolated"), dict(byte_level, use_regex=False)]}, byte_level)
    for scheme in ("first", "never", "always"):
        for cut in (True, False):
            metaspace = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": cut}
            files[f"metaspace_{scheme}_{cut}"] = tokenizer(
                fallback, {"type": "Strip", "strip_left": True, "strip_right": scheme == "first"}, metaspace,
                metaspace, tokens=added(["<s>", "[INST]"], 0, special=True) + added(["Day"], 0))
    for name, model in (("fallback", fallback), ("unk", unk_model), ("fuse", fuse_model), ("partial", partial),
                        ("no_unk", no_unk)):
        files[f"sentencepiece_{name}"] = tokenizer(
            model, {"type": "Sequence", "normalizers": [
                {"type": "NFKD"}, {"type": "Prepend", "prepend": "\u2581"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
                {"type": "Replace", "pattern": {"Regex": r"\p{Nd}{3,}"}, "content": "###"}]},
            None, text_decoder,
            {"type": "TemplateProcessing",
             "single": [{"SpecialToken": {"id": "<unk>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                        {"SpecialToken": {"id": "x", "type_id": 0}}],
             "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
             "special_tokens": {"<unk>": {"id": "<unk>", "ids": [0], "tokens": ["<unk>"]},
                                "x": {"id": "x", "ids": [7, 8], "tokens": ["a", "b"]}}},
            tokens=added(["<unk>"], 0, special=True))
    for number, flags in enumerate([{"lstrip": True}, {"rstrip": True}, {"single_word": True},
                                    {"normalized": True}, {"normalized": True, "special": True},
                                    {"lstrip": True, "rstrip": True, "single_word": True, "special": True}]):
        files[f"added_{number}"] = tokenizer(
            byte_model, {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, {"type": "NFC"}]},
            byte_level, byte_level,
            tokens=added(["The", "is", "\u00e9", "TEXT", "the quick", "<|im_start|>", "\u0301", " x", "n\n",
                          "\u4e2d", "\u00c4p"], 100000, **flags))
    for number, pre in enumerate([{"type": "Whitespace"}, {"type": "WhitespaceSplit"},
                                  {"type": "Punctuation", "behavior": "Isolated"},
                                  {"type": "Digits", "individual_digits": False},
                                  {"type": "CharDelimiterSplit", "delimiter": "e"},
                                  {"type": "FixedLength", "length": 3}]):
        files[f"pre_{number}"] = tokenizer(
            byte_model, None, {"type": "Sequence", "pretokenizers": [pre, dict(byte_level, use_regex=False)]},
            None if number == 0 else byte_level)
    files["normalizer_byte_level"] = tokenizer(
        byte_model, {"type": "ByteLevel"}, split({"Regex": "\u0120[a-z]+"}, "Isolated"), byte_level,
        tokens=added(["the q", "\u00e9"], 100000, normalized=True))
    files["strip_stop"] = tokenizer(
        fallback, None, {"type": "Metaspace", "replacement": "\u2581", "add_prefix_space": True},
        {"type": "Sequence", "decoders": [
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
            {"type": "Replace", "pattern": {"Regex": "[aeiou]{2}"}, "content": "*"},
            {"type": "Strip", "content": " ", "start": 2, "stop": 0}]})
    return files


def write_all(folder):
    folder = pathlib.Path(folder)
    for name, content in make_all().items():
        path = folder / f"{name}.json"
        path.write_text(json.dumps(content), encoding="utf-8")
        yield name, path
