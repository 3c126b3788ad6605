#!/usr/bin/env python3
"""Lists circles between the files of Rust crates: sets of files that need each other.

A file needs another when it names an item of it by a path from `crate`, `super` or `self`; names that a
module only re-exports count for the file that defines them. A parent and its child (`a.rs` or `a/mod.rs` and
`a/b.rs`) may need each other; tests are left out.

    python3 .ci/circles.py crates/*/src     exits with 1 if there is a circle
"""

import re
import sys
from collections import defaultdict
from pathlib import Path

USE = re.compile(r"\b(crate|super|self)\s*((?:::\s*\w+\s*)*)(::\s*\{)?")
REEXPORT = re.compile(r"\bpub(?:\([^)]*\))?\s+use\s+([^;]+);")
# Raw strings, strings, characters, comments.
TEXT = re.compile(r"""r(#*)".*?"\1|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])'|//[^\n]*""", re.DOTALL)


def read(path):
    """The code of a file without comments, strings and its tests."""
    text = TEXT.sub("", path.read_text())
    return re.split(r"#\[cfg\(test\)\]\s*mod \w+ \{", text)[0]


def modules(source):
    """Module path -> file. The root is the empty path."""
    found = {}
    for path in sorted(source.rglob("*.rs")):
        parts = path.relative_to(source).with_suffix("").parts
        parts = parts[:-1] if parts[-1] in ("mod", "lib") else parts
        if "tests" not in parts:
            found[parts] = path
    return found


def paths(text, module):
    """All paths from `crate`, `super` or `self` in a piece of code, as tuples from the root."""
    for use in USE.finditer(text):
        segments = re.findall(r"\w+", use[2])
        base = {"crate": (), "self": module, "super": module[:-1]}[use[1]]
        while segments and segments[0] == "super":
            segments, base = segments[1:], base[:-1]
        prefix = base + tuple(segments)
        if use[3]:
            yield from (prefix + tail for tail in group(text, use.end()))
        else:
            yield prefix


def group(text, start):
    """The paths inside the braces that open just before `start`."""
    depth, end = 1, start
    while depth and end < len(text):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        end += 1
    item, depth = "", 0
    for char in text[start : end - 1] + ",":
        if char == "," and depth == 0:
            head, brace, _ = item.partition("{")
            names = tuple(re.findall(r"\w+", head.split(" as ")[0]))
            if brace:
                yield from (names + tail for tail in group(item, len(head) + 1))
            elif names:
                yield names
            item = ""
        else:
            depth += {"{": 1, "}": -1}.get(char, 0)
            item += char


def reexports(texts):
    """(module path, name) -> the path behind a `pub use`."""
    table = {}
    for module, text in texts.items():
        for use in REEXPORT.finditer(text):
            spec = use[1].strip()
            if not re.match(r"(crate|super|self)\b", spec):
                spec = "self::" + spec
            for path in paths(spec, module):
                if path:
                    table[module, path[-1]] = path
    return table


def resolve(path, found, table, depth=0):
    """The module in which the item behind a path is defined."""
    module = path
    while module not in found:
        module = module[:-1]
    rest = path[len(module) :]
    if rest and depth < 8 and (module, rest[0]) in table:
        behind = table[module, rest[0]]
        if behind != path:
            return resolve(behind + rest[1:], found, table, depth + 1)
    return module


def needs(source):
    found = modules(source)
    texts = {module: read(path) for module, path in found.items()}
    table = reexports(texts)
    graph = defaultdict(set)
    for module, text in texts.items():
        for path in paths(text, module):
            other = resolve(path, found, table)
            family = other == module[: len(other)] or module == other[: len(module)]
            if not family:
                graph[module].add(other)
    return found, graph


def circles(found, graph):
    """Strongly connected components of more than one file (Tarjan)."""
    number, low, stack, result = {}, {}, [], []

    def visit(node):
        number[node] = low[node] = len(number)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in number:
                visit(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == number[node]:
            cut = stack.index(node)
            if len(stack) - cut > 1:
                result.append(sorted(stack[cut:]))
            del stack[cut:]

    for node in found:
        if node not in number:
            visit(node)
    return result


def main():
    sys.setrecursionlimit(10_000)
    count = 0
    for source in map(Path, sys.argv[1:]):
        found, graph = needs(source)
        for circle in circles(found, graph):
            count += 1
            print(f"{source}: {len(circle)} files need each other:")
            for module in circle:
                others = sorted(graph[module] & set(circle))
                print(f"  {found[module]} -> {', '.join(str(found[o]) for o in others)}")
    print(f"{count} circles")
    sys.exit(1 if count else 0)


if __name__ == "__main__":
    main()
