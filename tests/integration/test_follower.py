"""Following, in one process, on a real Valkey: replay and live meet without a gap or a repeat."""

import asyncio
import random
from contextlib import aclosing
from typing import Any

import pytest
import redis
from asgiref.sync import sync_to_async
from redis.asyncio.connection import AbstractConnection

from streams.delivery.open_streams import OpenStreams
from streams.log.channel_log import ChannelLog
from streams.log.errors import LogUnavailable
from streams.models import Conversation
from streams.protocol.events import TextDelta
from streams.protocol.sse import encode
from tests.integration.support.listener import ManualClock, SteppedReader
from tests.integration.support.published_run import VISITOR, published_run
from tests.integration.support.received_events import connected, ids, whole

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


async def test_replay_and_live_events_meet_at_every_cursor(crowd: OpenStreams) -> None:
    story = await published_run()
    await sync_to_async(story.publish_deltas)(50)
    total = 400

    async def read(cursor: int) -> list[int]:
        await asyncio.sleep(random.uniform(0, 0.5))
        stream = crowd.admit(VISITOR, story.conversation, cursor, until_idle=False)
        return await ids(stream, story.first + total)

    cursors = [story.first + random.randrange(50) for _ in range(20)]
    readers = [asyncio.create_task(read(cursor)) for cursor in cursors]
    while story.index < total:
        await sync_to_async(story.publish_deltas)(
            random.randint(1, 5) if story.index < total - 5 else 1
        )
    heard = await asyncio.gather(*readers)
    for cursor, got in zip(cursors, heard, strict=True):
        assert got == list(range(cursor + 1, got[-1] + 1))


async def test_a_reader_without_a_cursor_gets_a_snapshot_and_the_events_after_it(
    crowd: OpenStreams,
) -> None:
    story = await published_run()
    last = await sync_to_async(story.publish_deltas)(10)
    stream = crowd.admit(VISITOR, story.conversation, None, until_idle=False)
    reading = asyncio.create_task(ids(stream, last + 3))
    await connected(crowd)
    await sync_to_async(story.publish_deltas)(3)
    assert await reading == [last, last + 1, last + 2, last + 3]


async def test_a_cursor_of_another_epoch_gets_a_reset_and_a_snapshot(
    crowd: OpenStreams, valkey: "redis.Redis"
) -> None:
    story = await published_run()
    await sync_to_async(story.complete)()
    valkey.flushall()
    conversation = await Conversation.objects.aget(pk=story.conversation.id)
    stream = crowd.admit(VISITOR, conversation, story.first, until_idle=True)
    assert await whole(stream) == ["stream-reset", "conversation.snapshot"]


async def test_a_reader_that_was_caught_up_gets_a_reset_when_the_log_is_lost(
    crowd: OpenStreams, valkey: "redis.Redis"
) -> None:
    story = await published_run()
    last = await sync_to_async(story.complete)()
    valkey.flushall()
    conversation = await Conversation.objects.aget(pk=story.conversation.id)
    stream = crowd.admit(VISITOR, conversation, last, until_idle=True)
    assert await whole(stream) == ["stream-reset", "conversation.snapshot"]


async def test_events_missed_by_a_cut_subscription_are_read_from_the_log(
    crowd: OpenStreams, valkey: "redis.Redis"
) -> None:
    story = await published_run()
    stream = crowd.admit(VISITOR, story.conversation, story.first, until_idle=False)
    reading = asyncio.create_task(ids(stream, story.first + 100))
    for _ in range(10):
        await sync_to_async(story.publish_deltas)(5)
        valkey.client_kill_filter(_type="pubsub")
        await sync_to_async(story.publish_deltas)(5)
        await asyncio.sleep(0.05)
    assert await reading == list(range(story.first + 1, story.first + 101))


