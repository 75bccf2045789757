"""Web processes that are killed, ended and replaced while readers hold their streams."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from tests.faults.conftest import Judge, Size, Stacks
from tests.support.many_followers import delta, following, numbered_since, wait_for_all
from tests.support.ports import HOST
from tests.support.recording import Ended
from tests.support.visitor import script

BACK_WITHIN = 10.0  # seconds until all followers are connected again
LONG = 20_000  # tokens: a reply that lasts until it is cancelled


@pytest.mark.long
async def test_readers_of_a_web_process_that_is_killed_lose_nothing(
    stacks: Stacks, judge: Judge, size: Size[int]
) -> None:
    async with stacks() as stack:
        visitor = await stack.visitor()
        asked = await visitor.ask(script(tokens=LONG, rate=30, seed=1))
        followers = [
            visitor.follower(asked.conversation, cursor=asked.cursor if n % 2 else None)
            for n in range(50)
        ]
        kills: list[float] = []
        async with following(followers, within=30):
            await wait_for_all(followers, delta(0), within=30)
            for _ in range(size(6, 100)):
                kills.append(time.monotonic())
                stack.web.kill()
                stack.web.start()
                await wait_for_all(followers, numbered_since(kills[-1] + 0.5), within=30)
            await stack.ready(stack.web)  # held readers have gone on without it
            await visitor.cancel(asked.run)
        report = await judge(visitor, [asked], followers, broken_at=[k + 0.5 for k in kills])
        assert report.clean, report
        assert report.recovery(1) <= BACK_WITHIN - 0.5


async def test_replacing_web_processes_one_by_one_loses_nothing(
    stacks: Stacks, judge: Judge, size: Size[int], chance: random.Random
) -> None:
    async with stacks(webs=2) as stack:
        visitor = await stack.visitor(port=stack.front.port)
        asked = [await visitor.ask(script(tokens=LONG, rate=30, seed=n)) for n in range(3)]
        followers = [
            visitor.follower(one.conversation, cursor=one.cursor, retry_at_most=1)
            for one in asked
            for _ in range(10)
        ]
        async with following(followers, within=30):
            await wait_for_all(followers, delta(0), within=30)
            for number in range(size(4, 40)):
                await stack.add_web()
                old = stack.webs.pop(0)
                ended_at = time.monotonic()
                old.terminate()
                more = script(tokens=10, rate=20, seed=100 + number)
                asked.append(await visitor.ask(more))
                followers.append(visitor.follower(asked[-1].conversation))
                async with asyncio.timeout(30):
                    await followers[-1].follow()
                await old.ended(within=10)
                stack.front.upstreams.remove((HOST, stack.ports[old.name]))
                await wait_for_all(followers[:30], numbered_since(ended_at + 1), within=10)
            for one in asked[:3]:
                await visitor.cancel(one.run)
        report = await judge(visitor, asked, followers)
        assert report.clean, report


@pytest.mark.parametrize("pushpin", [False, True], ids=["directly", "behind Pushpin"])
async def test_a_request_in_progress_at_shutdown_can_be_retried(
    stacks: Stacks, judge: Judge, pushpin: bool
) -> None:
    async with stacks(proxied=True, pushpin=pushpin) as stack:
        visitor = await stack.visitor()
        asked = await visitor.ask(script(tokens=20, rate=50, seed=1))
        first = visitor.follower(asked.conversation, cursor=asked.cursor)
        async with following([first], within=30):
            pass
        late = [visitor.follower(asked.conversation, cursor=asked.cursor) for _ in range(40)]
        stack.web_redis.stall()  # each waits for seconds, a few at once
        async with following(late, within=30):
            await asyncio.sleep(0.5)
            stack.web.terminate()
            await stack.web.ended(within=10)
            stack.web_redis.reset()
            stack.web_redis.flow()
            stack.web.start()
        report = await judge(visitor, [asked], [first, *late])
        assert report.clean, report
        cut_off = [
            reader.recording.connections[0].received[0].block.payload
            for reader in late
            if reader.recording.connections[0].received
        ]
        assert {"head": None} in cut_off, "no request was waiting"


@pytest.mark.alone
async def test_a_web_process_with_five_hundred_open_streams_ends_in_time(
    stacks: Stacks, judge: Judge
) -> None:
    async with stacks() as stack:
        visitor = await stack.visitor()
        asked = [await visitor.ask(script(tokens=LONG, rate=2, seed=n)) for n in range(10)]
        followers = [
            visitor.follower(one.conversation, cursor=one.cursor, retry_at_most=30)
            for one in asked
            for _ in range(50)
        ]
        async with following(followers, within=60):
            await wait_for_all(followers, delta(0), within=60)
            stack.web.terminate()
            took = await stack.web.ended(within=30)
            back = time.monotonic()
            stack.web.start()
            await wait_for_all(followers, numbered_since(back), within=60)
            await asyncio.gather(*(visitor.cancel(one.run) for one in asked))
        report = await judge(visitor, asked, followers, broken_at=[back])
        assert report.clean, report
        assert took <= BACK_WITHIN
        closed = [follower.recording.connections[0] for follower in followers]
        assert {c.ended for c in closed} == {Ended.CLOSED}, "a stream was torn, not ended"
        returns = sorted(follower.recording.connections[1].requested_at for follower in followers)
        assert returns[-5] - returns[5] > 1.0, "all readers reconnected at once"
