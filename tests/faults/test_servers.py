"""Two Redis servers: while one is down, the conversations of the other continue."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest

from tests.faults.conftest import Judge, Size, Stacks
from tests.support.follower import Follower
from tests.support.many_followers import (
    following,
    numbered_since,
    wait_for_all,
    wait_past_first_request,
)
from tests.support.stack import Stack
from tests.support.valkey import Valkey
from tests.support.visitor import AcceptedRun, Visitor, script

LONG = 20_000  # tokens: a reply that lasts until it is cancelled
RATE = 20  # tokens a second
APART = 1.0  # seconds at most between two events, whatever happens to the other server
ANSWERED_WITHIN = 3.0  # seconds for a POST: three round trips to Redis, and one to dispatch
BACK_WITHIN = 10.0  # seconds after the server's return until a reply continues


async def home(stack: Stack, one: AcceptedRun) -> int:
    """The one server on which the conversation's log is."""
    state = f"{{conversation-{one.conversation}}}:state"
    found = [bool(await valkey.client.exists(state)) for valkey in stack.valkeys]
    assert sum(found) == 1
    return found.index(True)


async def on_each(stack: Stack, visitor: Visitor, count: int) -> list[list[AcceptedRun]]:
    """So many long replies at least on each server."""
    there: list[list[AcceptedRun]] = [[] for _ in stack.valkeys]
    while any(len(those) < count for those in there):
        seed = sum(map(len, there))
        one = await visitor.ask(script(tokens=LONG, rate=RATE, seed=seed))
        there[await home(stack, one)].append(one)
    return there


@asynccontextmanager
async def away(valkey: Valkey, *, silent: bool) -> AsyncIterator[None]:
    """Killed, or silent: its connections stay, and nothing is answered."""
    if silent:
        valkey.freeze()
        yield
        valkey.thaw()
    else:
        valkey.kill()
        yield
        valkey.start()
        await valkey.answers()
        await forget_nothing(valkey)


async def forget_nothing(valkey: Valkey) -> None:
    """Write every change to disk at once: otherwise kill -9 may lose the last second."""
    await valkey.client.config_set("appendfsync", "always")


def longest_silence(follower: Follower, since: float, until: float) -> float:
    """The longest time, in seconds, between two events of this follower."""
    heard = [h.at for h in follower.recording.received() if h.block.id and since <= h.at <= until]
    return max(later - earlier for earlier, later in pairwise([since, *heard, until]))


@pytest.mark.parametrize("pushpin", [False, True], ids=["directly", "behind Pushpin"])
async def test_an_outage_of_one_redis_server_does_not_affect_readers_of_the_other(
    stacks: Stacks, judge: Judge, size: Size[int], chance: random.Random, pushpin: bool
) -> None:
    async with stacks(valkeys=2, workers=2, pushpin=pushpin) as stack:
        for valkey in stack.valkeys:
            await forget_nothing(valkey)
        visitor = await stack.visitor()
        there = await on_each(stack, visitor, 2)
        followers = [
            [visitor.follower(one.conversation, cursor=one.cursor) for one in those for _ in "ab"]
            for those in there
        ]
        lasting = [follower for those in followers for follower in those]
        asked, returns = [one for those in there for one in those], []
        async with following(lasting, within=30):
            await wait_past_first_request(lasting)
            for number in range(size(4, 20)):
                one = (number + number // 2) % 2  # each is killed, and each is silent
                begun = time.monotonic()
                async with away(stack.valkeys[one], silent=number % 2 == 1):
                    asked.append(await visitor.ask(script(tokens=20, rate=50, seed=1000 + number)))
                    assert asked[-1].took < ANSWERED_WITHIN
                    await asyncio.sleep(chance.uniform(1, size(4, 8)))
                    back = time.monotonic()
                    for follower in followers[1 - one]:
                        assert longest_silence(follower, begun, back) < APART
                returns.append(time.monotonic())
                await wait_for_all(lasting, numbered_since(returns[-1]), within=30)
                async with asyncio.timeout(30):
                    await visitor.follower(asked[-1].conversation).follow()
            for run in [one.run for those in there for one in those]:
                await visitor.cancel(run)
        report = await judge(visitor, asked, lasting, broken_at=returns)
        assert report.clean, report
        assert report.recovery(1) <= BACK_WITHIN, report
        late = [visitor.follower(one.conversation, cursor=0) for one in asked]
        async with following(late, within=30):
            pass
        report = await judge(visitor, asked, late)
        assert report.clean, report
