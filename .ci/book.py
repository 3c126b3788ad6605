#!/usr/bin/env python3
"""Checks the book without mdbook: every page is in docs/SUMMARY.md, every link and anchor leads somewhere, plots are current.

    python3 .ci/book.py     exits with 1 and names each problem
"""

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
# Links from the book to other files of the repository are addresses, because the built book does not have those files.
REPOSITORY = "https://github.com/nightshift-rs/nightshift/blob/main/"
LINK = re.compile(r"(?<!\\)\[(?:[^\[\]]|\[[^\]]*\])*\]\(<?([^)>\s]+)>?(?:\s+\"[^\"]*\")?\)")


def prose(page):
    """The lines of a page that are not in a fenced block, without code spans."""
    fenced = False
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            yield number, line


def anchors(page):
    """The ids of headings, as GitHub and mdbook make them."""
    seen, found = {}, set()
    for _, line in prose(page):
        if heading := re.match(r"#{1,6}\s+(.*)", line):
            text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1]).strip().lower()
            name = re.sub(r"[^\w\- ]", "", text.replace("`", "")).replace(" ", "-")
            count = seen[name] = seen.get(name, -1) + 1
            found.add(f"{name}-{count}" if count else name)
    return found


def problems(page):
    inside = page.is_relative_to(DOCS)
    for number, line in prose(page):
        place = f"{page.relative_to(ROOT)}:{number}"
        for link in LINK.findall(re.sub(r"`[^`]*`", "", line)):
            if link.startswith(REPOSITORY):
                target, _, anchor = link.removeprefix(REPOSITORY).partition("#")
                target = ROOT / unquote(target)
            elif re.match(r"[a-z]+:", link) or "::" in link:
                continue
            else:
                target, _, anchor = link.partition("#")
                target = (page.parent / unquote(target)).resolve() if target else page
                if inside and not target.is_relative_to(DOCS):
                    yield f"{place}: {link}: expected {REPOSITORY}..., because the built book has no files outside docs"
                    continue
            if not target.exists():
                yield f"{place}: {link}: expected a file or folder, found none"
            elif anchor and target.suffix == ".md" and anchor not in anchors(target):
                yield f"{place}: {link}: expected a heading #{anchor} in {target.relative_to(ROOT)}, found none"


def contents():
    summary = DOCS / "SUMMARY.md"
    listed = [(DOCS / link).resolve() for _, line in prose(summary) for link in LINK.findall(line)]
    for page in sorted(DOCS.rglob("*.md")):
        if page != summary and listed.count(page) != 1:
            yield f"docs/SUMMARY.md: expected {page.relative_to(DOCS)} once, found it {listed.count(page)} times"


def main():
    pages = [*DOCS.rglob("*.md"), *ROOT.glob("*.md"), *ROOT.glob("crates/*/README.md"), *ROOT.glob("benches/**/README.md")]
    found = [*contents(), *(problem for page in sorted(pages) for problem in problems(page))]
    print("\n".join([*found, f"{len(pages)} pages, {len(found)} problems"]))
    plot = subprocess.run([sys.executable, ROOT / ".ci/years.py", "--check"])
    sys.exit(1 if found or plot.returncode else 0)


if __name__ == "__main__":
    main()
