"""All benchmarks, one after the other, each bounded in time: `make bench`."""

import subprocess
import sys

NOUNS = ("duplicates", "fanout", "opening", "publishing", "journey", "asking", "returning")
NOUNS += ("storing", "growth", "held", "neighbours")
MINUTES = 8  # for each


def main() -> int:
    failed = []
    for noun in NOUNS:
        command = [sys.executable, "-m", f"tests.benchmarks.{noun}", *sys.argv[1:]]
        try:
            if subprocess.run(command, timeout=60 * MINUTES).returncode:
                failed.append(noun)
        except subprocess.TimeoutExpired:
            failed.append(f"{noun} (not within {MINUTES} minutes)")
    if failed:
        print(f"Failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
