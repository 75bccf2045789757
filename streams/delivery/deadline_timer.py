"""The one timer of all followers of a process. It ends at the earliest of their deadlines.

A timer for each wait would cost more than all other work of a follower for an event. A clock that
also ticks while no deadline is near would be most of the cost of an idle process.
"""

import asyncio
from collections.abc import Callable
from math import ceil
from time import monotonic

TICK = 0.1  # seconds: deadlines that end within the same tenth of a second share one timer
EARLY = 0.001  # seconds by which uvloop may end a timer too early
NEVER = float("inf")


class DeadlineTimer:
    """Calls `pass_deadlines(now)` at most a tick after each deadline, and gets the next one."""

    def __init__(self, pass_deadlines: Callable[[float], float]) -> None:
        self._pass_deadlines = pass_deadlines
        self._ends_at = NEVER
        self._timer: asyncio.TimerHandle | None = None

    def wake_at(self, deadline: float) -> None:
        """End at this deadline (`monotonic()`), unless the timer ends earlier anyway.

        All calls must come from the same event loop.
        """
        if deadline >= self._ends_at:
            return
        self.close()
        self._ends_at = ceil(deadline / TICK) * TICK
        delay = max(0.0, self._ends_at - monotonic()) + EARLY
        self._timer = asyncio.get_running_loop().call_later(delay, self._end)

    def close(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer, self._ends_at = None, NEVER

    def _end(self) -> None:
        self._timer, self._ends_at = None, -NEVER  # so `wake_at` sets no timer meanwhile
        due = (now := monotonic()) + TICK  # after an error, the next tick passes the deadlines
        try:
            due = self._pass_deadlines(now)
        finally:
            self._ends_at = NEVER
            self.wake_at(due)
