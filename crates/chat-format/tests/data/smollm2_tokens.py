"""Golden tokens of SmolLM2: a second implementation of its tokenizer, sharing no code with ours.

    pip install gguf regex
    python smollm2_tokens.py SmolLM2-135M-Instruct.Q4_1.gguf > smollm2_tokens.jsonl

Digits stand alone, words are GPT-2's, bytes are mapped to GPT-2's 256 letters, and the pair with the lowest rank is merged
first. Each output line is [text, tokens]; no control token is ever recognised in the text.
"""

import json
import random
import sys

import gguf
import regex

WORDS = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")


def letters():
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table, extra = {}, 256
    for byte in range(256):
        table[byte] = chr(byte if byte in printable else extra)
        extra += byte not in printable
    return table


def merge(word, ranks):
    parts = list(word)
    while len(parts) > 1:
        rank, at = min((ranks.get((a, b), 1 << 30), i) for i, (a, b) in enumerate(zip(parts, parts[1:])))
        if rank == 1 << 30:
            break
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts


def texts():
    yield from [
        "", " ", "  ", "\n", "\n\n", "\t x", " \r\n y", "Hello", " Hello", "Hello, world!", "don't I'll we're she'd I'VE",
        "1234567890", " 12 345", "3.14159", "v2.0.1", "10:30", "a1b2c3", "x²y³", "½ ⅔", "٣٤٥", "e\u0301 é", "naïve café",
        "日本語のテキスト", "Привет, мир", "مرحبا بالعالم", "नमस्ते दुनिया", "🦙🚀👩‍👩‍👧‍👦", "a\u200bb", "\u00a0nbsp",
        "<|im_start|>user\nhi<|im_end|>", "<|endoftext|>", "<|im_end|", "im_end|>", "<repo_name>x", "a < b && c > d", "1 <| 2",
        "def f(x):\n    return x  # ok\n", "if (a) {\n\t\tb();\n}", "https://example.org/a?b=c&d=%20", "_snake_case CamelCase",
        "...!!!???", "----", "= == ===", "((((", "''\"\"", "`code`", "\\n \\t", "trailing   ", "   leading", "a  b   c    d",
        "line one\nline two\r\nline three\n\n\nend", "𝒳𝒴𝒵", "\ufeffbom", "\x00\x01\x1f", "ﬁ ligature", "İstanbul", "ß SS",
    ]
    rng = random.Random(4)
    alphabet = [
        "a", "b", "Z", "é", "ß", "中", "文", "я", "ع", "🙂", "1", "2", "9", "٤", " ", "  ", "\n", "\r\n", "\t", ".", ",", "!", "'", "'s",
        "'ll", '"', "-", "_", "/", "<", ">", "|", "<|im_end|>", "{", "}", "the ", "ing", " of", "\u00a0", "\u0301", "\u200d",
    ]
    for _ in range(300):
        yield "".join(rng.choice(alphabet) for _ in range(rng.randint(1, 24)))


def main(path):
    fields = gguf.GGUFReader(path).fields
    vocab = {token: id for id, token in enumerate(fields["tokenizer.ggml.tokens"].contents())}
    ranks = {tuple(pair.split(" ")): rank for rank, pair in enumerate(fields["tokenizer.ggml.merges"].contents())}
    table = letters()
    for text in texts():
        tokens = []
        for run in regex.findall(r"\p{N}|\P{N}+", text):
            for word in WORDS.findall(run):
                tokens += [vocab[part] for part in merge([table[byte] for byte in word.encode()], ranks)]
        print(json.dumps([text, tokens]))


main(sys.argv[1])
