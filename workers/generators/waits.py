"""Limits the waits of many tasks with one timer.

`asyncio.timeout` creates and closes a timer for each wait. With uvloop this takes 4 µs for each
token of each reply, though hardly any wait reaches its limit. Here one timer is set for the
earliest known limit. When it fires, it is set for the next one.
"""

import asyncio
from functools import lru_cache
from types import TracebackType


class Wait:
    """A context in which the current task waits, for `seconds` at most.

    Like `asyncio.timeout`, it raises `TimeoutError` at its end if the task reached the limit.
    """

    def __init__(self, waits: "Waits", seconds: float) -> None:
        self._waits = waits
        self.ends_at = waits.time() + seconds
        self._is_over = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task
        self._task, self._cancelling = task, task.cancelling()
        self._waits.add(self)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._waits.remove(self)
        is_own = self._is_over and self._task.uncancel() <= self._cancelling
        if is_own and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def end(self) -> None:
        """Cancel the task, because the limit is reached."""
        self._is_over = True
        self._task.cancel()


class Waits:
    """The limited waits of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.time = loop.time
        self._loop = loop
        self._waiting: dict[Wait, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def limit(self, seconds: float) -> Wait:
        """A context in which the current task waits for `seconds` at most."""
        return Wait(self, seconds)

    def add(self, wait: Wait) -> None:
        self._waiting[wait] = None
        if self._timer is None or wait.ends_at < self._timer.when():
            self._set_timer(wait.ends_at)

    def remove(self, wait: Wait) -> None:
        self._waiting.pop(wait, None)

    def _set_timer(self, at: float) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._end_all_due)

    def _end_all_due(self) -> None:
        self._timer = None
        now = self.time()
        for wait in [wait for wait in self._waiting if wait.ends_at <= now]:
            self.remove(wait)
            wait.end()
        if self._waiting:
            self._set_timer(min(wait.ends_at for wait in self._waiting))


@lru_cache(maxsize=8)
def waits_of(loop: asyncio.AbstractEventLoop) -> Waits:
    """The waits of this event loop."""
    return Waits(loop)
