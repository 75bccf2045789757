"""The bridge on a real Valkey and a real socket: a SUB socket stands where a Pushpin would."""

import asyncio
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import redis
from asgiref.sync import sync_to_async
from django.test import AsyncClient

from streams.chat import conversations
from streams.pushpin import bridge
from streams.pushpin.zmq_publisher import ZmqPublisher, tnetstring
from tests.integration.support.published_run import published_run
from tests.integration.support.subscribed_pushpin import (
    Said,
    bridging,
    close,
    followed,
    hold_of,
    named,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


async def test_each_event_is_published_with_its_predecessor(short: Path) -> None:
    story = await published_run()
    async with bridging(short) as pushpin:
        last = await followed(pushpin, story, hold_of(story.conversation))
        await sync_to_async(story.publish_deltas)(3)
        for id in (last + 1, last + 2, last + 3):
            said = await pushpin.hears(lambda said: said.get("id") != str(last))  # noqa: B023
            assert (said["id"], said["prev-id"]) == (str(id), str(id - 1))
            assert said["channel"] == story.channel
            assert said["content"].startswith("event: text.delta\ndata: ")
            assert said["content"].endswith(f"}}\nid: {id}\n\n")
            last = id


async def test_an_event_whose_message_was_lost_is_read_within_two_seconds(
    short: Path, valkey: "redis.Redis"
) -> None:
    story = await published_run()
    async with bridging(short) as pushpin:
        await followed(pushpin, story, hold_of(story.conversation))
        await asyncio.to_thread(valkey.client_kill_filter, _type="pubsub")
        lost = await sync_to_async(story.publish_deltas)()
        said_at = monotonic()
        await pushpin.hears(named(lost))
        assert monotonic() - said_at < 2.0


async def test_a_recorded_event_that_a_failover_lost_is_not_awaited(
    short: Path, valkey: "redis.Redis"
) -> None:
    story = await published_run()
    hold = hold_of(story.conversation)
    async with bridging(short) as pushpin:
        last = await followed(pushpin, story, hold)
        await sync_to_async(story.conversation.advance_head)(last + 9)
        await asyncio.to_thread(valkey.client_kill_filter, _type="pubsub")
        said = await pushpin.hears(lambda said: said.get("action") == "hint")
        assert said["channel"] == hold.aside


async def test_the_last_event_is_published_twice(short: Path) -> None:
    story = await published_run()
    async with bridging(short) as pushpin:
        last = await followed(pushpin, story, hold_of(story.conversation))
        first = await pushpin.hears(named(last), within=2.0)
        assert first["prev-id"] == str(last - 1)


async def test_a_hold_until_idle_is_closed_after_the_final_event(short: Path) -> None:
    story = await published_run()
    staying = hold_of(story.conversation, until_idle=True)
    async with bridging(short) as pushpin:
        await followed(pushpin, story, staying)
        ending = await sync_to_async(story.complete)()
        heard: list[Said] = []
        await pushpin.hears(lambda said: bool(heard.append(said)) or said.get("action") == "close")
        assert heard[-1]["channel"] == staying.aside
        assert str(ending) in [said.get("id") for said in heard[:-1]]


async def test_a_hold_until_idle_is_closed_by_a_bridge_started_after_the_final_event(
    short: Path,
) -> None:
    story = await published_run()
    await sync_to_async(story.complete)()
    staying = hold_of(story.conversation, until_idle=True)
    async with bridging(short) as pushpin:
        pushpin.want(staying.channel, staying.state, staying.aside)
        await pushpin.hears(close)


async def test_a_hold_ends_at_its_maximum_age_and_its_reader_reconnects(
    short: Path, settings: object
) -> None:
    settings.ACCESS_CHECK_INTERVAL = 0.1  # type: ignore[attr-defined]
    story = await published_run()
    over = hold_of(story.conversation, minutes=0)
    async with bridging(short) as pushpin:
        pushpin.want(over.channel, over.state, over.aside)
        said = await pushpin.hears(lambda said: said["channel"] == over.aside)
        assert said["content"].startswith("retry: ")
        await pushpin.hears(close)


async def test_holds_that_open_while_others_are_closed_stay_open(
    short: Path, settings: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.ACCESS_CHECK_INTERVAL = 0.1  # type: ignore[attr-defined]
    story = await published_run()
    over = [hold_of(story.conversation, minutes=-minutes) for minutes in (0, 1)]
    say, minute = ZmqPublisher.publish, count(60)

    def while_somebody_comes(outlet: ZmqPublisher, *words: Any, **place: Any) -> None:
        other = hold_of(story.conversation, minutes=next(minute))
        outlet._asked(other.state, True, False)
        say(outlet, *words, **place)

    monkeypatch.setattr(ZmqPublisher, "publish", while_somebody_comes)
    async with bridging(short) as pushpin:
        for hold in over:
            pushpin.want(hold.state, hold.aside)
        for hold in over:
            await pushpin.hears(
                lambda said: (said["channel"], said.get("action")) == (hold.aside, "close")  # noqa: B023
            )


async def test_a_deleted_conversation_ends_its_holds(short: Path) -> None:
    story = await published_run()
    hold = hold_of(story.conversation)
    async with bridging(short) as pushpin:
        await followed(pushpin, story, hold)
        await sync_to_async(conversations.delete)(story.conversation)
        said = await pushpin.hears(lambda said: said["channel"] == hold.aside)
        assert '"gone"' in said["content"]
        await pushpin.hears(close)


async def test_holds_of_a_deleted_conversation_are_closed_a_few_times_a_second_at_most(
    short: Path, monkeypatch: pytest.MonkeyPatch, settings: object
) -> None:
    settings.STREAM_HEARTBEAT = bridge.SOON  # type: ignore[attr-defined]
    monkeypatch.setattr(bridge, "LOOK", bridge.SOON)
    story = await published_run()
    hold = hold_of(story.conversation)
    async with bridging(short) as pushpin:
        await followed(pushpin, story, hold)
        await sync_to_async(conversations.delete)(story.conversation)
        await pushpin.hears(close)
        since = monotonic()
        for _ in range(5):
            await pushpin.hears(close)
        assert monotonic() - since > 3 * bridge.SOON


@pytest.mark.parametrize("signature", [{}, {"Grip-Sig": "forged"}])
async def test_the_next_url_is_always_signed(settings: object, signature: dict[str, str]) -> None:
    settings.GRIP_URL = f"http://127.0.0.1:5561/?key={'k' * 40}"  # type: ignore[attr-defined]
    answer = await AsyncClient().get("/api/streams/next/", headers=signature)
    assert (answer.status_code, answer.json()["code"]) == (403, "grip_signature")


def test_messages_are_encoded_as_tnetstrings() -> None:
    assert tnetstring({b"a": {b"b": b"\xc3\xa9"}}) == b"16:1:a,9:1:b,2:\xc3\xa9,}}"
