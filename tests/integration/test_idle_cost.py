"""What a process does while nothing happens: few queries, and no work without a deadline."""

import asyncio
from collections.abc import AsyncIterator
from time import monotonic
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from django.test.utils import CaptureQueriesContext

from streams.access.authorization import Caller
from streams.chat.sweep import sweep
from streams.delivery import open_streams
from streams.delivery.open_streams import OpenStream, OpenStreams
from streams.delivery.stream_end import StreamEnd
from streams.models import Conversation
from tests.integration.support.published_run import VISITOR, PublishedRun, published_run
from tests.support.waiting import until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]
WITHIN = 10.0  # seconds, on a busy machine


@pytest.fixture
async def crowd() -> AsyncIterator[OpenStreams]:
    made = OpenStreams()
    yield made
    await made.close()


def statements_of_a_sweep() -> list[str]:
    with CaptureQueriesContext(connection) as queries:
        sweep()
    return [query["sql"] for query in queries]


def test_a_sweep_without_an_unpublished_run_makes_few_queries() -> None:
    run = PublishedRun()
    busy = statements_of_a_sweep()
    run.complete()
    idle = statements_of_a_sweep()
    assert len([sql for sql in idle if sql.startswith("SELECT")]) == 4
    assert len(idle) < len(busy) - 5


async def follow(stream: OpenStream) -> bytes:
    return b"".join([piece async for piece in stream])


async def test_of_two_streams_of_a_reader_the_one_that_stays_is_still_checked(
    crowd: OpenStreams, settings: Any
) -> None:
    settings.ACCESS_CHECK_INTERVAL = 0.05
    story = await published_run()
    streams = [
        crowd.admit(VISITOR, story.conversation, story.first, until_idle=False) for _ in range(2)
    ]
    leaves, stays = [asyncio.create_task(follow(stream)) for stream in streams]
    await until(lambda: len(crowd._open) == 2, within=WITHIN, what="both streams")
    leaves.cancel()
    await until(lambda: len(crowd._open) == 1, within=WITHIN, what="one stream")
    await sync_to_async(Conversation.objects.filter(pk=story.conversation.pk).update)(owner="b")
    body = await asyncio.wait_for(stays, WITHIN)
    assert b"forbidden" in body
    assert not crowd._readers


async def test_a_check_names_each_reader_once_and_none_that_has_left(
    crowd: OpenStreams, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.ACCESS_CHECK_INTERVAL = 0.05
    checks: list[set[Any]] = []

    async def checked(readers: set[Any]) -> dict[Any, StreamEnd]:
        checks.append(readers)
        return {}

    monkeypatch.setattr(open_streams, "revoked", checked)
    story = await published_run()
    other = Caller(owner=VISITOR.owner, session="of-another-browser")
    callers = (VISITOR, VISITOR, other)
    streams = [
        crowd.admit(caller, story.conversation, story.first, until_idle=False) for caller in callers
    ]
    tasks = [asyncio.create_task(follow(stream)) for stream in streams]
    both = {(VISITOR, story.conversation.id), (other, story.conversation.id)}
    await until(lambda: both in checks, within=WITHIN, what="a check of both readers")
    tasks[2].cancel()
    left = {(VISITOR, story.conversation.id)}
    await until(lambda: checks[-1] == left, within=WITHIN, what="a check without the other")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_the_process_sleeps_until_the_first_heartbeat_is_due(crowd: OpenStreams) -> None:
    story = await published_run()
    tasks = []
    timer = crowd._hubs._timer
    for seconds in (600.0, 300.0, 900.0):
        stream = crowd.admit(
            VISITOR, story.conversation, story.first, until_idle=False, heartbeat=seconds
        )
        tasks.append(asyncio.create_task(follow(stream)))
    await until(lambda: waiting(crowd) == 3, within=WITHIN, what="streams that wait")
    assert 290 < timer._ends_at - monotonic() < 320
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def waiting(crowd: OpenStreams) -> int:
    return sum(len(buffer._waiting) for buffer in crowd._hubs._hubs[0]._buffers.values())
