#!/usr/bin/env python3
"""Draw a finished build: scripts/pictures.py [--into FOLDER] [options of `datagen sql`...]

Asks `datagen sql --json` and writes shares.svg (what each category was asked to give and what it
gave) and rows.svg (how documents fill the rows). --into is docs/pictures by default; --build,
--out and --workspace name the build, as for every command.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

MIXTURE = "SELECT * FROM mixture"
ROWS = "SELECT row, category, position, tokens FROM documents ORDER BY row, position"
CAPACITY = "SELECT (extra->>'row_tokens')::INT AS tokens FROM steps WHERE kind = 'pack'"

# Kin share a hue: rewritten crawl blue, crawl teal, code violet, SFT orange, PDFs green.
COLOURS = {
    "syn-crawl-high": "#1f5fa8",
    "syn-crawl-medium": "#6ea6de",
    "crawl-high": "#0f766e",
    "crawl-medium-high": "#2aa79b",
    "crawl-medium": "#7fd1c7",
    "crawl++": "#b5e3dd",
    "code": "#5b3fa0",
    "nemotron-cc-code": "#a78bda",
    "sft-stem": "#b8480f",
    "sft-code": "#e8823a",
    "sft-general": "#f6b98a",
    "math": "#b3203a",
    "multilingual": "#d6a408",
    "finepdfs-unfiltered": "#2f6b1f",
    "finepdfs-high": "#4c9a34",
    "finepdfs-medium": "#9bd083",
    "academic": "#8a5a3b",
    "wiki": "#d6539b",
    "legal": "#6b7280",
}
OTHERS = ("#1f5fa8", "#e8823a", "#4c9a34", "#b3203a", "#5b3fa0", "#d6a408", "#0f766e", "#d6539b")

# The picture brings its own background, and both follow the reader's scheme together.
STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2328 }
.panel { fill: #ffffff; stroke: #d0d7de }
.title { font-size: 15px; font-weight: 600 }
.quiet { fill: #59636e; font-size: 12px }
.number { text-anchor: end; font-variant-numeric: tabular-nums }
.mark { stroke: #1f2328; stroke-width: 2 }
.room { fill: #eaeef2 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .panel { fill: #151b23; stroke: #3d444d }
  .quiet { fill: #9198a1 }
  .mark { stroke: #e6edf3 }
  .room { fill: #2a313c }
}
"""


