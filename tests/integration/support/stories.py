"""Short cases for test_mutations: a run that the test publishes, and a real follower of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import redis
from asgiref.sync import sync_to_async

from tests.integration.support.listener import ManualClock, SteppedReader
from tests.integration.support.published_run import PublishedRun


class Story:
    """A run that a test publishes, and a reader that has received its start."""

    def __init__(self, run: PublishedRun, reader: SteppedReader, valkey: redis.Redis) -> None:
        self.run = run
        self.reader = reader
        self._valkey = valkey
        self._pubsub = valkey.pubsub()
        self._pubsub.subscribe(run.channel)
        assert self._pubsub.get_message(timeout=5)["type"] == "subscribe"

    async def publish(self, count: int) -> None:
        """Publish `count` deltas. Their messages wait in the reader's inbox."""
        await sync_to_async(self.run.publish_deltas)(count)
        for _ in range(count):
            message = await asyncio.to_thread(self._pubsub.get_message, timeout=5)
            self.reader.inbox.append(message["data"])

    def lose(self, last: int) -> None:
        """Remove the last event, as a failover to a server that had not copied it does."""
        state, events = f"{{{self.run.channel}}}:state", f"{{{self.run.channel}}}:events"
        self._valkey.xdel(events, f"{last}-0")
        self._valkey.hdel(state, f"{self.run.run.id}:final")
        self._valkey.hset(state, "head", last - 1)

    def deltas(self) -> list[int]:
        """The numbers of the deltas that the reader has received, from 1."""
        assert not self.reader.violations, self.reader.violations
        return [id - self.run.first for id in self.reader.history]

    def close(self) -> None:
        self._pubsub.close()


@asynccontextmanager
async def following(valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Story]:
    run = await sync_to_async(PublishedRun)()
    time = ManualClock(monkeypatch)
    reader = SteppedReader(run.conversation.id, time, cursor=run.first)
    story = Story(run, reader, valkey)
    await reader.connect()
    try:
        yield story
    finally:
        await reader.disconnect()
        story.close()


async def late_messages_are_not_delivered_twice(story: Story) -> None:
    await story.publish(3)
    await story.reader.disconnect()
    late, story.reader.inbox = story.reader.inbox, []
    await story.reader.connect()
    story.reader.inbox = late
    await story.publish(1)
    await story.reader.deliver([True] * 4)
    assert story.deltas() == [1, 2, 3, 4]


async def a_lost_message_is_recovered_at_the_next_one(story: Story) -> None:
    await story.publish(3)
    await story.reader.deliver([True, False, True])
    assert story.deltas() == [1, 2, 3]


async def events_during_a_lost_subscription_are_delivered_afterwards(
    story: Story,
) -> None:
    await story.publish(1)
    await story.reader.deliver([True])
    await story.publish(2)
    await story.reader.cut_subscription()
    assert story.deltas() == [1, 2, 3]


async def a_lost_last_message_is_recovered_at_the_heartbeat(story: Story) -> None:
    await story.publish(2)
    await story.reader.deliver([True, False])
    await story.reader.catch_up()
    assert story.deltas() == [1, 2]


async def a_final_event_lost_by_a_failover_is_reported(story: Story) -> None:
    """The replica has the log up to the last delta; the row has the final event's id."""
    await story.publish(1)
    await story.reader.deliver([True])
    ending = await sync_to_async(story.run.complete)()
    await asyncio.to_thread(story.lose, ending)
    await story.reader.cut_subscription()
    assert story.reader.resets == ["lost"]
