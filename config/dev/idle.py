"""What a needless line of the Procfile does: under honcho, its end would be everybody's."""

import signal
from typing import NoReturn


def idle(what: str, why: str) -> NoReturn:
    print(f"{what} is not needed: {why}.", flush=True)
    while True:
        signal.pause()
