"""Readers of one channel share the reads of its log."""

import asyncio
import threading
import time
from typing import Any

import pytest
import redis
from asgiref.sync import sync_to_async

from streams.delivery.open_streams import OpenStreams
from streams.log.channel_log import ChannelLog
from tests.integration.support.published_run import VISITOR, published_run
from tests.integration.support.received_events import caught_up, ids, whole

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


async def test_events_that_arrive_during_a_read_are_delivered_at_once(
    crowd: OpenStreams, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = await published_run()
    read, last = ChannelLog.read_after, story.first + 3

    def outrun(*asked: Any, **how: Any) -> Any:
        page = read(*asked, **how)
        if not story.index:
            story.publish_deltas(3)
            arrived = crowd._hubs._hubs[0]._buffers[story.channel]
            while arrived.last != last:
                time.sleep(0.001)
        return page

    monkeypatch.setattr(ChannelLog, "read_after", outrun)
    stream = crowd.admit(VISITOR, story.conversation, story.first, until_idle=False)
    async with asyncio.timeout(5):  # the heartbeat, which would heal it, comes after 15 s
        assert await ids(stream, last) == [story.first + 1, story.first + 2, last]


async def test_concurrent_readers_of_one_cursor_share_one_read(
    crowd: OpenStreams, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = await published_run()
    await sync_to_async(story.publish_deltas)(300)  # two pages
    asked: list[int] = []
    read = ChannelLog.read_after

    def slowly(log: ChannelLog, cursor: int, **named: Any) -> Any:
        asked.append(cursor)
        page = read(log, cursor, **named)
        time.sleep(0.3)  # until all of them have come
        return page

    monkeypatch.setattr(ChannelLog, "read_after", slowly)
    streams = [
        crowd.admit(VISITOR, story.conversation, story.first, until_idle=False) for _ in range(20)
    ]
    async with asyncio.timeout(20):
        heard = await asyncio.gather(*(ids(stream, story.first + 300) for stream in streams))
    assert heard == [list(range(story.first + 1, story.first + 301))] * 20
    assert len(asked) <= 4, asked


async def test_a_read_started_before_an_event_is_not_shared_after_it(
    crowd: OpenStreams, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = await published_run()
    read, asked, said = ChannelLog.read_after, list[int](), threading.Event()

    def slowly(log: ChannelLog, cursor: int, **named: Any) -> Any:
        page = read(log, cursor, **named)
        asked.append(cursor)
        assert said.wait(10)
        return page

    def reader() -> "asyncio.Task[list[int]]":
        stream = crowd.admit(VISITOR, story.conversation, story.first, until_idle=False)
        return asyncio.create_task(ids(stream, story.first + 1))

    monkeypatch.setattr(ChannelLog, "read_after", slowly)
    readers = [reader()]
    async with asyncio.timeout(5):  # the heartbeat, which would heal it, comes after 15 s
        while not asked:
            await asyncio.sleep(0.01)
        await sync_to_async(story.publish_deltas)()
        feed = crowd._hubs._hubs[0]._buffers[story.channel]
        while feed.last != story.first + 1:
            await asyncio.sleep(0.01)
        readers.append(reader())
        while feed.listeners < len(readers):
            await asyncio.sleep(0.01)
        said.set()
        assert await asyncio.gather(*readers) == [[story.first + 1]] * 2


async def test_many_readers_share_one_read_after_a_reconnect(
    crowd: OpenStreams, monkeypatch: pytest.MonkeyPatch, valkey: "redis.Redis"
) -> None:
    story = await published_run()
    streams = [
        crowd.admit(VISITOR, story.conversation, story.first, until_idle=True) for _ in range(100)
    ]
    readers = [asyncio.create_task(whole(stream)) for stream in streams]
    read, asked = ChannelLog.read_after, list[int]()

    def counted(log: ChannelLog, cursor: int, **named: Any) -> Any:
        asked.append(cursor)
        return read(log, cursor, **named)

    async with asyncio.timeout(10):
        while len(crowd._open) < len(readers) or not all(map(caught_up, crowd._open)):
            await asyncio.sleep(0.01)
        monkeypatch.setattr(ChannelLog, "read_after", counted)
        await asyncio.to_thread(valkey.client_kill_filter, _type="pubsub")
        while not asked or not all(map(caught_up, crowd._open)):
            await sync_to_async(story.publish_deltas)()
    await sync_to_async(story.complete)()
    assert await asyncio.gather(*readers) == [
        [*["text.delta"] * story.index, "run.completed"] for _ in readers
    ]
    assert len(asked) < len(readers) / 2  # for each page that they have missed, one
