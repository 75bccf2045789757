"""A failover of Redis: the primary dies, and its replica takes over at the same address."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from tests.faults.conftest import Judge, Size, Stacks
from tests.support.many_followers import delta, dropping_readers, following, wait_for_all
from tests.support.outages import cut_off, replica_of, taken_over
from tests.support.stack import Stack
from tests.support.valkey import Valkey
from tests.support.visitor import script

HELD_AT = 200  # the piece before which the replies wait until Redis has failed over
BACK_WITHIN = 10.0  # seconds after the primary's death
Pair = Callable[[bool], AbstractAsyncContextManager[tuple[Stack, Valkey]]]
in_front = pytest.mark.parametrize("pushpin", [False, True], ids=["directly", "behind Pushpin"])


@pytest.fixture
def pair(stacks: Stacks) -> Pair:
    """`async with pair(pushpin) as (stack, replica)`."""

    @asynccontextmanager
    async def one(pushpin: bool) -> AsyncIterator[tuple[Stack, Valkey]]:
        async with stacks(proxied=True, pushpin=pushpin) as stack, replica_of(stack) as replica:
            yield stack, replica

    return one


@in_front
async def test_a_failover_to_a_complete_replica_loses_no_event(
    pair: Pair, judge: Judge, size: Size[int], chance: random.Random, pushpin: bool
) -> None:
    for number in range(size(1, 10)):
        async with pair(pushpin) as (stack, replica):
            visitor = await stack.visitor()
            asked, followers = await dropping_readers(
                visitor, chance, 4, seed=number, hold_at=HELD_AT
            )
            async with following(followers, within=60):
                await wait_for_all(followers, delta(chance.randrange(20, 80)), within=30)
                cut_off(stack)
                await replica.replicate(stack.valkey)
                killed = time.monotonic()
                await taken_over(stack, replica)
                for one in asked:
                    stack.model.release(one.script)
            report = await judge(visitor, asked, followers, broken_at=[killed])
            assert report.clean, report
            assert report.recovery(1) <= BACK_WITHIN, report
            runs = [await visitor.run(one.run) for one in asked]
            assert [run["status"] for run in runs] == ["completed"] * len(runs)


@in_front
async def test_a_failover_to_a_lagging_replica_resets_the_streams(
    pair: Pair, judge: Judge, size: Size[int], chance: random.Random, pushpin: bool
) -> None:
    for number in range(size(1, 10)):
        async with pair(pushpin) as (stack, replica):
            visitor = await stack.visitor()
            asked, followers = await dropping_readers(
                visitor, chance, 4, seed=number, hold_at=HELD_AT
            )
            stopped, followed_up, *others = asked
            async with following(followers, within=60):
                seen = chance.randrange(20, 80)
                await wait_for_all(followers, delta(seen), within=30)
                await replica.promote()  # from here on it receives no writes
                await wait_for_all(followers, delta(seen + chance.randrange(10, 60)), within=30)
                killed = time.monotonic()
                await taken_over(stack, replica)
                for one in others:
                    stack.model.release(one.script)
                await visitor.cancel(stopped.run)
                asked.append(
                    await visitor.send(
                        followed_up.conversation, script(tokens=30, seed="next"), when_busy="queue"
                    )
                )
                stack.model.release(followed_up.script)
            report = await judge(visitor, asked, followers, broken_at=[killed], resets_allowed=True)
            assert report.clean, report
            assert report.resets, "nothing was lost: this has shown nothing"
            assert report.recovery(1) <= BACK_WITHIN, report
            runs = [await visitor.run(one.run) for one in asked]
            completed = ["completed"] * (len(runs) - 1)
            assert [run["status"] for run in runs] == ["cancelled", *completed]