async def test_a_subscription_that_fails_during_a_command_is_renewed(
    crowd: OpenStreams, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, lost = AbstractConnection.send_command, list[str]()

    async def as_uvloop_says_it(connection: AbstractConnection, *words: Any, **how: Any) -> None:
        if words == ("PING",) and not lost:
            lost.append("once")
            raise RuntimeError("unable to perform operation on <TCPTransport closed=True>")
        await send(connection, *words, **how)

    monkeypatch.setattr(AbstractConnection, "send_command", as_uvloop_says_it)
    story = await published_run()
    stream = crowd.admit(VISITOR, story.conversation, story.first, until_idle=False)
    heard = asyncio.create_task(ids(stream, story.first + 1))
    async with asyncio.timeout(5):
        while not lost:
            await asyncio.sleep(0.01)
        await sync_to_async(story.publish_deltas)()
        assert await heard == [story.first + 1]


async def test_nothing_is_kept_of_a_channel_without_followers(
    crowd: OpenStreams,
) -> None:
    story = await published_run()
    last = await sync_to_async(story.publish_deltas)()
    await ids(crowd.admit(VISITOR, story.conversation, story.first, until_idle=False), last)
    (hub,) = crowd._hubs._hubs
    async with asyncio.timeout(5):
        while hub._buffers or hub._asked:
            await asyncio.sleep(0.01)
    assert not hub._unanswered


async def test_a_lost_message_is_read_from_the_log_at_the_next_one(
    crowd: OpenStreams, valkey: "redis.Redis"
) -> None:
    story = await published_run()
    stream = crowd.admit(VISITOR, story.conversation, story.first, until_idle=False)
    reading = asyncio.create_task(ids(stream, story.first + 3))
    await connected(crowd)
    state, events = f"{{{story.channel}}}:state", f"{{{story.channel}}}:events"
    silent = encode(TextDelta(run=story.run.id, attempt=1, index=0, text="w0 "))
    valkey.xadd(events, {"type": "text.delta", "data": silent}, id=f"{story.first + 1}-0")
    valkey.hset(state, mapping={"head": story.first + 1, f"{story.run.id}:index": 0})
    story.index = 1
    await sync_to_async(story.publish_deltas)(2)
    assert await reading == [story.first + 1, story.first + 2, story.first + 3]


async def test_events_missed_by_a_silent_subscription_are_read_at_the_heartbeat(
    crowd: OpenStreams, valkey: "redis.Redis", settings: object
) -> None:
    settings.STREAM_HEARTBEAT = 0.5  # type: ignore[attr-defined]
    story = await published_run()
    stream = crowd.admit(VISITOR, story.conversation, story.first, until_idle=False)
    reading = asyncio.create_task(ids(stream, story.first + 1))
    await connected(crowd)
    crowd._hubs._hubs[0]._receive = lambda *_: None  # type: ignore[method-assign]
    await sync_to_async(story.publish_deltas)(1)
    assert await reading == [story.first + 1]


async def test_a_stream_can_have_a_shorter_heartbeat(crowd: OpenStreams) -> None:
    story = await published_run()
    stream = crowd.admit(VISITOR, story.conversation, story.first, until_idle=False, heartbeat=0.2)
    async with asyncio.timeout(5), aclosing(stream):  # STREAM_HEARTBEAT is 15 s
        await anext(stream)
        assert b"event: heartbeat" in await anext(stream)


async def test_a_reader_that_connects_as_the_last_one_leaves_is_served(crowd: OpenStreams) -> None:
    story = await published_run()
    first = await sync_to_async(story.publish_deltas)(1)
    for _ in range(20):
        stream = crowd.admit(VISITOR, story.conversation, first - 1, until_idle=False)
        assert await ids(stream, first) == [first]


def away_at_the_first_look(monkeypatch: pytest.MonkeyPatch) -> None:
    look, calls = ChannelLog.state, list[object]()

    def away_at_first(*args: Any, **named: Any) -> Any:
        calls.append(args)
        if len(calls) == 1:
            raise LogUnavailable
        return look(*args, **named)

    monkeypatch.setattr(ChannelLog, "state", away_at_first)


async def test_a_reset_is_sent_even_if_redis_fails_before_the_snapshot(
    crowd: OpenStreams, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = await published_run()
    await sync_to_async(story.complete)()
    away_at_the_first_look(monkeypatch)
    stream = crowd.admit(VISITOR, story.conversation, 7, until_idle=True)
    assert await whole(stream) == ["stream-reset", "conversation.snapshot"]


async def test_a_reset_that_a_heartbeat_finds_does_not_wait_for_the_next(
    monkeypatch: pytest.MonkeyPatch, valkey: "redis.Redis"
) -> None:
    story = await published_run()
    away_at_the_first_look(monkeypatch)
    time = ManualClock(monkeypatch)
    reader = SteppedReader(story.conversation.id, time, cursor=story.first)
    await reader.connect()
    await asyncio.to_thread(valkey.flushall)
    await reader.catch_up()  # one heartbeat
    assert (reader.resets, reader.violations) == (["lost"], [])
    await reader.disconnect()
