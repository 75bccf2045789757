"""The output of a benchmark: a table for people, and one JSON line for programs.

Every benchmark takes `--json PATH` (a line is added to that file) and `--small` (sizes that show
in seconds whether it works; its figures mean nothing).
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from tests.benchmarks.cost import ELSE, pin

Row = dict[str, object]


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """The options of the command line, and a folder that is deleted afterwards."""

    small: bool
    place: Path

    def size(self, usual: int, small: int) -> int:
        return small if self.small else usual


Measure = Callable[[Wishes], AsyncIterator[Row]]


def benchmark(noun: str, measure: Measure) -> None:
    """Run the measurement, print its rows, and store them in the file of the command line."""
    parser = argparse.ArgumentParser(prog=f"python -m tests.benchmarks.{noun}")
    parser.add_argument("--json", type=Path, help="add the result to this file, as one line")
    parser.add_argument("--small", action="store_true", help="tiny: does it work at all?")
    asked = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a socket for each follower
    begun, load = time.monotonic(), os.getloadavg()[0]
    pin(ELSE, os.getpid())  # and so all that it starts, unless that is pinned elsewhere
    with tempfile.TemporaryDirectory(prefix="unspool-bench-") as folder:
        gc.freeze()
        rows = uvloop.run(_measured(measure, Wishes(small=asked.small, place=Path(folder))))
    took = time.monotonic() - begun
    print(table(rows))
    print(f"{noun}: {took:.0f} s; load {load:.1f} before, {os.getloadavg()[0]:.1f} after\n")
    if asked.json:
        result = {
            "benchmark": noun,
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}",
            "python": platform.python_version(),
            "load": load,
            "small": asked.small,
            "seconds": round(took, 1),
            "rows": rows,
        }
        with asked.json.open("a") as file:
            file.write(json.dumps(result) + "\n")


@dataclass(frozen=True, kw_only=True)
class Figures:
    """The rows of each benchmark, of its latest run."""

    rows: Mapping[str, Sequence[Row]]
    small: bool  # some run was small, so the figures mean nothing
    origin: str = ""  # machine, Python, day and load

    def find(self, noun: str, wanted: Row) -> list[Row]:
        """The rows of the benchmark that have these values."""
        return [row for row in self.rows.get(noun, ()) if wanted.items() <= row.items()]


def read_figures(file: Path, *, since: int = 0) -> Figures:
    """The figures that `--json` has stored, from this byte of the file on."""
    results = [json.loads(line) for line in file.read_bytes()[since:].splitlines()]
    latest = {result["benchmark"]: result for result in results}
    return Figures(
        rows={noun: result["rows"] for noun, result in latest.items()},
        small=any(result["small"] for result in latest.values()),
        origin=_origin(list(latest.values())),
    )


def _origin(results: Sequence[Mapping[str, Any]]) -> str:
    if not results:
        return ""
    first, loads = results[0], [result["load"] for result in results]
    return (
        f"{first['machine']}, Python {first['python']}, {first['date'][:10]};"
        f" load before a benchmark {min(loads):.1f} to {max(loads):.1f}"
    )


async def _measured(measure: Measure, wishes: Wishes) -> list[Row]:
    rows = []
    async for row in measure(wishes):
        rows.append(row)
        print("  ".join(f"{name} {cell(value)}" for name, value in row.items()), file=sys.stderr)
    return rows


def table(rows: Sequence[Row]) -> str:
    """The rows under the names of their columns, with numbers aligned to the right."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [columns, *([cell(row.get(name, "")) for name in columns] for row in rows)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(columns))]
    return "\n".join(
        "  ".join(
            text.ljust(width) if n == 0 else text.rjust(width)
            for n, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def cell(value: object) -> str:
    """A value for people: with about three digits, and commas between thousands."""
    if isinstance(value, float):
        return f"{value:,.1f}" if abs(value) >= 10 else f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def part(values: Sequence[float], share: float) -> float:
    """The value that this share of all values does not exceed: 0.99 gives the p99. NaN if empty."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def milliseconds(values: Sequence[float]) -> Row:
    """The p50 and p99 of these microseconds, in milliseconds. There must be a value."""
    assert values, "nothing was measured"
    return {
        "p50 ms": round(part(values, 0.5) / 1000, 2),
        "p99 ms": round(part(values, 0.99) / 1000, 2),
    }