def ask(query: str, options: Sequence[str]) -> list[dict[str, Any]]:
    """The rows that `datagen sql` answers with; its error ends the script."""
    command = [sys.executable, "-m", "datagen", "sql", "--json", query, *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    answer: list[dict[str, Any]] = json.loads(done.stdout)
    return answer


def colours(categories: Iterable[str]) -> dict[str, str]:
    """A colour for each category, its own where it has one."""
    found: dict[str, str] = {}
    for name in categories:
        found.setdefault(name, COLOURS.get(name, OTHERS[len(found) % len(OTHERS)]))
    return found


def text(x: float, y: float, said: str, kind: str = "") -> str:
    """One line of words, its baseline at y."""
    mark = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{mark}>{escape(said)}</text>'


def box(x: float, y: float, width: float, height: float, colour: str, said: str = "") -> str:
    """A filled box: a colour or a class, and what a pointer resting on it says."""
    look = f'fill="{colour}"' if colour.startswith("#") else f'class="{colour}"'
    size = f'x="{x:.2f}" y="{y:.1f}" width="{width:.2f}" height="{height:.1f}"'
    return f"<rect {size} {look}><title>{escape(said)}</title></rect>"


def picture(width: int, height: int, label: str, parts: Sequence[str]) -> str:
    """A whole SVG document on a panel of its own."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">',
            f"<style>{STYLE}</style>",
            f'<rect x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8" '
            'class="panel"/>',
            *parts,
            "</svg>\n",
        ]
    )


def shares(mixture: Sequence[Mapping[str, Any]]) -> str:
    """Bars of the realised share of each category, a mark where it was asked to end."""
    width, left, right, top, step = 860, 170, 190, 78, 24
    height = top + step * len(mixture) + 20
    most = max(max(line["realised"], line["requested"]) for line in mixture)
    scale = (width - left - right) / most
    found = colours(line["category"] for line in mixture)
    parts = [
        text(24, 34, "Share of each category in the packed rows", "title"),
        text(24, 54, "per cent of tokens; bar: realised, mark: requested", "quiet"),
        text(width - 104, 70, "realised", "quiet number"),
        text(width - 24, 70, "requested", "quiet number"),
    ]
    for number, line in enumerate(mixture):
        y = top + step * number
        name, realised, requested = line["category"], line["realised"], line["requested"]
        end = left + requested * scale
        parts += [
            text(24, y + 15, name),
            box(left, y + 4, realised * scale, 15, found[name], f"{name}: {realised:.2f} %"),
            f'<line x1="{end:.1f}" x2="{end:.1f}" y1="{y + 1}" y2="{y + 22}" class="mark"/>',
            text(width - 104, y + 15, f"{realised:.2f}", "number"),
            text(width - 24, y + 15, f"{requested:.2f}", "quiet number"),
        ]
    return picture(width, height, "Requested and realised share of each category", parts)


def rows(documents: Sequence[Mapping[str, Any]], capacity: int, most_rows: int = 40) -> str:
    """Each row of the first shards as a strip: its documents by category, the empty room grey."""
    width, left, top, step = 860, 52, 78, 15
    shown = sorted({line["row"] for line in documents})[:most_rows]
    known = list(COLOURS)
    names = {line["category"] for line in documents}
    order = sorted(names, key=lambda n: (known.index(n) if n in known else len(known), n))
    found = colours(order)
    scale = (width - left - 24) / capacity
    columns = 4
    legend = top + step * len(shown) + 22
    height = legend + 22 * math.ceil(len(found) / columns) + 10
    count = sum(line["row"] in set(shown) for line in documents)
    parts = [
        text(24, 34, f"How {count:,} documents fill {len(shown)} rows", "title"),
        text(24, 54, f"one strip a row of {capacity:,} tokens; grey: room left empty", "quiet"),
        text(left, 72, "0", "quiet"),
        text(width - 24, 72, f"{capacity:,}", "quiet number"),
    ]
    for place, row in enumerate(shown):
        y = top + step * place
        parts.append(text(left - 8, y + 10, str(row), "quiet number"))
        parts.append(box(left, y, capacity * scale, step - 3, "room", f"row {row}"))
    lines = {row: top + step * place for place, row in enumerate(shown)}
    for line in documents:
        if line["row"] in lines:
            # A hair less than its width, so that neighbours of one colour stay apart.
            wide = max(line["tokens"] * scale - 0.8, 0.4)
            said = f"row {line['row']}: {line['category']}, {line['tokens']} tokens"
            x, y = left + line["position"] * scale, lines[line["row"]]
            parts.append(box(x, y, wide, step - 3, found[line["category"]], said))
    for number, (name, colour) in enumerate(found.items()):
        x = 24 + (number % columns) * (width - 48) / columns
        y = legend + 22 * (number // columns)
        parts += [box(x, y, 13, 13, colour, name), text(x + 20, y + 11, name)]
    return picture(width, height, "How documents fill the packed rows", parts)


def main(arguments: list[str]) -> None:
    """Ask the build and write both pictures."""
    if arguments[:1] in (["-h"], ["--help"]):
        print(__doc__)
        return
    into = ROOT / "docs" / "pictures"
    if arguments[:1] == ["--into"]:
        into, arguments = Path(arguments[1]), arguments[2:]
    capacity = ask(CAPACITY, arguments)[0]["tokens"]
    drawn = {
        "shares.svg": shares(ask(MIXTURE, arguments)),
        "rows.svg": rows(ask(ROWS, arguments), capacity),
    }
    into.mkdir(parents=True, exist_ok=True)
    for name, content in drawn.items():
        (into / name).write_text(content, encoding="utf-8")
        print(into / name)


if __name__ == "__main__":
    main(sys.argv[1:])
