"""Sleep for ever, in place of a process that the settings make unnecessary.

`make run` stops all processes when one exits, so an unneeded line of the Procfile must not exit.
"""

import signal
from typing import NoReturn


def idle(what: str, why: str) -> NoReturn:
    """Print why this process is not needed, then sleep until a signal ends it."""
    print(f"{what} is not needed: {why}.", flush=True)
    while True:
        signal.pause()
