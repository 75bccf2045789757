"""All benchmarks, each bounded in time: `make bench`, or `python -m tests.benchmarks --small`.

At their usual size they run one after the other, because each needs the machine to itself. Small
ones only show whether a benchmark works, so as many run at once as there are cores.
"""

import os
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

# The longest first: where two run at once, neither is left over at the end.
NOUNS = (
    *("fanout", "growth", "publishing", "end_to_end", "pushpin"),
    *("wires", "reconnecting", "appending", "first_token", "duplicates", "agents", "opening"),
    "fairness",
)
SECONDS, SMALL_SECONDS = 8 * 60, 180  # for each; CI runs other parts beside small ones


def run(noun: str) -> str | None:
    """Run one benchmark and print its rows. Returns the reason of a failure."""
    small = "--small" in sys.argv[1:]
    seconds = SMALL_SECONDS if small else SECONDS
    command = [sys.executable, "-m", f"tests.benchmarks.{noun}", *sys.argv[1:]]
    with tempfile.TemporaryFile() as kept:
        # The output of several at once would be mixed.
        words = kept if small else None
        process = subprocess.Popen(command, stdout=words, stderr=words)
        try:
            status = process.wait(seconds)
            fault = f"{noun} ended with {status}" if status else None
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)  # it ends its own processes on its way out
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
    if {"-h", "--help"} & set(sys.argv):
        print(f"{__doc__}\n--small, --json PATH: see tests/benchmarks/report.py")
        return 0
    at_once = (os.cpu_count() or 1) if "--small" in sys.argv[1:] else 1
    with ThreadPoolExecutor(at_once) as pool:
        faults = [fault for fault in pool.map(run, NOUNS) if fault]
    for fault in faults:
        print(f"Failed: {fault}.", file=sys.stderr)
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
