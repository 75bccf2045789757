"""What ends a stream, and how many streams an owner may have."""

import asyncio
from contextlib import aclosing

import pytest
from asgiref.sync import sync_to_async
from django.contrib.sessions.models import Session

from streams.access.authorization import Caller
from streams.chat import conversations
from streams.delivery.open_streams import OpenStreams, StreamLimit
from tests.integration.support.published_run import VISITOR, published_run
from tests.integration.support.received_events import connected, whole

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


async def test_until_idle_ends_after_the_last_final_event_and_not_before(
    crowd: OpenStreams,
) -> None:
    story = await published_run()
    stream = crowd.admit(VISITOR, story.conversation, None, until_idle=True)
    reading = asyncio.create_task(whole(stream))
    await connected(crowd)
    await sync_to_async(story.publish_deltas)(2)
    assert not reading.done()
    await sync_to_async(story.complete)()
    assert await reading == ["conversation.snapshot", "text.delta", "text.delta", "run.completed"]
    again = crowd.admit(VISITOR, story.conversation, None, until_idle=True)
    assert await whole(again) == ["conversation.snapshot"]


async def test_deleting_the_conversation_ends_its_streams(crowd: OpenStreams) -> None:
    story = await published_run()
    stream = crowd.admit(VISITOR, story.conversation, story.first, until_idle=False)
    reading = asyncio.create_task(whole(stream))
    await connected(crowd)
    await sync_to_async(conversations.delete)(story.conversation)
    assert await reading == ["stream-error"]


async def test_the_end_of_a_session_ends_its_streams(crowd: OpenStreams, settings: object) -> None:
    settings.ACCESS_CHECK_INTERVAL = 0.2  # type: ignore[attr-defined]
    story = await published_run()
    caller = Caller(owner=VISITOR.owner, session="unknown-session")
    stream = crowd.admit(caller, story.conversation, story.first, until_idle=False)
    assert await whole(stream) == ["stream-error"]
    assert not await Session.objects.aexists()


async def test_the_streams_of_an_owner_are_limited(crowd: OpenStreams, settings: object) -> None:
    settings.MAX_STREAMS = 1  # type: ignore[attr-defined]
    story = await published_run()
    first = crowd.admit(VISITOR, story.conversation, None, until_idle=False)
    async with aclosing(first) as pieces:
        await anext(pieces)
        with pytest.raises(StreamLimit):
            crowd.admit(VISITOR, story.conversation, None, until_idle=False)
    crowd.admit(VISITOR, story.conversation, None, until_idle=False)


async def test_draining_asks_every_reader_to_reconnect_without_a_final_event(
    crowd: OpenStreams,
) -> None:
    story = await published_run()
    stream = crowd.admit(VISITOR, story.conversation, story.first, until_idle=False)
    pieces: list[bytes] = []

    async def read() -> None:
        async with aclosing(stream) as said:
            pieces.extend([piece async for piece in said])

    reading = asyncio.create_task(read())
    await connected(crowd)
    crowd.drain()
    async with asyncio.timeout(5):
        await reading
    said = b"".join(pieces).split(b"\n")
    assert [line.split(b":")[0] for line in said] == [b"retry", b"event", b"data", b"", b""]
