"""The bridge on a real Valkey and a real socket: a SUB socket stands where a Pushpin would."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import redis
import zmq
import zmq.asyncio
from asgiref.sync import sync_to_async
from django.db import OperationalError
from django.test import AsyncClient

from streams.chat import conversations
from streams.delivery import channel_reader
from streams.delivery.channel_buffer import ChannelBuffer
from streams.delivery.replay import Pending
from streams.log.channel_log import ChannelLog
from streams.log.errors import LogUnavailable
from streams.models import Conversation
from streams.pushpin import bridge
from streams.pushpin.bridge import Bridge
from streams.pushpin.hold import Hold
from streams.pushpin.zmq_publisher import ZmqPublisher, tnetstring
from tests.integration.support.published_run import VISITOR, PublishedRun, published_run

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]
Said = dict[str, str]


class Pushpin:
    """A Pushpin: its subscriptions, and the messages that it receives."""

    def __init__(self, address: str) -> None:
        self.context = zmq.asyncio.Context()
        self.socket = self.context.socket(zmq.SUB)
        self.socket.connect(address)

    def want(self, *channels: str) -> None:
        for channel in channels:
            self.socket.subscribe(channel)

    async def hears(self, said: Callable[[Said], bool], *, within: float = 5.0) -> Said:
        async with asyncio.timeout(within):
            while True:
                channel, item = await self.socket.recv_multipart()
                heard = {"channel": channel.decode(), **flat(taken(item[1:])[0])}
                if said(heard):
                    return heard


def flat(item: bytes) -> Said:
    """The fields of a message by name, at any depth."""
    words: Said = {}
    while item:
        name, _, item = taken(item)
        value, kind, item = taken(item)
        words |= flat(value) if kind == b"}" else {name.decode(): value.decode()}
    return words


def taken(item: bytes) -> tuple[bytes, bytes, bytes]:
    """The first value of a row of tnetstrings, its kind, and the rest."""
    length, _, rest = item.partition(b":")
    end = int(length)
    return rest[:end], rest[end : end + 1], rest[end + 1 :]


@asynccontextmanager
async def bridging(folder: Path) -> AsyncIterator[Pushpin]:
    address = f"ipc://{folder}/b"
    running = asyncio.create_task(Bridge(address).run())
    pushpin = Pushpin(address)
    try:
        yield pushpin
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        pushpin.context.destroy(linger=0)


def hold_of(conversation: Conversation, *, minutes: int = 60, until_idle: bool = False) -> Hold:
    return Hold(
        conversation=conversation.id,
        caller=VISITOR,
        until_idle=until_idle,
        ends_at=int(time.time() // 60) + minutes,
        begun=True,
    )


def named(id: int) -> Callable[[Said], bool]:
    return lambda said: said.get("id") == str(id)


def close(said: Said) -> bool:
    return said.get("action") == "close"


async def followed(pushpin: Pushpin, story: PublishedRun, hold: Hold) -> int:
    """Subscribe to all channels of a hold, and publish until a message arrives. Returns its id."""
    pushpin.want(hold.channel, hold.state, hold.aside)
    async with asyncio.timeout(10):
        while True:
            last = await sync_to_async(story.publish_deltas)()
            try:
                await pushpin.hears(named(last), within=0.3)
            except TimeoutError:
                continue
            return last


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


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Unix socket's path ends at 107 bytes."""
    return tmp_path_factory.mktemp("b")
