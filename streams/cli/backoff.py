"""How long a client waits before it tries again, what it says meanwhile, and when it gives up."""

import random
import time
from collections.abc import Callable

FIRST = 0.4  # seconds before the first new try, ± a half: not everybody in the same moment
LONGEST = 8.0  # seconds between two tries
GIVEN_UP = 600.0  # seconds without an answer; a restart takes seconds, a bad deploy minutes

Tell = Callable[[str], None]


class Unreachable(Exception):
    """Nobody has answered, for too long: say so, and stop."""


class Patience:
    """One thing that is tried until it succeeds. `tell` hears when it is lost, and when it is back.

    `pause` after each failure, `answered` after each success.
    """

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._tries = 0
        self._since = 0.0

    def pause(self, least: float = 0.0) -> None:
        """Wait until the next try, `least` seconds or longer. Raises `Unreachable`."""
        if not self._tries:
            self._since = time.monotonic()
            self._tell("reconnecting…")
        elif time.monotonic() - self._since > GIVEN_UP:
            raise Unreachable(f"The service has not answered for {GIVEN_UP / 60:.0f} minutes.")
        wait = min(LONGEST, FIRST * 2**self._tries) * random.uniform(0.5, 1.5)
        self._tries += 1
        time.sleep(max(least, wait))

    def answered(self) -> None:
        if self._tries:
            self._tries = 0
            self._tell("back, nothing lost")
