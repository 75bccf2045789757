"""The heartbeats of streams: what they cost, and the losses that they find."""

import asyncio
import json
from itertools import count
from time import monotonic
from typing import Any

import pytest
import redis
from asgiref.sync import sync_to_async

from streams.delivery import hub
from streams.delivery.follower import STEPS
from streams.delivery.open_streams import OpenStreams
from streams.log.channel_log import ChannelLog
from streams.log.errors import LogUnavailable
from tests.integration.support.published_run import published_run
from tests.integration.support.stream_frames import frames
from tests.integration.support.writable_client import WITHIN, Client, waiting

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]
NEVER = 3600.0  # seconds: no heartbeat heals what a test looks for


async def test_a_silent_stream_sends_heartbeats_and_ends_at_its_maximum_age(
    crowd: OpenStreams, settings: Any
) -> None:
    settings.STREAM_HEARTBEAT, settings.STREAM_MAX_AGE = 0.3, 2.0
    story = await published_run()
    client = Client(crowd, story)
    done, _ = await asyncio.wait({client.reading}, timeout=WITHIN)
    assert done, "its deadlines pass without an effect"
    heartbeats = client.types()
    assert set(heartbeats) == {"heartbeat"}
    assert 2 <= len(heartbeats) <= 9


async def test_a_live_event_delays_the_heartbeat(crowd: OpenStreams, settings: Any) -> None:
    settings.STREAM_HEARTBEAT = 0.5
    story = await published_run()
    client = Client(crowd, story)
    await waiting(crowd)
    (buffer,) = crowd._hubs._hubs[0]._buffers.values()
    (follower,) = crowd._open
    due = follower._heartbeat_at
    await asyncio.sleep(2 * settings.STREAM_HEARTBEAT / STEPS)  # the times are rounded
    buffer.push(story.first + 1, b"event: a\ndata: {}\nid: %d\n\n" % (story.first + 1))
    await asyncio.sleep(0)
    assert client.at_once
    assert follower._heartbeat_at > due


