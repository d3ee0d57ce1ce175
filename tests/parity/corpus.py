"""Deterministic texts for comparing tokenisers: many scripts, code, white space, emoji, broken UTF-8."""
import random

SAMPLES = [
    "The quick brown fox jumps over the lazy dog. It's what we'll do, isn't it? I'd've said SO; THEY'RE here.",
    "don't DON'T Don\u2019t we'Ll I'M y'all'd've 'sa 'Re'VE'd 'ſ '\u017ft it'S x'll's'''t",
    "Größenwahn, Übermut und Straßenbahn — «Füße» „Äpfel“ ß ẞ; naïve café, coöperate, Ångström",
    "Привет, как дела? Съешь ещё этих мягких французских булок, да выпей чаю. Ёлка ЁЛКА",
    "Ελληνικά: Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. ΑΒΓΔ άέήίόύώ ΐΰ",
    "这是一个很长的中文句子，没有空格，包含标点符号。今天天气不错！我们去公园吧？一二三四五六七八九十。",
    "日本語のテキスト、ひらがなとカタカナと漢字。東京タワーに行きました。ﾊﾝｶｸ ｶﾞ 「括弧」",
    "한국어 문장입니다. 띄어쓰기가 있어요! 각 ᄒ\u1161\u11ab 가\u11a8 \u1100\u1161",
    "العربية: مرحبا بالعالم، كيف حالك؟ ١٢٣٤٥ السَّلَامُ عَلَيْكُمْ لا إله",
    "עברית: שָׁלוֹם עוֹלָם, מה שלומך? אבג",
    "हिन्दी में एक वाक्य है। क़ ख़ ग़ ज़ ड़ ढ़ फ़ य़ न\u093c र\u093c १२३ श्री क्ष",
    "தமிழ் மொழி: வணக்கம் உலகம். \u0bc6\u0bbe கொ கோ கௌ",
    "ไทย: สวัสดีชาวโลก ภาษาไทยไม่มีการเว้นวรรค ๑๒๓ กำ",
    "Tiếng Việt: Xin chào thế giới, đây là một câu tiếng Việt có dấu. Đặng Ngọc Trường",
    "ქართული ენა ᲥᲐᲠᲗᲣᲚᲘ; Հայերեն լեզու և; አማርኛ ሰላም ልዑል; ខ្មែរ សួស្តី; བོད་སྐད་ བཀྲ་ཤིས་; မြန်မာ မင်္ဂလာပါ",
    "ελ Ꭰᏸꮿ ᏣᎳᎩ ⲁⲃⲅ ᚠᚢᚦ 𐌰𐌱 𝒜𝓑𝔠𝟘𝟙𝟚 ᴬᵇ ﬁ ﬂ ﬃ ﬆ Ⅷ ⅷ ½ ²³ ① ㎏ ㍿ ℌ Å K Ω",
    "👍🏽👩‍👩‍👧‍👦🏳️‍🌈🇩🇪🇯🇵😀😃🤦🏿‍♂️❤️‍🔥 ☺️☺︎ #️⃣ 1️⃣ 🫨🩷🪽 🧑🏻‍❤️‍💋‍🧑🏿",
    "e\u0301 a\u0308 o\u0302\u0323 q\u0307\u0323 \u1e9b\u0323 Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d a\u0334\u0315\u0345 \u0344 \u0958 \u2126 \u212b \ufb1d \u1ea5",
    "def f(x: int) -> str:\n    \"\"\"Doc.\"\"\"\n    return f\"{x!r:>{10}}\" if x % 2 == 0 else None  # comment\n\n\nclass A(B):\n\tpass\n",
    "#include <vector>\nint main(int argc, char** argv) {\n  std::vector<int> v{1,2,3};\n  for (auto&& x : v) { std::cout << x << '\\n'; }\n  return 0;\n}\n",
    "const x = async () => { await fetch(`/api/${id}?q=${encodeURIComponent(q)}`); };\r\n\r\n// TODO\r\nexport default x;",
    "SELECT a.id, COUNT(*) FROM \"t\" a LEFT JOIN b ON a.id=b.a_id WHERE a.x >= 10.5e-3 GROUP BY 1;\n",
    "{\"key\": [1, 2.5, -3e10, true, null], \"nested\": {\"a\\u0301\": \"\\n\"}}",
    "<html><body class=\"x y\">&nbsp;<!-- c --></body></html>\n<|im_start|>user\nHi<|im_end|>",
    "https://example.com/a/b?c=d&e=f#g user@example.org C:\\Windows\\System32 /usr/local/bin 192.168.0.1:8080",
    "1 12 123 1234 12345 1234567890 3.14159 1,000,000 0xDEADBEEF 1e-10 ١٢٣ ⅓ ४५६ 𝟏𝟐𝟑𝟒 Ⅻ ①②③④",
    "$100 €50 £20 ¥1000 ₹500 50% ±3 × ÷ ≠ ≤ ≥ ∞ ∑∏∫√ ∀∃∈∉ → ← ⇒ ■□▲△◆◇ ★☆ ░▒▓ ┌─┐",
    "\\frac{a}{b} \\sum_{i=0}^{n} x_i^2 $$E=mc^2$$ \\begin{align} \\alpha &= \\beta \\\\ \\end{align}",
    "CamelCaseIdentifier snake_case_identifier kebab-case SCREAMING_SNAKE HTTPServer2XMLParser iOSApp getURLFromID ÀÉÎõü ǅ ǅa aǅ ʰʱ ªº",
    "\u3000全角\u3000空格\u00a0nbsp\u2003em\u2009thin\u200bzwsp\u200c\u200d\u2060\ufeffbom\u0085nel\u2028ls\u2029ps\u180e\u205f\u1680",
    "▁▁ ▁a b▁c ▁ <0x0A> <0xFF> <unk> <s> </s> [INST] <0x> <0xZZ> Ġ Ċ ĠĠ",
    "\u1c89\u1c8a \ua7cb\ua7cc\ua7da \U00010d50\U00010d70 \U000105c0 \U00031350\U000323af \U0002ebf0 \U0001e6c0 \U00016d40 \u0897 \u0c5c \u0cdc \u1acf",
    "\U00011938 \U00011935\U00011930 \u0cd5 \u08d3 \u0315\u08d3 a\u1df6\u0334 \u32ff \U0001f16d \U0001fbf0 \U0001e2f0 \u1dfa\u0345",
]
WORDS = sorted({word for sample in SAMPLES for word in sample.split(" ") if word})
SPACES = [" ", "  ", "   ", "    ", "\n", "\n\n", "\n\n\n", "\t", "\t\t", "\r\n", "\r\n\r\n", " \n", "\n ",
          " \n \n", "\u00a0", "\u3000", "\u2003", "\x0b", "\x0c", "\x85", "\u2028", " \t \n", "        "]
