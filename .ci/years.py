#!/usr/bin/env python3
"""Draws docs/concepts/years.svg from the table of simulated years in crates/eval/README.md.

    python3 .ci/years.py           writes the plot
    python3 .ci/years.py --check   fails if the plot is not that of the table
"""

import re
import sys
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLOT = ROOT / "docs/concepts/years.svg"
WIDTH, ROW, LEFT, RIGHT = 760, 46, 330, 110


def rows():
    """The kinds of candidates: name, promotions a year, those not better."""
    table = (ROOT / "crates/eval/README.md").read_text().split("| candidates | fresh exams |")[1].split("\n\n")[0]
    for line in table.splitlines()[2:]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        name, _, promotions, not_better, _ = cells
        yield name, *(float(re.match(r"[\d.]+", cell)[0]) for cell in (promotions, not_better))


def plot():
    kinds = list(rows())
    height = ROW * len(kinds) + 64
    most = max(promotions for _, promotions, _ in kinds)

    def x(value):
        """A square root scale: 0.1 and 20 are both to be seen."""
        return LEFT + (WIDTH - LEFT - RIGHT) * (value / most) ** 0.5

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" font-family="sans-serif" font-size="13">',
        "<title>Promotions a year by kind of candidate, and how many of them were not better</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<line x1="{x(0.25):.1f}" y1="8" x2="{x(0.25):.1f}" y2="{height - 56}" stroke="#b3261e" stroke-dasharray="4 3"/>',
        f'<text x="{x(0.25) + 4:.1f}" y="{height - 40}" fill="#b3261e">0.25, the promise for those not better</text>',
        f'<rect x="{LEFT}" y="{height - 26}" width="14" height="12" fill="#2f6f4f"/>',
        f'<text x="{LEFT + 20}" y="{height - 15}" fill="#222">promotions a year</text>',
        f'<rect x="{LEFT + 170}" y="{height - 26}" width="14" height="12" fill="#b3261e"/>',
        f'<text x="{LEFT + 190}" y="{height - 15}" fill="#222">of them not better (square root scale)</text>',
    ]
    for index, (name, promotions, not_better) in enumerate(kinds):
        y = 12 + ROW * index
        short = name.replace(", seed spread 0.025", "")
        out.append(f'<text x="{LEFT - 10}" y="{y + 18}" text-anchor="end" fill="#222">{escape(short)}</text>')
        for offset, value, colour in ((0, promotions, "#2f6f4f"), (15, not_better, "#b3261e")):
            out.append(f'<rect x="{LEFT}" y="{y + offset}" width="{max(x(value) - LEFT, 1):.1f}" height="12" fill="{colour}"/>')
            out.append(f'<text x="{x(value) + 6:.1f}" y="{y + offset + 11}" fill="#222" stroke="#fff" stroke-width="4" paint-order="stroke">{value:g}</text>')
    return "\n".join([*out, "</svg>", ""])


if sys.argv[1:] == ["--check"]:
    if PLOT.read_text() != plot():
        sys.exit(f"{PLOT.relative_to(ROOT)}: expected the plot of the table in crates/eval/README.md; run .ci/years.py")
else:
    PLOT.write_text(plot())
