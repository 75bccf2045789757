"""Runs all benchmarks, each with a time limit, then prints the aims' table and draws the plots.

`make bench`, or `python -m tests.benchmarks --small`. At their usual size the benchmarks run one
after the other, because each needs the machine to itself, and the plots go to the documents. With
`--small` they only show whether each benchmark works, so as many run at once as there are cores.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tests.benchmarks import plots
from tests.benchmarks.report import read_figures
from tests.benchmarks.summary import summary

# The longest first, so that no core is idle for long at the end if two run at once.
NOUNS = (
    *("fanout", "growth", "publishing", "token_rates", "end_to_end", "pushpin"),
    *("wires", "reconnecting", "appending", "first_token", "duplicates", "agents", "opening"),
    "fairness",
)
SECONDS, SMALL_SECONDS = 8 * 60, 180  # for each; CI runs other parts beside small ones


def run(noun: str, *, small: bool, file: Path) -> str | None:
    """Run one benchmark and print its rows. Returns the reason of a failure."""
    seconds = SMALL_SECONDS if small else SECONDS
    command = [sys.executable, "-m", f"tests.benchmarks.{noun}", "--json", str(file)]
    command += ["--small"] if small else []
    with tempfile.TemporaryFile() as kept:
        # Otherwise the output of benchmarks that run at once would be mixed.
        words = kept if small else None
        process = subprocess.Popen(command, stdout=words, stderr=words)
        try:
            status = process.wait(seconds)
            fault = f"{noun} ended with {status}" if status else None
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)  # it ends its own processes and exits
            fault = f"{noun} was not done within {seconds} s"
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if small:
            kept.seek(0)
            sys.stdout.buffer.write(kept.read())
            sys.stdout.flush()
    return fault


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--json", type=Path, help="add the results to this file, a line for each")
    parser.add_argument("--small", action="store_true", help="tiny: does each work at all?")
    asked = parser.parse_args()
    at_once = (os.cpu_count() or 1) if asked.small else 1
    with tempfile.TemporaryDirectory(prefix="unspool-bench-") as folder:
        file = asked.json or Path(folder) / "figures.jsonl"
        file.touch()
        before = file.stat().st_size  # bytes of earlier runs
        with ThreadPoolExecutor(at_once) as pool:
            run_one = partial(run, small=asked.small, file=file)
            faults = [fault for fault in pool.map(run_one, NOUNS) if fault]
        figures = read_figures(file, since=before)
        print(summary(figures))
        for drawn in plots.draw(figures, Path(folder) if asked.small else plots.FOLDER):
            print(f"Drawn: {drawn}")
    for fault in faults:
        print(f"Failed: {fault}.", file=sys.stderr)
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
