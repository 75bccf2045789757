"""What `make bench` makes of its figures: the table of aims, and the plots of the documents."""

import json
from pathlib import Path

from tests.benchmarks.aims import AIMS, Aim
from tests.benchmarks.pairs import compared
from tests.benchmarks.plots import PLOTS, draw
from tests.benchmarks.report import Figures, Row, read_figures
from tests.benchmarks.summary import summary

OURS: Row = {"view": "ours", "ms": 5.0}
PEER: Row = {"view": "nchan", "ms": 2.0}


def figures(*rows: Row, small: bool = False) -> Figures:
    return Figures(rows={"opening": rows}, small=small)


def aim(
    *, most: float | None = None, times: float | None = None, least: float | None = None
) -> Aim:
    peers: dict[str, Row] = {"nchan": {"view": "nchan"}}
    wanted: Row = {"view": "ours"}
    return Aim("opening", "opening", "ms", wanted, peers, most=most, times=times, least=least)


def test_an_absolute_aim_needs_our_figure_alone() -> None:
    assert aim(most=5).met(figures(OURS)) is True
    assert aim(most=4.9).met(figures(OURS)) is False
    assert aim(least=5).met(figures(OURS)) is True
    assert aim(least=5.1).met(figures(OURS)) is False
    assert aim(most=5).met(figures(PEER)) is None


def test_a_relative_aim_needs_the_peer_of_the_same_run() -> None:
    assert aim(times=2.5).met(figures(OURS, PEER)) is True
    assert aim(times=2.4).met(figures(OURS, PEER)) is False
    assert aim(times=2.5).met(figures(OURS)) is None


def test_the_table_has_a_row_for_each_aim_even_if_nothing_was_measured() -> None:
    lines = summary(Figures(rows={}, small=False)).splitlines()
    assert len(lines) == 2 + len(AIMS)
    assert all(line.endswith("| not measured |") for line in lines[2:])


def test_small_sizes_are_said_to_mean_nothing() -> None:
    assert summary(figures(small=True)).startswith("The sizes were those of --small")


def test_the_figures_of_a_file_are_those_of_the_latest_run(tmp_path: Path) -> None:
    file = tmp_path / "figures.jsonl"
    about = {
        "benchmark": "opening",
        "machine": "2 cores",
        "python": "3.11.2",
        "date": "2026-11-30T09:00:00+00:00",
    }
    earlier = json.dumps({**about, "small": True, "load": 9, "rows": [{"ms": 1}]}) + "\n"
    later = json.dumps({**about, "small": False, "load": 0.5, "rows": [{"ms": 2}]}) + "\n"
    file.write_text(earlier + later)
    assert read_figures(file) == Figures(
        rows={"opening": [{"ms": 2}]},
        small=False,
        origin="2 cores, Python 3.11.2, 2026-11-30; load before a benchmark 0.5 to 0.5",
    )
    assert read_figures(file, since=len(earlier)) == read_figures(file)


def test_equal_figures_draw_equal_files_with_text_and_without_a_date(tmp_path: Path) -> None:
    rows: dict[str, list[Row]] = {plot.noun: [] for plot in PLOTS}
    for plot in PLOTS:
        rows[plot.noun] += [
            {**line.rows, plot.x: x, line.y: float(x), "readers": x, "replies": x}
            for line in plot.lines
            for x in (20, 50)
        ]
    measured = Figures(rows=rows, small=False)
    first, again = draw(measured, tmp_path / "first"), draw(measured, tmp_path / "again")
    assert [file.name for file in first] == [plot.file for plot in PLOTS]
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in again]
    text = first[0].read_text()
    assert ">nchan, p50</text>" in text
    assert "<dc:date>" not in text


def test_a_benchmark_that_did_not_run_gives_no_plot(tmp_path: Path) -> None:
    assert draw(Figures(rows={}, small=False), tmp_path) == []


def test_a_row_is_compared_with_the_first_one_of_the_same_name() -> None:
    before: list[Row] = [{"log": "ours", "events": 5000, "µs": 100.0, "gone": 1.0}]
    now: list[Row] = [
        {"log": "library", "load": "paced", "events": 5000, "µs": 7.0},
        {"log": "ours", "load": "paced", "events": 5000, "µs": 40.0},
        {"log": "ours", "load": "at once", "events": 5000, "µs": 20.0},
    ]
    faster = [now[0], {**now[1], "µs": 30.0}, now[2]]
    assert compared([before, before, before], [now, faster, now]) == [
        {"row": "ours 5000", "figure": "µs", "before": 100.0, "now": 40.0}
        | {"×": 0.4, "from": 0.3, "to": 0.4}
    ]
