"""Waits with limits, all of which share one timer."""

import asyncio

import pytest

from workers.generators.waits import Waits


async def waiting(waits: Waits, seconds: float) -> float:
    """Wait for ever, within the limit. Returns after how many seconds it ended."""
    began = waits.time()
    with pytest.raises(TimeoutError), waits.limit(seconds):
        await asyncio.Event().wait()
    return waits.time() - began


async def test_each_wait_ends_at_its_own_limit_whatever_the_order() -> None:
    waits = Waits(asyncio.get_running_loop())
    limits = [0.3, 0.1, 0.2, 0.1]
    took = await asyncio.gather(*(waiting(waits, limit) for limit in limits))
    for limit, seconds in zip(limits, took, strict=True):
        assert limit <= seconds + 0.002 < limit + 0.1  # uvloop's timers count whole milliseconds
    assert await waiting(waits, 0.05) < 0.15  # after the timer was for nothing


async def test_a_wait_that_ends_before_its_limit_is_not_cancelled_later() -> None:
    waits = Waits(asyncio.get_running_loop())
    for _ in range(3):
        with waits.limit(0.05):
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    with waits.limit(0.05):
        await asyncio.sleep(0)


async def test_a_cancel_from_elsewhere_stays_one() -> None:
    waits = Waits(asyncio.get_running_loop())
    task = asyncio.create_task(waiting(waits, 0.1))
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