CONTROL = ["\x00", "\x01", "\x1b[0m", "\x7f", "\u200d", "\ufe0f", "\ufeff", "\u202e", "\ue000", "\U000f0000",
           "\uffff", "\u0378"]
BLOCKS = [(0x20, 0x7f), (0xa0, 0x250), (0x300, 0x370), (0x370, 0x530), (0x590, 0x700), (0x900, 0xe00),
          (0xe00, 0x1000), (0x1000, 0x1200), (0x1e00, 0x2000), (0x2000, 0x2100), (0x2100, 0x2400),
          (0x2500, 0x2c00), (0x3000, 0x3100), (0x4e00, 0x9fff), (0xa000, 0xac00), (0xac00, 0xd7a4),
          (0xf900, 0x10000), (0x10000, 0x12000), (0x1d000, 0x1e000), (0x1f000, 0x1fc00),
          (0x20000, 0x32400), (0xe0000, 0xe0200)]


def random_char(rng):
    while True:
        if rng.random() < 0.1:
            code = rng.randrange(0x110000)
        else:
            low, high = rng.choice(BLOCKS)
            code = rng.randrange(low, high)
        if not 0xD800 <= code <= 0xDFFF:
            return chr(code)


def make_texts(count, seed, tokens, every_code_point=True):
    """`count` byte strings and some long ones; `tokens` are added tokens to sprinkle in."""
    rng = random.Random(seed)
    texts = [b"", b" ", b"\n", b"a"] + [sample.encode() for sample in SAMPLES]
    texts += [token.encode() for token in tokens[:500]]
    # Every code point once, in ascending runs, with letters between.
    codes = [chr(c) for c in range(1, 0x110000) if not 0xD800 <= c <= 0xDFFF]
    stop = 0x33000 if every_code_point else 0x3000
    texts += ["".join(codes[i:i + 512]).encode() for i in range(0, stop, 512)]
    texts += [" a".join(codes[i:i + 512]).encode() for i in range(0, min(stop, 0x20000), 512)]

    def piece():
        kind = rng.randrange(14)
        if kind < 4:
            return rng.choice(WORDS)
        if kind < 6:
            return rng.choice(SPACES)
        if kind == 6:
            return random_char(rng) * rng.randrange(1, 4)
        if kind == 7:
            return "".join(random_char(rng) for _ in range(rng.randrange(1, 6)))
        if kind == 8 and tokens:
            return rng.choice(tokens)
        if kind == 9:
            sample = rng.choice(SAMPLES)
            begin = rng.randrange(len(sample))
            return sample[begin:begin + rng.randrange(1, 30)]
        if kind == 10:
            return str(rng.randrange(10 ** rng.randrange(1, 12)))
        if kind == 11:
            return rng.choice(CONTROL)
        if kind == 12:
            return "'" + rng.choice(["s", "S", "T", "ll", "LL", "lL", "re", "Ve", "m", "d", "x", "ſ"])
        return rng.choice("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") * rng.randrange(1, 6)

    while len(texts) < count:
        text = "".join(piece() + (" " if rng.random() < 0.4 else "") for _ in range(rng.randrange(1, 25)))
        data = text.encode()
        if rng.random() < 0.15:
            broken = bytearray(data)
            for _ in range(rng.randrange(1, 5)):
                at = rng.randrange(len(broken) + 1)
                action = rng.randrange(3)
                if action == 0:
                    broken.insert(at, rng.randrange(0x80, 0x100))
                elif action == 1:
                    del broken[at:at + 1]
                else:
                    broken[at:at] = rng.choice([b"\xed\xa0\x80", b"\xc0\x80", b"\xf0\x9f\x98", b"\xe2\x82",
                                                b"\xf4\x90\x80\x80", b"\xff\xfe", b"\xf8\x88\x80\x80\x80"])
            data = bytes(broken)
        texts.append(data)
    # A few long ones.
    size = 30000 if every_code_point else 3000
    for unit in ["a", " ", "\n", "ab", "中文", "\u0301", "🙂", "1", "x y ", "'s", "é", "=", "\t "]:
        texts.append((unit * 20000)[:size].encode())
    texts.append("".join(rng.choice(WORDS) for _ in range(size)).encode())
    texts.append(" ".join(rng.choice(WORDS) for _ in range(size)).encode())
    texts.append("".join(random_char(rng) for _ in range(size)).encode())
    return texts
