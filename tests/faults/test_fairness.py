"""The runs of one owner do not delay another owner's, also after a time without workers."""

from __future__ import annotations

import asyncio
import time

from tests.faults.conftest import Size, Stacks
from tests.support.many_followers import delta, following, wait_for_all
from tests.support.stack import Stack
from tests.support.visitor import Visitor, script

PLACES = 16
VISITORS = 10  # each with one POST under way at most
BEGINS_WITHIN = 20.0  # seconds; beside replies that do not end meanwhile
LONG = script(tokens=20_000, rate=2)  # it ends when it is cancelled
SOON = {"REDISPATCH_AFTER": "1", "SWEEP_INTERVAL": "0.5"}  # seconds: a minute is worth ten


async def ask_many(visitor: Visitor, count: int) -> None:
    await asyncio.gather(*(visitor.ask(LONG) for _ in range(count)))


async def ask_in_turn(visitor: Visitor, count: int) -> None:
    for _ in range(count):
        await visitor.ask(LONG)


async def begins_after(visitor: Visitor) -> float:
    """Seconds until the first delta of a reply is received."""
    begun = time.monotonic()
    asked = await visitor.ask(script(tokens=5))
    reader = visitor.follower(asked.conversation, cursor=asked.cursor)
    async with following([reader], within=60):
        await wait_for_all([reader], delta(0), within=60)
    return time.monotonic() - begun


async def queue_length(stack: Stack) -> int:
    metrics = (await stack.visitor()).http
    lines = (await metrics.get("/metrics")).text.splitlines()
    return int(float(next(line for line in lines if line.startswith("unspool_queue")).split()[1]))


async def test_an_owner_that_fills_all_places_leaves_room_for_another(stacks: Stacks) -> None:
    async with stacks(also={"WORKER_CONCURRENCY": str(PLACES)}) as stack:
        greedy, other = await stack.visitor(), await stack.visitor()
        await ask_many(greedy, 2 * PLACES)
        assert await begins_after(other) <= BEGINS_WITHIN


async def test_after_an_outage_of_the_workers_a_new_run_starts_as_soon_as_before(
    stacks: Stacks, size: Size[int]
) -> None:
    async with stacks(workers=0, also={"WORKER_CONCURRENCY": str(PLACES), **SOON}) as stack:
        count = size(10, 100)
        visitors = [await stack.visitor() for _ in range(VISITORS)]
        await asyncio.gather(*(ask_in_turn(visitor, count) for visitor in visitors))
        until = time.monotonic() + size(10, 600)
        while time.monotonic() < until:
            # One task a run, and one for each POST under way when a sweep counted.
            assert await queue_length(stack) <= VISITORS * count + VISITORS
            await asyncio.sleep(1)
        other = await stack.visitor()
        asked = await other.ask(script(tokens=5))
        reader = other.follower(asked.conversation, cursor=asked.cursor)
        async with following([reader], within=60):
            await stack.add_worker()
            begun = time.monotonic()
            await wait_for_all([reader], delta(0), within=60)
            assert time.monotonic() - begun <= BEGINS_WITHIN