async def test_a_regular_heartbeat_comes_also_between_events(
    crowd: OpenStreams, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    story = await published_run()
    client = Client(crowd, story, heartbeat=0.4)
    await waiting(crowd)
    (buffer,) = crowd._hubs._hubs[0]._buffers.values()
    looks = list[int]()
    monkeypatch.setattr(ChannelLog, "read_after", lambda _, cursor, **__: looks.append(cursor))
    ends_at = monotonic() + WITHIN
    for id in count(story.first + 1):
        buffer.push(id, b"event: a\ndata: {}\nid: %d\n\n" % id)
        await asyncio.sleep(0.05)
        if client.types().count("heartbeat") == 3:
            break
        assert monotonic() < ends_at, client.types()
    assert looks == []  # the events show that the subscription works


async def test_the_log_is_read_once_a_heartbeat_for_all_readers_of_a_channel(
    crowd: OpenStreams, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.STREAM_HEARTBEAT = 1.0
    story = await published_run()
    clients = list[Client]()
    for _ in range(10):  # their heartbeats are due at different moments
        clients.append(Client(crowd, story))
        await asyncio.sleep(0.1)
    await waiting(crowd, 10)
    read, asked = ChannelLog.read_after, list[int]()

    def counted(log: ChannelLog, cursor: int, **named: Any) -> Any:
        asked.append(cursor)
        return read(log, cursor, **named)

    monkeypatch.setattr(ChannelLog, "read_after", counted)
    before = [len(client.types()) for client in clients]
    for client, had in zip(clients, before, strict=True):
        await client.until(lambda c=client, had=had: len(c.types()) >= had + 3)  # type: ignore[misc]
    heartbeats = sum(len(client.types()) for client in clients) - sum(before)
    assert heartbeats >= 30
    assert len(asked) <= heartbeats / 5


async def test_of_many_waiting_streams_one_wakes_for_a_heartbeat(
    crowd: OpenStreams, settings: Any
) -> None:
    settings.STREAM_HEARTBEAT = 1.0
    story = await published_run()
    clients = [Client(crowd, story) for _ in range(20)]
    await waiting(crowd, 20)
    for client in clients:
        await client.until(lambda c=client: len(c.types()) >= 3)  # type: ignore[misc]
    woken = sum(len(client.types()) - len(client.at_once) for client in clients)
    assert 2 <= woken <= 6
    last = await sync_to_async(story.publish_deltas)(1)
    for client in clients:
        await client.until(lambda c=client: c.ids() == [last])  # type: ignore[misc]
        heads = [
            json.loads(one.data)["head"] for one in frames(client.body) if one.type == "heartbeat"
        ]
        assert set(heads[:3]) == {story.first}


async def test_a_heartbeat_for_a_full_connection_wakes_its_stream(
    crowd: OpenStreams, settings: Any
) -> None:
    settings.STREAM_HEARTBEAT = 0.3
    story = await published_run()
    client, other = Client(crowd, story), Client(crowd, story)
    client.full = True  # so its stream waits for the server, which may end it as stalled
    for one in (client, other):
        await one.until(lambda one=one: len(one.types()) >= 3)  # type: ignore[misc]
    assert not client.at_once


async def test_all_streams_send_heartbeats_while_the_log_cannot_be_read(
    crowd: OpenStreams, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.STREAM_HEARTBEAT = 1.0
    story = await published_run()
    clients = [Client(crowd, story) for _ in range(20)]
    await waiting(crowd, 20)

    def fails(log: ChannelLog, cursor: int, **named: Any) -> Any:
        raise LogUnavailable

    monkeypatch.setattr(ChannelLog, "read_after", fails)
    began = monotonic()
    for client in clients:
        await client.until(lambda c=client: len(c.types()) >= 3)  # type: ignore[misc]
    assert monotonic() - began < 6
    for client in clients:
        assert json.loads(frames(client.body)[-1].data)["head"] is None


async def test_the_heartbeat_that_finds_a_lost_event_tells_all_readers(
    crowd: OpenStreams, settings: Any
) -> None:
    settings.STREAM_HEARTBEAT = NEVER
    story = await published_run()
    clients = [Client(crowd, story) for _ in range(3)]
    await waiting(crowd, 3)
    crowd._hubs._hubs[0]._receive = lambda *_: None  # type: ignore[method-assign]
    last = await sync_to_async(story.publish_deltas)(1)
    (buffer,) = crowd._hubs._hubs[0]._buffers.values()
    first = next(iter(crowd._open))
    first._heartbeat_at = first._check_at = (
        0.0  # its heartbeat is due, and the log was read long ago
    )
    buffer.log_end = (None, 0.0)
    buffer.wake()
    for client in clients:
        await client.until(lambda c=client: c.ids() == [last])  # type: ignore[misc]


async def test_a_full_last_page_needs_no_further_read(
    crowd: OpenStreams, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.STREAM_HEARTBEAT = NEVER
    story = await published_run()
    last = await sync_to_async(story.publish_deltas)(400)
    read, asked = ChannelLog.read_after, list[int]()

    def counted(log: ChannelLog, cursor: int, **named: Any) -> Any:
        asked.append(cursor)
        return read(log, cursor, **named)

    monkeypatch.setattr(ChannelLog, "read_after", counted)
    client = Client(crowd, story)
    await client.until(lambda: client.ids()[-1:] == [last])
    await waiting(crowd)
    assert asked == [story.first, story.first + 200]


async def test_a_silent_redis_server_counts_as_lost(
    crowd: OpenStreams, monkeypatch: pytest.MonkeyPatch, valkey: "redis.Redis"
) -> None:
    monkeypatch.setattr(hub, "PING", 0.2)
    monkeypatch.setattr(hub, "TIMEOUT", 0.6)
    story = await published_run()
    client = Client(crowd, story)
    await waiting(crowd)
    (buffer,) = crowd._hubs._hubs[0]._buffers.values()
    subscription = buffer.subscription
    await asyncio.to_thread(valkey.execute_command, "CLIENT", "PAUSE", 2500, "ALL")
    await client.until(lambda: not buffer.connected)
    await client.until(lambda: buffer.subscription > subscription)
    last = await sync_to_async(story.publish_deltas)(1)
    await client.until(lambda: client.ids() == [last])
