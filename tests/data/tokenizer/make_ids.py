#!/usr/bin/env python3
"""Writes cases.json: what the `tokenizers` package makes of awkward texts.

Usage: make_ids.py (needs `pip install tokenizers`; written with 0.23.3)

Each file of FILES gets a list of cases: `text`; `plain`, the ids with special
tokens read as text; `parsed`, the ids with special tokens parsed; `decoded` and
`hidden`, the text of `parsed` with and without special tokens. To keep the file
small, `parsed` is left out where it equals `plain`, `decoded` where it equals
`text` and `hidden` where it equals `decoded`.
"""
import json
import pathlib
import random
import unicodedata

from tokenizers import Tokenizer

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
FILES = {
    "demo": "models/demo/tokenizer.json",
    "gpt2": "tests/data/tokenizer/gpt2.json",
    "options": "tests/data/tokenizer/options.json",
    "unknown": "tests/data/tokenizer/unknown.json",
}


def byte_characters():
    """The 256 characters of the byte-level alphabet, in byte order."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    extra = (c for c in range(0x100, 0x200))
    return [chr(b) if b in plain else chr(next(extra)) for b in range(256)]


def added(id, content, **options):
    flags = dict(single_word=False, lstrip=False, rstrip=False,
                 normalized=False, special=False)
    return {"id": id, "content": content, **flags, **options}


def write_model(name, merges, pairs, added_tokens=(), **fields):
    """Writes a tiny byte-level BPE file; `merges` are "a b" strings."""
    vocab = {c: i for i, c in enumerate(fields.pop("alphabet"))}
    for token in fields.pop("extra_vocab", ()):
        vocab[token] = len(vocab)
    for merge in merges:
        vocab.setdefault(merge.replace(" ", ""), len(vocab))
    model = {"type": "BPE", "dropout": None, "unk_token": None,
             "continuing_subword_prefix": "", "end_of_word_suffix": "",
             "fuse_unk": False, "byte_fallback": False,
             "ignore_merges": False, **fields.pop("model", {}),
             "vocab": vocab,
             "merges": [m.split(" ") for m in merges] if pairs else merges}
    tokens = [added(len(vocab) + i, c, **o)
              for i, (c, o) in enumerate(added_tokens)]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False,
                  "trim_offsets": True, "use_regex": True}
    file = {"version": "1.0", "truncation": None, "padding": None,
            "added_tokens": tokens, "normalizer": None,
            "pre_tokenizer": byte_level, "post_processor": None,
            "decoder": byte_level, **fields, "model": model}
    path = HERE / (name + ".json")
    path.write_text(json.dumps(file, ensure_ascii=False, indent=1) + "\n")


def write_models():
    merges = ["h e", "l l", "he ll", "hell o", "Ġ w", "o r", "Ġw or", "l d",
              "Ġ hello", "i n", "in g", "Ġ Ġ", "ĠĠ ĠĠ", "Ċ Ċ", "Ã ©", "1 2",
              "' s", "a a", "aa aa", "a aa"]
    alphabet = byte_characters()
    write_model("gpt2", merges, pairs=False, alphabet=alphabet,
                pre_tokenizer={"type": "ByteLevel", "add_prefix_space": True,
                               "trim_offsets": True, "use_regex": True},
                added_tokens=[("<|endoftext|>", dict(special=True))])
    write_model(
        "options", merges, pairs=True, alphabet=alphabet,
        extra_vocab=["Ġworld", "zebra"], model={"ignore_merges": True},
        normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}]},
        pre_tokenizer={"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": r"\p{N}{1,3}"},
             "behavior": "Isolated", "invert": False},
            {"type": "Split", "pattern": {"String": ".+"},
             "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False,
             "trim_offsets": True, "use_regex": True}]},
        added_tokens=[
            ("<l>", dict(lstrip=True)), ("<r>", dict(rstrip=True)),
            ("<lr>", dict(lstrip=True, rstrip=True, special=True)),
            ("<w>", dict(single_word=True)), ("word", dict(single_word=True)),
            ("<n>", dict(normalized=True)),
            ("s\u0323tat", dict(normalized=True)), ("u\u0308ber", {}),
            ("<|a|>", dict(special=True)), ("<|a|><|b|>", {}), ("<|b|>", {}),
            ("|><", {}), ("a b", dict(normalized=True, special=True))])
    write_model("unknown", ["a b", "ab c"], pairs=True,
                alphabet=["<unk>", "a", "b", "c", "Ġ"],
                model={"unk_token": "<unk>", "fuse_unk": True})


SPACES = [chr(c) for c in (
    0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x1C, 0x1F, 0x20, 0x85, 0xA0, 0x1680, 0x180E,
    0x2000, 0x2003, 0x200A, 0x200B, 0x2028, 0x2029, 0x202F, 0x205F, 0x2060,
    0x3000, 0xFEFF)]


def assigned(random, bounds):
    """A random code point of Unicode 14, the version of PCRE2 10.42 (and of
    Python 3.11): later letters are not letters to Lathe yet."""
    while True:
        character = chr(random.randint(*bounds))
        if unicodedata.category(character) != "Cn":
            return character


def texts():
    out = ["", " ", "  ", "a", "\0", "a\0b", "\x7f", "\u0080", "\x01\x02"]
    for s in SPACES:
        out += [f"a{s}b", f"{s}{s}x {s}", f" {s}\n{s} 1"]
    out += [
        "\r\n", "a\r\nb\r\n\r\n  c\n\r", "\n\n\n  \n", "x   \n   y   ",
        "\t\tif (x) {\r\n\t\t\treturn 1;\n\t}\n", "   leading", "trailing   ",
        "I'm I'M i'LL he'D they'RE we'Ve 'S 'T don'T '\u017F x'\u017Fy",
        "''s'''t 'll'll 'xyz \u2019s", "0 12 123 1234567890 3.14159 1e-9",
        "\u0661\u0662\u0663 \u2160\u2161 \u00BD \u2460 \U0001D7D8 x\u00B2",
        "e\u0301 \u00E9 A\u030A \u212B \u2126 \uFB01 "
        "\u1E9B\u0323 q\u0307\u0323",
        "a\u0301\u0323\u0327\u0308b", "\u0344 \u0958 \u2ADC \uFB1D \U0001D15E",
        "\u1100\u1161\u11A8 \uAC00\u11A8 \uD55C\uAD6D\uC5B4 \u3131\u314F",
        "\u1112\u1161\u11AB\u1100\u116E\u11A8",
        "\u0645\u0631\u062D\u0628\u0627 \u0628\u0650\u0633\u0652\u0645\u0650",
        "\u0928\u092E\u0938\u094D\u0924\u0947 \u0915\u094D\u0937 \u093F",
        "\u05E9\u05C1\u05B8\u05DC\u05D5\u05B9\u05DD \u0E2A\u0E27\u0E31\u0E2A",
        "\u4F60\u597D\uFF0C\u4E16\u754C\u3002"
        "\u65E5\u672C\u8A9E\u30C6\u30B9\u30C8",
        "\U0001F468\u200D\U0001F469\u200D\U0001F467\u200D\U0001F466 family",
        "\U0001F1E9\U0001F1EA\U0001F1EB\U0001F1F7 "
        "\U0001F44D\U0001F3FD \u2764\uFE0F",
        "\uD7FF\uE000\uFFFD\uFFFE\uFFFF\U00010000\U0010FFFF\uFDD0",
        "\u0300\u0301 \u0300x", "\u200D\u200C\u00AD\u2063",
        "\U000E0041\U000E007F",
        "x" * 3000, "ab" * 1500, " " * 2000, "\n" * 999, "\u0301" * 500,
        "\u0301\u0323" * 300, "\u4E2D" * 700, "1" * 400, "\U0001F600" * 200,
        "!" * 777 + "\n" * 5, "a " * 600, "\r\n" * 300, "'s" * 100,
        "def f(x: int) -> str:\n    return f\"{x!r:>10}\"  # caf\u00E9\n",
        "#include <vector>\nint main(){std::vector<int>v{1,2};}\n",
        "SELECT * FROM t WHERE a='b' AND c<>\"d\";--x",
        "{\"k\": [1, 2.5e3, null, true], \"s\": \"\\u00e9\\n\"}",
        "https://example.org/a?b=c&d=%20#e me@x.y C:\\dir\\f.txt",
        "$x^2 + \\frac{1}{2} \\leq \u221E$ \u2200x\u2208\u211D",
        "___ __init__ a_b-c.d/e", "ABCdefGHI camelCaseWord iPhone",
        "hello world  hello zebra hellozebra helloing 's aaaaaaa",
        "123.+4567.+ .+.+", "\u00C3\u00A9 \u00C2\u00A0", "\u0120hello \u010A",
    ]
    for t in ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<think>",
              "</think>", "<l>", "<r>", "<lr>", "<w>", "word", "<n>",
              "\u1E63tat", "s\u0323tat", "u\u0308ber", "\u00FCber", "<|a|>",
              "<|a|><|b|>", "<|b|>", "a b", "<unk>"):
        out += [t, f"x{t}y", f" {t} ", f"{t}{t}", f"\n\t {t}\u3000\u00A0\n z",
                f"\u00E9{t}\u0301", f"_{t}\u200D ({t})"]
    out += [
        "<|im_start|>user\nHi <think>a</think><|im_end|>\n"
        "<|im_start|>assistant",
        "<|im_start", "im_start|>", "<<|im_end|>>", "<|im_<|im_end|>end|>",
        "<think></think><think>", "<th\u0301ink>", "<|a|><|a|><|b|>",
        "<r>  <l>  <lr>  <r> <r>", "<l><l> <l>", "x <r> \n<n> word words",
        "word word,word sword wordy \u00E9word word\u0301 word\u203F",
        "a ba b a  b", "abcabc xyz ab c",
    ]
    random.seed(20261123)
    ranges = [(0, 0x7F), (0x80, 0x24F), (0x300, 0x36F), (0x370, 0xFFF),
              (0x1000, 0x1FFF), (0x2000, 0x2BFF), (0x3000, 0xD7FF),
              (0xE000, 0xFFFF), (0x10000, 0x10FFFF), (0x1F300, 0x1F9FF)]
    for i in range(60):
        picked = ranges if i % 2 else random.sample(ranges, 2)
        out.append("".join(
            random.choice([" ", "\n", "'s", "e"]) if random.random() < 0.2
            else assigned(random, random.choice(picked))
            for _ in range(random.randint(1, 60))))
    return out


def main():
    write_models()
    result = {}
    for name, path in FILES.items():
        tokenizer = Tokenizer.from_file(str(ROOT / path))
        cases = []
        for text in texts():
            if name != "demo" and len(text) > 300:
                continue
            def ids(as_text):
                tokenizer.encode_special_tokens = as_text
                return tokenizer.encode(text, add_special_tokens=False).ids

            def decode(skip):
                return tokenizer.decode(parsed, skip_special_tokens=skip)

            plain, parsed = ids(True), ids(False)
            decoded, hidden = decode(False), decode(True)
            case = {"text": text, "plain": plain}
            if parsed != plain:
                case["parsed"] = parsed
            if decoded != text:
                case["decoded"] = decoded
            if hidden != decoded:
                case["hidden"] = hidden
            cases.append(case)
        result[name] = {"file": path, "cases": cases}
    lines = ",\n".join(
        json.dumps(k) + ': {"file": ' + json.dumps(v["file"]) +
        ', "cases": [\n' +
        ",\n".join(json.dumps(c, separators=(",", ":")) for c in v["cases"]) +
        "\n]}" for k, v in result.items())
    (HERE / "cases.json").write_text("{" + lines + "}\n")
    print({k: len(v["cases"]) for k, v in result.items()})


if __name__ == "__main__":
    main()
