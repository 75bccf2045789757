"""Streams behind Pushpin: readers receive the same events as directly."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import psutil
import pytest
import pytest_asyncio

from tests.faults.conftest import Judge, Size, Stacks
from tests.support.follower import Follower
from tests.support.many_followers import delta, following, numbered_since, wait_for_all
from tests.support.pushpin_stack import PushpinStack
from tests.support.shell_code import CREATE_USER, END_SESSION
from tests.support.visitor import Visitor, script

pytestmark = pytest.mark.asyncio(loop_scope="module")
LONG = 20_000  # tokens: a reply that lasts until it is cancelled


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gripped(stacks: Stacks) -> AsyncIterator[PushpinStack]:
    """A stack whose readers Pushpin holds, for all tests here: none ends a process."""
    chosen = PushpinStack.shared_settings()
    async with (
        stacks(pushpin=False, also=chosen) as stack,
        PushpinStack(stack, chosen) as gripped,
    ):
        yield gripped


async def test_readers_behind_pushpin_that_drop_lose_and_repeat_nothing(
    gripped: PushpinStack, judge: Judge, size: Size[int], chance: random.Random
) -> None:
    visitor = await gripped.visitor()
    asked = [await visitor.ask(script(tokens=200, rate=20, seed=n)) for n in range(size(10, 100))]
    followers = [
        visitor.follower(
            one.conversation,
            cursor=one.cursor if n % 2 else None,
            cuts=[chance.randrange(200, 6000) for _ in range(5)],
        )
        for one in asked
        for n in range(3)
    ]
    async with asyncio.timeout(120):
        await asyncio.gather(*(follower.follow() for follower in followers))
    report = await judge(visitor, asked, followers)
    assert report.clean, report
    assert all(follower.recording.whole for follower in followers)


async def test_readers_that_all_reconnect_at_once_receive_only_their_own_events(
    gripped: PushpinStack, judge: Judge, size: Size[int]
) -> None:
    pair = [await gripped.visitor() for _ in range(2)]
    asked = [await one.ask(script(tokens=LONG, rate=60, seed=n)) for n, one in enumerate(pair)]
    crowds: list[list[Follower]] = [[], []]
    waiting = [
        visitor.follower(one.conversation, cursor=one.cursor)
        for visitor, one in zip(pair, asked, strict=True)
    ]
    async with following(waiting, within=30):
        await wait_for_all(waiting, delta(450), within=40)
        for _ in range(size(3, 20)):
            rows = [
                [visitor.follower(one.conversation, cursor=one.cursor) for _ in range(10)]
                for visitor, one in zip(pair, asked, strict=True)
            ]
            crowd = [*rows[0], *rows[1]]
            async with following(crowd, within=30):
                await wait_for_all(crowd, delta(450), within=20)
                await wait_for_all(crowd, numbered_since(time.monotonic() + 0.5), within=10)
                for follower in crowd:
                    follower.stop()
            for own, row in zip(crowds, rows, strict=True):
                own += row
        for visitor, one in zip(pair, asked, strict=True):
            await visitor.cancel(one.run)
    for n, (visitor, one) in enumerate(zip(pair, asked, strict=True)):
        report = await judge(visitor, [one], [waiting[n], *crowds[n]])
        assert report.clean, report


class Audience:
    """Five readers of one endless reply; `async with`."""

    def __init__(self, visitor: Visitor) -> None:
        self.visitor = visitor
        self.followers: list[Follower] = []
        self._following: list[asyncio.Task[object]] = []

    async def __aenter__(self) -> Audience:
        self.asked = await self.visitor.ask(script(tokens=LONG, rate=20))
        self.followers = [
            self.visitor.follower(self.asked.conversation, until_idle=False) for _ in range(5)
        ]
        self._following = [asyncio.create_task(one.follow()) for one in self.followers]
        await wait_for_all(self.followers, delta(5), within=30)
        return self

    async def __aexit__(self, *_: object) -> None:
        for follower in self.followers:
            follower.stop()
        await asyncio.gather(*self._following)

    async def is_shut_out(self, since: float, condition: str) -> None:
        """Every stream has ended in time with this condition, and no reader is admitted again."""
        async with asyncio.timeout(30):
            await asyncio.gather(*self._following)
        for follower in self.followers:
            *_, last, refused = follower.recording.connections
            assert last.ended_at - since <= 5.0
            assert last.received[-1].block.payload["condition"] == condition
            assert refused.status in (401, 404)


async def test_revoked_access_ends_those_streams_and_no_others(gripped: PushpinStack) -> None:
    stack = gripped.stack
    async with AsyncExitStack() as audiences:
        await stack.manage("shell", "-c", CREATE_USER)
        token = await stack.manage("token", "create", "ann", "--name", "a test's")
        number = (await stack.manage("token", "list", "ann")).partition("\t")[0]
        holder = await gripped.visitor()
        holder.use_token(token.splitlines()[-1])
        leaver, deleter, stays = [await gripped.visitor() for _ in range(3)]
        in_session, with_token, deleted, untouched = [
            await audiences.enter_async_context(Audience(visitor))
            for visitor in (leaver, holder, deleter, stays)
        ]
        await stack.manage("shell", "-c", END_SESSION.format(key=leaver.http.cookies["sessionid"]))
        await in_session.is_shut_out(time.monotonic(), "forbidden")
        await stack.manage("token", "revoke", number)
        await with_token.is_shut_out(time.monotonic(), "forbidden")
        gone_at = time.monotonic()
        path = f"/api/conversations/{deleted.asked.conversation}/"
        (await deleter.http.delete(path)).raise_for_status()
        await deleted.is_shut_out(gone_at, "gone")
        assert all(len(one.recording.connections) == 1 for one in untouched.followers)
        await stays.cancel(untouched.asked.run)


async def test_a_stream_until_idle_ends_and_is_not_reopened(
    gripped: PushpinStack, judge: Judge
) -> None:
    visitor = await gripped.visitor()
    one = await visitor.ask(script(tokens=20, rate=20, seed=1))
    readers = [visitor.follower(one.conversation, cursor=c) for c in (one.cursor, None, None)]
    async with asyncio.timeout(20):
        await asyncio.gather(*(reader.follow() for reader in readers))
    late = visitor.follower(one.conversation)
    async with asyncio.timeout(20):
        await late.follow()
    for reader in (*readers, late):
        assert [c.status for c in reader.recording.connections] == [200, 204]
        first = reader.recording.connections[0]
        assert first.ended_at - first.received[-1].at < 1.0
    report = await judge(visitor, [one], [*readers, late])
    assert report.clean, report


async def test_a_long_replay_comes_in_pages_of_one_connection(
    gripped: PushpinStack, judge: Judge
) -> None:
    """Eight replies of 512 KiB, and a ninth that goes on while the first eight are replayed."""
    visitor = await gripped.visitor()
    asked = [await visitor.ask(script(tokens=5, seed=0, fault="big", fault_at=2))]
    conversation, cursor = asked[0].conversation, asked[0].cursor
    for seed in range(1, 9):
        await followed_to_its_end(visitor.follower(conversation, cursor=asked[-1].cursor))
        big = {"fault": "big", "fault_at": 2} if seed < 8 else {}
        wishes = script(tokens=5 if big else 100, rate=0 if big else 10, seed=seed, **big)
        asked.append(await visitor.send(conversation, wishes))
    readers = [visitor.follower(conversation, cursor=cursor) for _ in range(3)]
    late = visitor.follower(conversation, cursor=cursor)
    async with asyncio.timeout(90):
        await asyncio.gather(*(reader.follow() for reader in readers))
        await late.follow()
    report = await judge(visitor, asked, [*readers, late])
    assert report.clean, report
    for reader in (*readers, late):
        assert [c.status for c in reader.recording.connections] == [200, 204]
        first = reader.recording.connections[0]
        assert first.ended_at - first.received[-1].at < 1.0


async def followed_to_its_end(follower: Follower) -> None:
    async with asyncio.timeout(30):
        assert (await follower.follow()).whole


async def test_a_cursor_gap_causes_a_reset_and_a_snapshot(
    gripped: PushpinStack, judge: Judge
) -> None:
    visitor = await gripped.visitor()
    asked = [await visitor.ask(script(tokens=400, rate=30, seed=n)) for n in range(3)]
    readers = [visitor.follower(one.conversation, cursor=one.cursor) for one in asked]
    async with following(readers, within=60):
        await wait_for_all(readers, delta(60), within=30)
        await gripped.stack.valkey.client.flushall()
    report = await judge(visitor, asked, readers, resets_allowed=True)
    assert report.clean, report
    assert report.resets >= len(readers)


@pytest.mark.alone
async def test_a_thousand_readers_that_connect_at_once_are_all_accepted(
    gripped: PushpinStack, judge: Judge
) -> None:
    visitor = await gripped.visitor()
    one = await visitor.ask(script(tokens=5, rate=20, seed=1))
    readers = [visitor.follower(one.conversation, cursor=one.cursor) for _ in range(1000)]
    programs = psutil.Process(gripped.pushpin.pid).children()
    (asking,) = (program for program in programs if program.name() == "zurl")
    asking.suspend()
    async with following(readers, within=60):
        await asyncio.sleep(2)  # they have asked, and wait
        asking.resume()
    report = await judge(visitor, [one], readers)
    assert report.clean, report
    assert all(reader.recording.whole for reader in readers)
