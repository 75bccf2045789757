"""A clock that is a second slow while a file exists.

Python imports this at its start, in processes whose PYTHONPATH names this folder.
"""

import os
import time

SECOND = 1_000_000_000  # nanoseconds

true_time = time.time_ns


def time_ns() -> int:
    return true_time() - SECOND * os.path.exists(os.environ["CLOCK_BACK_WHILE"])


time.time_ns = time_ns
