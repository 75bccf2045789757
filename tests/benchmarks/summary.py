"""The project's aims for speed and the figures of one run, as a table for the documents.

    python -m tests.benchmarks.summary FILE

prints it from the file of `--json`. `make bench` prints it at its end.
"""

import sys
from pathlib import Path

from tests.benchmarks.aims import AIMS, Aim
from tests.benchmarks.report import Figures, cell, read_figures

HEAD = ("work", "ours", "peers, same run", "aim", "met")
MET = {True: "yes", False: "no", None: "not measured"}
SMALL = "The sizes were those of --small: these figures mean nothing.\n\n"


def summary(figures: Figures) -> str:
    """A Markdown table with a row for each aim, and the origin of the figures."""
    rows = [HEAD, *(_row(aim, figures) for aim in AIMS)]
    widths = [max(len(row[n]) for row in rows) for n in range(len(HEAD))]
    rows.insert(1, tuple("-" * width for width in widths))
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    origin = f"\n\n{figures.origin}." if figures.origin else ""
    return (SMALL if figures.small else "") + "\n".join(lines) + origin


def _row(aim: Aim, figures: Figures) -> tuple[str, ...]:
    ours = aim.value(figures, aim.ours)
    peers = [f"{name} {cell(value)}" for name, value in aim.of_peers(figures).items()]
    shown = "–" if ours is None else cell(ours)
    return (aim.work, shown, ", ".join(peers) or "–", aim.bound, MET[aim.met(figures)])


if __name__ == "__main__":
    print(summary(read_figures(Path(sys.argv[1]))))
