"""Two checkouts beside each other: one benchmark in turn in both, and the ratios of its figures.

    python -m tests.benchmarks.pairs NAME OTHER [--pairs 3]

OTHER is another checkout with an environment of its own in `.venv`, for example a `git worktree` of
an earlier commit. Absolute figures change with the machine's other load; the ratios change less.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from tests.benchmarks.report import Row, read_figures, table
from tests.support.procfile import CHECKOUT

NAMES = ("replies", "rate", "events", "channels")  # numbers that name a row, as its texts do
SECONDS = 8 * 60  # for one run


def run(checkout: Path, python: str, name: str) -> Sequence[Row]:
    """The rows of one run."""
    with tempfile.TemporaryDirectory(prefix="unspool-bench-") as folder:
        file = Path(folder) / "figures.jsonl"
        command = [python, "-m", f"tests.benchmarks.{name}", "--json", str(file)]
        subprocess.run(
            command, cwd=checkout, check=True, timeout=SECONDS, stdout=subprocess.DEVNULL
        )
        return read_figures(file).rows[name]


def compared(before: Sequence[Sequence[Row]], now: Sequence[Sequence[Row]]) -> list[Row]:
    """A row for each figure that both have: its medians, and the median of the pairs' ratios.

    A row of before is compared with the first one of now that has its texts and names, because
    newer benchmarks may have more columns and rows.
    """
    rows: list[Row] = []
    for n, row in enumerate(before[0]):
        name = _name(row)
        same = next((m for m, other in enumerate(now[0]) if name.items() <= other.items()), None)
        if same is None:
            continue
        for column in row:
            olds, news = (
                [_number(run[m], column) for run in runs] for m, runs in ((n, before), (same, now))
            )
            if column not in NAMES and all(olds) and all(news):
                ratios = [new / old for old, new in zip(olds, news, strict=True)]
                rows.append(
                    {
                        "row": " ".join(map(str, name.values())),
                        "figure": column,
                        "before": float(median(olds)),
                        "now": float(median(news)),
                        "×": round(median(ratios), 2),
                        "from": round(min(ratios), 2),
                        "to": round(max(ratios), 2),
                    }
                )
    return rows


def _name(row: Row) -> Row:
    return {key: value for key, value in row.items() if isinstance(value, str) or key in NAMES}


def _number(row: Row, column: str) -> float:
    """The figure; 0 if the row has none, or no number."""
    value = row.get(column)
    return float(value) if isinstance(value, int | float) else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.pairs", description=__doc__)
    parser.add_argument("name", help="of the benchmark")
    parser.add_argument("other", type=Path, help="the other checkout")
    parser.add_argument("--pairs", type=int, default=3)
    asked = parser.parse_args()
    other: Path = asked.other.resolve()
    python = other / ".venv/bin/python"
    if not python.exists():
        parser.error(f"{other} has no environment: run make environment-dev there")
    before, now = [], []
    for _ in range(asked.pairs):
        before.append(run(other, str(python), asked.name))
        now.append(run(CHECKOUT, sys.executable, asked.name))
    print(table(compared(before, now)))


if __name__ == "__main__":
    main()
