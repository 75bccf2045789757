"""How a live event reaches a reader: written where it arrives, or by the stream that wakes."""

import asyncio

import pytest
from asgiref.sync import sync_to_async

from streams.delivery.channel_buffer import BATCH_BYTES
from streams.delivery.open_streams import OpenStreams
from streams.delivery.stream_end import StreamEnd
from tests.integration.support.published_run import published_run
from tests.integration.support.writable_client import WITHIN, Client, waiting

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


async def test_live_events_are_written_at_once_and_the_final_one_wakes_the_stream(
    crowd: OpenStreams,
) -> None:
    story = await published_run()
    client = Client(crowd, story, until_idle=True)
    await waiting(crowd)
    for _ in range(3):
        last = await sync_to_async(story.publish_deltas)(5)
        await client.until(lambda last=last: client.ids()[-1:] == [last])  # type: ignore[misc]
    assert b"".join(client.at_once).count(b"event: text.delta") == 15
    ending = await sync_to_async(story.complete)()
    await asyncio.wait_for(client.reading, WITHIN)
    assert client.ids() == list(range(story.first + 1, ending + 1))


async def test_a_full_connection_wakes_the_stream_and_nothing_is_lost_or_repeated(
    crowd: OpenStreams,
) -> None:
    story = await published_run()
    client = Client(crowd, story)
    await waiting(crowd)
    for number in range(30):
        client.full = number % 3 == 1
        last = await sync_to_async(story.publish_deltas)(1 + number % 4)
        if number % 5:
            await client.until(lambda last=last: client.ids()[-1:] == [last])  # type: ignore[misc]
    client.full = False
    await client.until(lambda: client.ids()[-1:] == [last])
    assert client.ids() == list(range(story.first + 1, last + 1))
    assert client.at_once


async def test_events_that_arrive_together_are_written_together(crowd: OpenStreams) -> None:
    story = await published_run()
    client = Client(crowd, story)
    await waiting(crowd)
    (buffer,) = crowd._hubs._hubs[0]._buffers.values()
    for id in (1, 2, 3):
        buffer.push(story.first + id, b"event: a\ndata: {}\nid: %d\n\n" % (story.first + id))
    await client.until(lambda: len(client.ids()) == 3)
    assert len(client.at_once) == 1


async def test_what_is_too_long_for_a_buffer_waits_for_its_reader(crowd: OpenStreams) -> None:
    story = await published_run()
    client = Client(crowd, story)
    await waiting(crowd)
    (buffer,) = crowd._hubs._hubs[0]._buffers.values()
    data = b"x" * BATCH_BYTES
    buffer.push(story.first + 1, b"event: a\ndata: %b\nid: %d\n\n" % (data, story.first + 1))
    await client.until(lambda: client.ids() == [story.first + 1])
    assert not client.at_once


async def test_a_stream_that_cannot_be_written_to_keeps_nothing_from_the_others(
    crowd: OpenStreams,
) -> None:
    story = await published_run()
    clients = [Client(crowd, story) for _ in range(3)]
    await waiting(crowd, 3)
    (buffer,) = crowd._hubs._hubs[0]._buffers.values()
    clients[0].fails = True
    buffer.push(story.first + 1, b"event: a\ndata: {}\nid: %d\n\n" % (story.first + 1))
    for client in clients:
        await client.until(lambda client=client: client.ids() == [story.first + 1])
    assert [len(client.at_once) for client in clients] == [0, 1, 1]


async def test_a_stream_that_ends_writes_nothing_after_its_end(crowd: OpenStreams) -> None:
    story = await published_run()
    client = Client(crowd, story)
    await waiting(crowd)
    (buffer,) = crowd._hubs._hubs[0]._buffers.values()
    (follower,) = crowd._open
    buffer.push(story.first + 1, b"event: a\ndata: {}\nid: %d\n\n" % (story.first + 1))
    follower.close(StreamEnd.FORBIDDEN)  # before the event is delivered
    await asyncio.wait_for(client.reading, WITHIN)
    buffer.push(story.first + 2, b"event: a\ndata: {}\nid: %d\n\n" % (story.first + 2))
    await asyncio.sleep(0)
    assert client.types() == ["stream-error"]
