"""Readers that do not read cost a bounded amount of memory, and delay no other reader."""

from __future__ import annotations

import asyncio

import pytest

from tests.faults.conftest import Judge, Size, Stacks
from tests.support.follower import Follower
from tests.support.many_followers import following, lateness, quantile
from tests.support.stack import Stack
from tests.support.visitor import AcceptedRun, Visitor, script
from tests.support.waiting import until

RATE = 100  # deltas a second
LONG = 4000  # tokens: several times what buffers on the way hold
EACH_TOKEN = {"DELTA_WINDOW": "0"}  # is an event: the most that a reader can leave unread
NOISE = 0.02  # seconds that a busy machine adds to any delay
TRIES = 2  # another program may disturb one of the two; the readers that do not read are in both
HUNDRED_MB = 100 * 1024 * 1024


@pytest.mark.alone
async def test_readers_that_do_not_read_delay_no_other_reader(
    stacks: Stacks, judge: Judge, size: Size[int]
) -> None:
    each = size(25, 150)  # that never read, and that read slowly
    async with stacks(also=EACH_TOKEN) as stack:
        visitor = await stack.visitor()
        long = await visitor.ask(script(tokens=LONG, seed="long"))
        async with following([visitor.follower(long.conversation)], within=60):
            pass
        asked, alone = await normal(visitor, seed=1)
        before = stack.web.memory()
        never = [visitor.follower(long.conversation, cursor=0, pause=3600) for _ in range(each)]
        slow = [
            visitor.follower(long.conversation, cursor=0, portion=100, pause=1) for _ in range(each)
        ]
        idlers = [asyncio.create_task(follower.follow()) for follower in (*never, *slow)]
        await at_rest(stack, within=30)
        late_alone = p95(alone)
        talks, readers = [asked], [*alone]
        for seed in range(2, 2 + TRIES):
            another, beside = await normal(visitor, seed=seed)
            talks.append(another)
            readers += beside
            late_beside = p95(beside)
            print(f"p95 lateness: {late_alone:.3f} s alone, {late_beside:.3f} s beside them")
            if late_beside <= 1.3 * late_alone + NOISE:
                break
        after = stack.web.memory()
        for follower in (*never, *slow):
            follower.stop()
        for idler in idlers:
            idler.cancel()
        await asyncio.gather(*idlers, return_exceptions=True)
        await resumed(stack, judge, visitor, long, slow)
        report = await judge(visitor, talks, readers)
        assert report.clean, report
        assert after - before <= HUNDRED_MB
        assert late_beside <= 1.3 * late_alone + NOISE


async def test_a_reader_frozen_for_long_reconnects_and_loses_nothing(
    stacks: Stacks, judge: Judge, size: Size[int]
) -> None:
    """Its connection is closed while it reads nothing, and its cursor is good afterwards."""
    frozen, allowed = size(12, 120), size(3, 30)  # seconds
    async with stacks(also={"STREAM_WRITE_TIMEOUT": str(allowed), **EACH_TOKEN}) as stack:
        visitor = await stack.visitor()
        asked = await visitor.ask(script(tokens=LONG * 4, seed="frozen"))
        reader = visitor.follower(asked.conversation, cursor=0, portion=4096, pause=frozen)
        follows = asyncio.create_task(reader.follow())
        await until(lambda: any(reader.recording.received()), within=30, what="a first event")
        reader.pause = 0.0  # from its next read on
        await follows
        report = await judge(visitor, [asked], [reader])
        assert report.clean, report
        assert len(reader.recording.connections) > 1


def p95(followers: list[Follower]) -> float:
    return quantile(lateness([follower.recording for follower in followers], RATE), 0.95)


async def at_rest(stack: Stack, *, within: float) -> None:
    """Each reader that does not read has got as much as its buffers hold; the web process waits."""
    async with asyncio.timeout(within):
        spent = 0.0
        while stack.web.processor() - spent > 0.05:
            spent = stack.web.processor()
            await asyncio.sleep(0.5)


async def normal(visitor: Visitor, *, seed: int) -> tuple[AcceptedRun, list[Follower]]:
    """Fifty normal readers of one reply of ten seconds."""
    asked = await visitor.ask(script(tokens=10 * RATE, rate=RATE, seed=seed))
    followers = [visitor.follower(asked.conversation, cursor=asked.cursor) for _ in range(50)]
    async with following(followers, within=60):
        pass
    return asked, followers


async def resumed(
    stack: Stack, judge: Judge, visitor: Visitor, asked: AcceptedRun, slow: list[Follower]
) -> None:
    """A reader that was too slow resumes at its cursor and loses nothing."""
    back = [
        visitor.follower(asked.conversation, cursor=follower.recording.cursor() or 0)
        for follower in slow
    ]
    async with following(back, within=60):
        pass
    for follower, later in zip(slow, back, strict=True):
        later.recording.connections[:0] = follower.recording.connections
    report = await judge(visitor, [asked], back)
    assert report.clean, report
