"""Draws the figures of the benchmarks that measure at several points, as SVG files.

    python -m tests.benchmarks.plots FILE [FOLDER]

draws them again from the file of `--json`, into docs/plots. Equal figures give equal files.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.typing import RcKeyType

from tests.benchmarks.nchan import NCHAN
from tests.benchmarks.peer_servers import BARE, OURS, REDIS_STORAGE
from tests.benchmarks.peer_streamers import DJANGO, FASTAPI, RESUMABLE
from tests.benchmarks.report import Figures, Row, read_figures
from tests.support.procfile import CHECKOUT

Points = list[tuple[float, float]]

FOLDER = CHECKOUT / "docs" / "plots"
NO_FIGURES = "\nSizes of --small: these figures mean nothing"
STYLE: dict[RcKeyType, Any] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "unspool",  # makes ids the same in each run
    "font.family": "sans-serif",
    "font.size": 10,
    # A white background, on which the dark text is legible on light and on dark pages.
    "figure.facecolor": "#ffffff",
    "text.color": "#1f2328",
    "axes.edgecolor": "#818b98",
    "axes.labelcolor": "#1f2328",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e8ec",
    "xtick.color": "#1f2328",
    "ytick.color": "#1f2328",
}
# The colour and the marker of each name. The marker tells them apart without colours.
LOOKS = {
    OURS: ("#0072b2", "o"),
    NCHAN: ("#009e73", "s"),
    BARE: ("#e69f00", "^"),
    REDIS_STORAGE: ("#d55e00", "D"),
    RESUMABLE: ("#009e73", "s"),
    FASTAPI: ("#e69f00", "^"),
    DJANGO: ("#d55e00", "D"),
}


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line: the column `y` over the plot's `x`, from the rows that have the values `rows`."""

    label: str
    look: str  # a key of LOOKS
    rows: Row
    y: str
    dashed: bool = False


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A file with several lines of one benchmark. Both axes are logarithmic."""

    file: str
    title: str  # may have columns' names in braces
    noun: str
    x: str
    x_label: str
    y_label: str
    lines: Sequence[Line]


def _views(load: str, y: str, *, dashed: str = "") -> Sequence[Line]:
    names = {
        OURS: "Unspool",
        NCHAN: "nchan",
        BARE: "bare ASGI",
        REDIS_STORAGE: "django-eventstream",
    }
    return [
        Line(
            label=f"{label}, {column.removesuffix(' ms')}" if dashed else label,
            look=view,
            rows={"load": load, "view": view},
            y=column,
            dashed=column == dashed,
        )
        for view, label in names.items()
        for column in (y, dashed)
        if column
    ]


_WAY: Row = {"way": OURS}
PLOTS: Sequence[Plot] = (
    Plot(
        file="lateness_by_rate.svg",
        title="Lateness of an event: {readers} readers of one channel",
        noun="fanout",
        x="rate",
        x_label="events/s of the channel",
        y_label="ms from the publication to the reader",
        lines=_views("rates", "p50 ms", dashed="p99 ms"),
    ),
    Plot(
        file="cost_by_readers.svg",
        title="Cost of a write to a reader: one channel, 50 events/s",
        noun="fanout",
        x="readers",
        x_label="readers of the channel",
        y_label="µs of the web process a write",
        lines=_views("readers", "CPU µs a write"),
    ),
    Plot(
        file="cost_by_token_rate.svg",
        title="Cost of a token: {replies} replies with a reader each",
        noun="token_rates",
        x="rate",
        x_label="tokens/s of each reply",
        y_label="µs of all processes but Redis a token",
        lines=[
            Line(label="Unspool", look=OURS, rows=_WAY, y="processes µs a token"),
            Line(
                label="Unspool, worker alone",
                look=OURS,
                rows=_WAY,
                y="worker µs a token",
                dashed=True,
            ),
            *(
                Line(label=way, look=way, rows={"way": way}, y="processes µs a token")
                for way in (RESUMABLE, FASTAPI, DJANGO)
            ),
        ],
    ),
)


def draw(figures: Figures, folder: Path) -> list[Path]:
    """Draw each plot whose benchmark has run. Returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for plot in PLOTS:
        rows = [figures.find(plot.noun, line.rows) for line in plot.lines]
        if not any(rows):
            continue
        files.append(folder / plot.file)
        title = plot.title.format_map(next(found[0] for found in rows if found))
        with rc_context(STYLE):
            _draw(plot, rows, title + (NO_FIGURES if figures.small else ""), files[-1])
    return files


def _points(rows: Sequence[Row], x: str, y: str) -> Points:
    values = [(row.get(x), row.get(y)) for row in rows]
    return sorted(
        (float(a), float(b))
        for a, b in values
        if isinstance(a, int | float) and isinstance(b, int | float) and a > 0 and b > 0
    )


def _draw(plot: Plot, rows: Sequence[Sequence[Row]], title: str, file: Path) -> None:
    lines = zip(plot.lines, rows, strict=True)
    points = [_points(some, plot.x, line.y) for line, some in lines]
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.add_subplot()
    for line, values in zip(plot.lines, points, strict=True):
        if values:
            colour, marker = LOOKS[line.look]
            axes.plot(
                *zip(*values, strict=True),
                color=colour,
                marker=marker,
                markersize=4 if line.dashed else 6,
                linewidth=1 if line.dashed else 2,
                linestyle="--" if line.dashed else "-",
                label=line.label,
            )
    axes.set_title(title, loc="left")
    axes.set_xlabel(plot.x_label)
    axes.set_ylabel(plot.y_label)
    _scale(axes, sorted({x for values in points for x, _ in values}))
    axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1), frameon=False, borderaxespad=0)
    figure.savefig(file, metadata={"Date": None, "Creator": None})


def _scale(axes: Axes, measured: Sequence[float]) -> None:
    """Make both axes logarithmic, with plain numbers. The x axis has the measured values."""
    plain = FuncFormatter(lambda value, _: f"{value:,g}")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(measured)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(plain)
        axis.set_minor_formatter(NullFormatter())
    axes.minorticks_off()


def main() -> None:
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else FOLDER
    for file in draw(read_figures(Path(sys.argv[1])), folder):
        print(file)


if __name__ == "__main__":
    main()
