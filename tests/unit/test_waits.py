"""Waits with limits, all of which share one timer."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from workers.generators.waits import Waits


@dataclass
class Timer:
    at: float
    callback: Callable[[], None]
    is_cancelled: bool = False

    def when(self) -> float:
        return self.at

    def cancel(self) -> None:
        self.is_cancelled = True


class Clock:
    """What `Waits` uses of an event loop. Its time passes only in `advance`."""

    def __init__(self) -> None:
        self._now, self._timers = 0.0, list[Timer]()

    def time(self) -> float:
        return self._now

    def call_at(self, at: float, callback: Callable[[], None]) -> Timer:
        self._timers.append(timer := Timer(at, callback))
        return timer

    async def advance(self, to: float) -> None:
        """Call what is due until then. Each time, the tasks run before the time goes on."""
        await _let_tasks_run()
        while due := [one for one in self._timers if one.at <= to and not one.is_cancelled]:
            timer = min(due, key=Timer.when)
            self._timers.remove(timer)
            self._now = timer.at
            timer.callback()
            await _let_tasks_run()
        self._now = to


async def _let_tasks_run() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def waiting(waits: Waits, seconds: float) -> float:
    """Wait for ever, within the limit. Returns after how many seconds it ended."""
    began = waits.time()
    with pytest.raises(TimeoutError), waits.limit(seconds):
        await asyncio.Event().wait()
    return waits.time() - began


async def test_each_wait_ends_at_its_own_limit_whatever_the_order() -> None:
    clock: Any = Clock()
    waits, limits = Waits(clock), [3.0, 1.0, 2.0, 1.0]
    tasks = [asyncio.create_task(waiting(waits, limit)) for limit in limits]
    await clock.advance(10)
    assert await asyncio.gather(*tasks) == limits
    with waits.limit(1):
        pass  # its timer fires, but for nothing
    later = asyncio.create_task(waiting(waits, 2))
    await clock.advance(20)
    assert await later == 2


async def test_a_real_timer_does_not_end_a_wait_before_its_limit() -> None:
    waits = Waits(asyncio.get_running_loop())
    limits = [0.03, 0.01, 0.02, 0.01]
    took = await asyncio.gather(*(waiting(waits, limit) for limit in limits))
    for limit, seconds in zip(limits, took, strict=True):
        assert limit <= seconds + 0.002  # uvloop's timers count whole milliseconds


async def test_a_wait_that_ends_before_its_limit_is_not_cancelled_later() -> None:
    clock: Any = Clock()
    waits = Waits(clock)
    for n in range(3):
        with waits.limit(5):
            await clock.advance(n + 1)
    await clock.advance(20)
    with waits.limit(5):
        await asyncio.sleep(0)


async def test_a_cancel_from_elsewhere_stays_one() -> None:
    waits = Waits(asyncio.get_running_loop())
    task = asyncio.create_task(waiting(waits, 60))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancel_from_elsewhere_at_the_limit_wins() -> None:
    wait = Waits(asyncio.get_running_loop()).limit(60)

    async def held() -> None:
        with wait:
            await asyncio.Event().wait()

    task = asyncio.create_task(held())
    await asyncio.sleep(0)
    wait.end()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
