"""The one timer of all followers of a process: it ends when the earliest of their deadlines has.

A timer for each wait would cost more than all else that a follower does for an event, and a clock
that ticks although no deadline is near is most of what an idle process costs.
"""

import asyncio
from collections.abc import Callable
from math import ceil
from time import monotonic

TICK = 0.1  # seconds: deadlines that end within the same tenth of a second share one timer
EARLY = 0.001  # seconds by which uvloop may end a timer too early
NEVER = float("inf")


class DeadlineTimer:
    """Calls `pass_deadlines(now)`, which returns the next deadline, at most a tick after each."""

    def __init__(self, pass_deadlines: Callable[[float], float]) -> None:
        self._pass_deadlines = pass_deadlines
        self._ends_at = NEVER
        self._timer: asyncio.TimerHandle | None = None

    def wake_at(self, deadline: float) -> None:
        """End at this deadline (`monotonic()`), unless it ends earlier. For one event loop."""
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
        self._timer, self._ends_at = None, -NEVER  # a deadline that is set meanwhile is returned
        due = (now := monotonic()) + TICK  # after a fault, the others' deadlines are still passed
        try:
            due = self._pass_deadlines(now)
        finally:
            self._ends_at = NEVER
            self.wake_at(due)
