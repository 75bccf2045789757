"""Conversations spread over two Redis servers: each is on one, and each server is on its own."""

import asyncio
import threading
from collections import Counter
from typing import Any
from uuid import uuid4

import pytest
import redis
from asgiref.sync import sync_to_async

from streams.access.authorization import check_readers
from streams.delivery.open_streams import open_streams
from streams.delivery.threads import THREADS, in_thread
from streams.log.channels import channel_of
from streams.log.event_log import the_log
from streams.log.sharding import server_of
from streams.protocol.events import TextDelta
from tests.integration.support.published_run import VISITOR, PublishedRun
from tests.integration.support.two_servers import SERVERS, told_on
from tests.support.appends import text_append
from workers.log_writer import LogWriter
from workers.runtime import Runtime

pytestmark = pytest.mark.django_db(transaction=True)


def test_an_added_server_takes_its_share_and_all_other_channels_stay(settings: Any) -> None:
    channels = [channel_of(uuid4()) for _ in range(4000)]
    settings.REDIS_URL = "a,b,c"
    before = [server_of(channel) for channel in channels]
    settings.REDIS_URL = "a,b,c,d"
    after = [server_of(channel) for channel in channels]
    shares = Counter(after)
    assert set(shares) == {0, 1, 2, 3}
    assert all(800 < share < 1200 for share in shares.values()), shares
    assert {now for was, now in zip(before, after, strict=True) if was != now} == {3}


def test_all_keys_of_a_channel_are_on_one_server(
    two: list["redis.Redis"], pair: list[PublishedRun]
) -> None:
    for server, story in enumerate(pair):
        story.publish_deltas(3)
        its = [client.keys(f"*{story.channel}*") for client in two]
        assert len(its[server]) >= 2
        assert its[1 - server] == []
        assert (
            the_log().channel(story.channel).state().head
            == the_log().channel(story.channel).last()[0]
        )  # type: ignore[index]


async def test_a_process_receives_the_events_of_both_servers(two: list["redis.Redis"]) -> None:
    crowd = open_streams()
    for server in SERVERS:
        story = await sync_to_async(told_on)(server)
        stream = crowd.admit(VISITOR, story.conversation, story.first, until_idle=False)
        assert (await anext(stream)).startswith(b"retry: ")
        for word in (b"w0 ", b"w1 ", b"w2 "):  # the first may be read from the log
            heard = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0.1)
            await sync_to_async(story.publish_deltas)()
            assert word in await asyncio.wait_for(heard, 2)
        await stream.aclose()
    await crowd.close()


async def test_a_read_of_a_silent_server_delays_no_other_read(
    two: list["redis.Redis"],
) -> None:
    stories = [await sync_to_async(told_on)(server) for server in SERVERS]
    answers = threading.Event()
    waiting = [
        asyncio.ensure_future(in_thread(lambda: answers.wait(60), of=stories[1].channel))
        for _ in range(2 * THREADS)
    ]
    async with asyncio.timeout(20):
        await in_thread(lambda: the_log().channel(stories[0].channel).last(), of=stories[0].channel)
        await in_thread(lambda: check_readers({(VISITOR, stories[1].conversation.id)}))
    assert not any(one.done() for one in waiting)
    answers.set()
    assert all(await asyncio.gather(*waiting))


def test_a_writer_stopped_during_a_batch_ends_after_it(
    two: list["redis.Redis"], pair: list[PublishedRun]
) -> None:
    process = Runtime()
    try:
        event = TextDelta(run=pair[0].run.id, attempt=1, index=0, text="w ")
        writer, heard = LogWriter(process.loop), list[object]()
        writer.write(text_append(pair[0].channel, event), heard.append)
        writer.stop()
        writer.start()
        writer.join(5)
        assert not writer.is_alive()
    finally:
        process.close()
