"""Streams behind Pushpin: readers receive the same events as directly, whatever process dies."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from itertools import count
from typing import Any

import psutil
import pytest

from tests.faults.conftest import Judge, Size, Stacks
from tests.support.follower import Follower
from tests.support.many_followers import delta, final_event, following, numbered_since, wait_for_all
from tests.support.outages import Outage, killed, unreachable
from tests.support.ports import HOST, listens
from tests.support.process import alive
from tests.support.pushpin_stack import PushpinStack
from tests.support.recording import Received
from tests.support.shell_code import CREATE_USER, END_SESSION
from tests.support.stack import Stack
from tests.support.visitor import Visitor, script
from tests.support.waiting import until

IDLE = 12  # seconds without traffic; 75 by default
LONG = 20_000  # tokens: a reply that lasts until it is cancelled
Grip = Callable[..., AbstractAsyncContextManager[tuple[Stack, PushpinStack]]]


@pytest.fixture
def grip(stacks: Stacks) -> Grip:
    """`async with grip(pushpins=2) as (stack, gripped)`."""

    @asynccontextmanager
    async def one(
        *, also: Any = None, proxied: bool = False, **wishes: Any
    ) -> AsyncIterator[tuple[Stack, PushpinStack]]:
        chosen = PushpinStack.shared_settings()
        settings = {**chosen, **(also or {})}
        async with (
            stacks(pushpin=False, also=settings, proxied=proxied) as stack,
            PushpinStack(stack, chosen, **wishes) as gripped,
        ):
            yield stack, gripped

    return one


async def test_readers_behind_pushpin_that_drop_lose_and_repeat_nothing(
    grip: Grip, judge: Judge, size: Size[int], chance: random.Random
) -> None:
    async with grip() as (_, gripped):
        visitor = await gripped.visitor()
        asked = [
            await visitor.ask(script(tokens=200, rate=20, seed=n)) for n in range(size(10, 100))
        ]
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
    grip: Grip, judge: Judge, size: Size[int]
) -> None:
    async with grip() as (_, gripped):
        pair = [await gripped.visitor() for _ in range(2)]
        asked = [await one.ask(script(tokens=LONG, rate=60, seed=n)) for n, one in enumerate(pair)]
        crowds: list[list[Follower]] = [[], []]
        waiting = [
            visitor.follower(one.conversation, cursor=one.cursor)
            for visitor, one in zip(pair, asked, strict=True)
        ]
        async with following(waiting, within=30):
            await wait_for_all(waiting, delta(450), within=40)
            for _ in range(size(5, 20)):
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


async def test_revoked_access_ends_those_streams_and_no_others(grip: Grip) -> None:
    async with grip() as (stack, gripped), AsyncExitStack() as audiences:
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


async def test_a_stream_until_idle_ends_and_is_not_reopened(grip: Grip, judge: Judge) -> None:
    async with grip() as (_, gripped):
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


async def test_a_long_replay_comes_in_pages_of_one_connection(grip: Grip, judge: Judge) -> None:
    """Eight replies of 512 KiB, and a ninth that goes on while the first eight are replayed."""
    async with grip() as (_, gripped):
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


async def test_a_cursor_gap_causes_a_reset_and_a_snapshot(grip: Grip, judge: Judge) -> None:
    async with grip() as (stack, gripped):
        visitor = await gripped.visitor()
        asked = [await visitor.ask(script(tokens=400, rate=30, seed=n)) for n in range(3)]
        readers = [visitor.follower(one.conversation, cursor=one.cursor) for one in asked]
        async with following(readers, within=60):
            await wait_for_all(readers, delta(60), within=30)
            await stack.valkey.client.flushall()
        report = await judge(visitor, asked, readers, resets_allowed=True)
        assert report.clean, report
        assert report.resets >= len(readers)


async def test_heartbeats_carry_the_head_and_only_they_show_an_outage_of_redis(grip: Grip) -> None:
    async with grip(also={"STREAM_HEARTBEAT": "1.5"}) as (stack, gripped):
        visitor = await gripped.visitor()
        one = await visitor.ask(script(tokens=3, rate=20, seed=1))
        reader = visitor.follower(one.conversation, cursor=one.cursor, until_idle=False)
        newcomer = visitor.follower(one.conversation, until_idle=False)
        async with following([reader], within=30):
            await reader.wait_for(final_event(), within=20)
            await reader.wait_for(heartbeat(reader.recording.cursor()), within=5)
            stack.valkey.kill()
            await reader.wait_for(heartbeat(None), within=10)
            async with following([newcomer], within=30):
                await newcomer.wait_for(heartbeat(None), within=10)
                stack.valkey.start()
                await stack.valkey.answers()
                began = await newcomer.wait_for(lambda heard: heard.block.id is not None, within=10)
                assert began.block.event == "conversation.snapshot"
                newcomer.stop()
            reader.stop()
        assert [len(r.recording.connections) for r in (reader, newcomer)] == [1, 1]


@pytest.mark.parametrize(
    ("outage", "apart"),
    [(killed, False), (unreachable, False), (unreachable, True)],
    ids=["from all", "from web and bridge", "from the web process alone"],
)
async def test_a_reader_that_reconnects_while_redis_is_down_receives_the_rest_later(
    grip: Grip, judge: Judge, outage: Outage, apart: bool
) -> None:
    async with grip(proxied=True, apart=apart) as (stack, gripped):
        visitor = await gripped.visitor()
        direct = visitor.at(stack.ports[stack.web.name])  # the bridge is to know of none of it
        asked = [await direct.ask(script(tokens=20, rate=50, seed=n)) for n in range(4)]
        first = [direct.follower(one.conversation, cursor=one.cursor) for one in asked]
        async with following(first, within=30):
            pass
        await direct.close()
        heads = [reader.recording.cursor() or 0 for reader in first]
        late = [
            visitor.follower(one.conversation, cursor=cursor)
            for one, cursor in zip(asked, (heads[0] - 2, heads[1] - 1, heads[2], None), strict=True)
        ]
        away = asyncio.create_task(outage(stack, 3))
        await asyncio.sleep(0.5)
        async with following(late, within=8):  # before the next heartbeat
            await away
        report = await judge(visitor, asked, late)
        assert report.clean, report
        assert all(reader.recording.whole for reader in late)


@pytest.mark.parametrize("victim", ["pushpin", "bridge", "web"])
async def test_killing_any_process_during_a_reply_loses_nothing(
    grip: Grip, judge: Judge, size: Size[int], victim: str
) -> None:
    async with grip() as (stack, gripped):
        visitor = await gripped.visitor()
        asked = [await visitor.ask(script(tokens=LONG, rate=20, seed=n)) for n in range(5)]
        readers = [
            visitor.follower(one.conversation, cursor=one.cursor, retry_at_most=0.5)
            for one in asked
            for _ in range(4)
        ]
        part = {"pushpin": gripped.pushpin, "bridge": gripped.bridge, "web": stack.web}[victim]
        killed: list[float] = []
        async with following(readers, within=60):
            # A second after it first subscribes, Pushpin asks what comes next: meanwhile it waits.
            await wait_for_all(readers, numbered_since(time.monotonic() + 3), within=30)
            for _ in range(size(2, 10)):
                killed.append(time.monotonic())
                part.kill()
                if victim == "web":
                    await wait_for_all(readers, numbered_since(killed[-1] + 6), within=10)
                part.start()
                await wait_for_all(readers, numbered_since(killed[-1] + 1), within=30)
            if victim == "web":
                await stack.ready(stack.web)
            await asyncio.gather(*(visitor.cancel(one.run) for one in asked))
        report = await judge(visitor, asked, readers, broken_at=killed)
        assert report.clean, report
        if victim != "pushpin":
            assert all(len(r.recording.connections) == 2 for r in readers), "a reader noticed"
        if victim == "web":
            assert report.recovery(1) < 1.0


async def test_an_eventsource_reconnects_when_the_web_process_dies_during_its_request(
    grip: Grip, judge: Judge, size: Size[int], chance: random.Random
) -> None:
    async with grip() as (stack, gripped):
        visitor = await gripped.visitor()
        asked = [await visitor.ask(script(tokens=400, rate=20, seed=n)) for n in range(5)]
        readers = [
            visitor.follower(
                one.conversation,
                cursor=one.cursor,
                cuts=(chance.randrange(200, 2000) for _ in count()),
            )
            for one in asked
            for _ in range(20)
        ]
        async with following(readers, within=60):
            await wait_for_all(readers, delta(0), within=30)
            for _ in range(size(4, 40)):
                await asyncio.sleep(chance.uniform(0.5, 1.5))
                stack.web.kill()
                await asyncio.sleep(chance.uniform(0.1, 2))
                stack.web.start()
                await stack.ready(stack.web)
            for reader in readers:
                reader.cuts = iter(())
        report = await judge(visitor, asked, readers)
        assert report.clean, report
        hasty = [
            connection
            for reader in readers
            for connection in reader.recording.connections
            if [heard.block.payload for heard in connection.received] == [{"head": None}]
        ]
        assert hasty, "no reader connected while the web process was down"


async def test_a_thousand_readers_that_connect_at_once_are_all_accepted(
    grip: Grip, judge: Judge
) -> None:
    async with grip() as (_, gripped):
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


async def test_a_client_that_sends_half_a_body_is_closed_and_a_waiting_one_is_not(
    grip: Grip,
) -> None:
    also = {"PUSHPIN_IDLE_TIMEOUT": str(IDLE), "STREAM_HEARTBEAT": str(IDLE / 6)}
    async with grip(also=also) as (_, gripped):
        visitor = await gripped.visitor()
        one = await visitor.ask(script(tokens=2, rate=20, pause_at=1, pause=1.5 * IDLE))
        reader = visitor.follower(one.conversation, cursor=one.cursor)
        half, sender = await asyncio.open_connection(HOST, gripped.port)
        sender.write(b"POST /api/conversations/ HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{")
        begun = time.monotonic()
        async with following([reader], within=60), asyncio.timeout(10 * IDLE):
            waited = await visitor.http.post(
                f"/api/conversations/{one.conversation}/messages/",
                json={"message": "?", "when_busy": "queue"},
                headers={"Prefer": f"wait={IDLE - 4}"},
                timeout=5 * IDLE,
            )
            assert (waited.status_code, await half.read()) == (202, b"")
            assert IDLE - 1 < time.monotonic() - begun < IDLE + 15
        sender.close()
        assert reader.recording.whole
        assert len(reader.recording.connections) == 2  # the second gets 204


async def test_a_process_killed_alone_blocks_no_successor(grip: Grip) -> None:
    async with grip() as (_, gripped):
        for victim in ("itself", "condure", "pushpin-handler"):
            runner = psutil.Process(gripped.pushpin.pid)
            await until(lambda: len(runner.children()) == 5, within=5, what="its programs")  # noqa: B023
            parts = runner.children()
            doomed = next((p.pid for p in parts if p.name() == victim), gripped.pushpin.pid)
            os.kill(doomed, signal.SIGKILL)
            await gripped.pushpin.ended(within=5)
            await until(lambda: not any(map(alive, parts)), within=5, what="the end of all")  # noqa: B023
            # A killed program's last thread may hold the port for a moment longer.
            await until(lambda: not listens(gripped.port), within=5, what="a free port")
            gripped.pushpin.start()
            await gripped.ready()
            visitor = await gripped.visitor()
            one = await visitor.ask(script(tokens=5, rate=20, seed=1))
            async with asyncio.timeout(20):
                assert (await visitor.follower(one.conversation).follow()).whole


async def test_a_last_event_lost_on_its_way_arrives_soon(
    grip: Grip, judge: Judge, size: Size[int]
) -> None:
    async with grip(cut=True) as (stack, gripped):
        visitor = await gripped.visitor()
        asked, readers = [], []
        for n in range(size(3, 10)):
            one = await visitor.ask(script(tokens=LONG, rate=5, seed=n))
            reader = visitor.follower(one.conversation, cursor=one.cursor)
            async with following([reader], within=20):
                await reader.wait_for(delta(3), within=20)
                if n % 2:
                    await stack.valkey.cut_subscriptions()
                else:
                    gripped.bridge_proxy.stall()
                said_at = time.monotonic()
                await visitor.cancel(one.run)
                if not n % 2:
                    gripped.bridge_proxy.reset()
                    gripped.bridge_proxy.flow()
                heard = await reader.wait_for(final_event(one.run), within=20)
                assert heard.at - said_at <= 2.0
            asked.append(one)
            readers.append(reader)
        report = await judge(visitor, asked, readers)
        assert report.clean, report


async def test_the_worker_sends_one_command_per_token_for_any_number_of_nodes(
    stacks: Stacks,
) -> None:
    chosen = PushpinStack.shared_settings()
    async with stacks(pushpin=False, also=chosen) as stack:
        for nodes in (0, 1, 10):  # each a Pushpin with its bridge
            async with AsyncExitStack() as parts:
                ports = [stack.ports[stack.web.name]]
                if nodes:
                    gripped = PushpinStack(stack, chosen, pushpins=nodes, bridges=nodes)
                    ports = (await parts.enter_async_context(gripped)).ports
                visitor = await stack.visitor(port=ports[0])
                asked = await visitor.ask(script(tokens=LONG, rate=100))
                readers = [
                    visitor.follower(asked.conversation, cursor=asked.cursor, port=port)
                    for port in ports
                ]
                async with following(readers, within=30):
                    await wait_for_all(readers, delta(100), within=30)
                    channel = f"conversation-{asked.conversation}"
                    listen = await stack.valkey.client.pubsub_numsub(channel)
                    # Without a bridge it is the web process.
                    assert listen == [(channel.encode(), max(1, nodes))]
                    before = await commands_and_head(stack, channel)
                    await wait_for_all(readers, delta(600), within=30)
                    sent = await commands_and_head(stack, channel) - before
                    await visitor.cancel(asked.run)
            tokens = sent["head"]
            assert round(sent["fcall"] / tokens, 1) == 1.0  # from all clients
            assert sent["publish"] == tokens


async def commands_and_head(stack: Stack, channel: str) -> Counter[str]:
    """How often each command was sent to Redis, and, as `head`, the channel's last id."""
    both = stack.valkey.client.pipeline(transaction=True)
    both.info("commandstats")
    both.hget(f"{{{channel}}}:state", "head")
    stats, head = await both.execute()
    calls = {name.removeprefix("cmdstat_"): told["calls"] for name, told in stats.items()}
    return Counter(calls | {"head": int(head)})


def heartbeat(head: int | None) -> Callable[[Received], bool]:
    return lambda heard: heard.block.event == "heartbeat" and heard.block.payload == {"head": head}
