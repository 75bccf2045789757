"""The bridge while Redis or the database is away, or the log is lost."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import redis
from asgiref.sync import sync_to_async
from django.db import OperationalError

from streams.delivery import channel_reader
from streams.delivery.channel_buffer import ChannelBuffer
from streams.delivery.replay import Pending
from streams.log.channel_log import ChannelLog
from streams.log.errors import LogUnavailable
from streams.pushpin import bridge
from tests.integration.support.published_run import PublishedRun, published_run
from tests.integration.support.subscribed_pushpin import bridging, close, followed, hold_of, named

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


async def test_a_hold_until_idle_is_closed_after_redis_failed_before_the_record(
    short: Path, valkey: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    outlook, subscribed, back = channel_reader.pending, ChannelBuffer.subscribed, asyncio.Event()

    def subscribed_again(feed: ChannelBuffer) -> None:
        subscribed(feed)
        if feed.subscription > 1:
            back.set()

    monkeypatch.setattr(ChannelBuffer, "subscribed", subscribed_again)

    def unnoted(*at: Any) -> Pending:
        return outlook(*at) if back.is_set() else Pending.ENDING

    monkeypatch.setattr(channel_reader, "pending", unnoted)
    story = await published_run()
    staying = hold_of(story.conversation, until_idle=True)
    async with bridging(short) as pushpin:
        await followed(pushpin, story, staying)
        ending = await sync_to_async(story.complete)()
        await pushpin.hears(named(ending))
        await asyncio.to_thread(valkey.client_kill_filter, _type="pubsub")
        await pushpin.hears(close)


async def told_anew(
    story: PublishedRun, valkey: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> int:
    """The log is lost, and the whole reply is published again, before the bridge reads."""
    in_thread, over = channel_reader.in_thread, asyncio.Event()

    async def once_it_is_over(ask: Callable[[], Any], *, of: str | None = None) -> Any:
        if of is not None:
            await over.wait()
        return await in_thread(ask, of=of)

    monkeypatch.setattr(channel_reader, "in_thread", once_it_is_over)
    await asyncio.to_thread(valkey.flushall)
    ending = await sync_to_async(story.complete)()
    over.set()
    return ending


async def test_a_hold_until_idle_is_closed_after_a_lost_log_hid_the_final_event(
    short: Path, valkey: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    story = await published_run()
    staying = hold_of(story.conversation, until_idle=True)
    async with bridging(short) as pushpin:
        await followed(pushpin, story, staying)
        await told_anew(story, valkey, monkeypatch)
        await pushpin.hears(close)


async def test_after_a_lost_log_the_last_event_is_published_again(
    short: Path, valkey: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    story = await published_run()
    async with bridging(short) as pushpin:
        await followed(pushpin, story, hold_of(story.conversation))
        ending = await told_anew(story, valkey, monkeypatch)
        said = await pushpin.hears(named(ending))
        assert said["prev-id"] == str(ending - 1)


@pytest.mark.parametrize(
    "answer", [LogUnavailable(), None], ids=["does not answer", "holds nothing"]
)
async def test_an_unpublished_log_is_read_a_few_times_a_second(
    short: Path, monkeypatch: pytest.MonkeyPatch, answer: LogUnavailable | None
) -> None:
    tail, asked = ChannelLog.last, list[float]()

    def at_last(log: ChannelLog) -> Any:
        asked.append(monotonic())
        if len(asked) > 10:
            return tail(log)
        if answer:
            raise answer
        return None

    monkeypatch.setattr(ChannelLog, "last", at_last)
    monkeypatch.setattr(bridge, "LOOK", bridge.SOON)
    story = await published_run()
    await sync_to_async(story.complete)()
    staying = hold_of(story.conversation, until_idle=True)
    async with bridging(short) as pushpin:
        pushpin.want(staying.channel, staying.state, staying.aside)
        await pushpin.hears(close, within=10)
    assert asked[10] - asked[0] > 5 * bridge.SOON  # some at once, as they come to want it


async def test_a_database_that_is_down_is_queried_once_a_second(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outlook, asked = channel_reader.pending, list[float]()

    def at_last(*at: Any) -> Pending:
        asked.append(monotonic())
        if len(asked) <= 4:  # each question is asked once more
            raise OperationalError
        return outlook(*at)

    story = await published_run()
    staying = hold_of(story.conversation, until_idle=True)
    async with bridging(short) as pushpin:
        await followed(pushpin, story, staying)
        monkeypatch.setattr(channel_reader, "pending", at_last)
        await sync_to_async(story.complete)()
        await pushpin.hears(close)
    assert asked[4] - asked[0] > bridge.LOOK


async def test_only_heartbeats_are_sent_while_redis_is_disconnected(
    short: Path, monkeypatch: pytest.MonkeyPatch, settings: object
) -> None:
    settings.STREAM_HEARTBEAT = 0.5  # type: ignore[attr-defined]
    change, waits = ChannelBuffer.wait_for_change, list[float]()

    def counted(feed: ChannelBuffer, deadline: float) -> Any:
        waits.append(deadline)
        return change(feed, deadline)

    monkeypatch.setattr(ChannelBuffer, "wait_for_change", counted)
    monkeypatch.setattr(ChannelBuffer, "subscribed", lambda feed: None)
    hold = hold_of((await published_run()).conversation, until_idle=True)
    async with bridging(short) as pushpin:
        pushpin.want(hold.channel, hold.state, hold.aside)
        await pushpin.hears(lambda said: said["channel"] == hold.aside)
    assert len(waits) < 8


async def test_heartbeats_continue_while_redis_does_not_answer(
    short: Path, monkeypatch: pytest.MonkeyPatch, settings: object
) -> None:
    settings.STREAM_HEARTBEAT = 0.5  # type: ignore[attr-defined]

    def away(*_: Any) -> None:
        raise LogUnavailable

    monkeypatch.setattr(ChannelLog, "last", away)
    hold = hold_of((await published_run()).conversation)
    async with bridging(short) as pushpin:
        pushpin.want(hold.channel, hold.state, hold.aside)
        said = await pushpin.hears(lambda said: said["channel"] == hold.aside)
        assert '"head":null' in said["content"]
