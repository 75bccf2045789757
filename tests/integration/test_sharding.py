"""Conversations spread over two Redis servers: each is on one, and each server is on its own."""

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any
from uuid import UUID, uuid4

import pytest
import redis
from asgiref.sync import sync_to_async
from celery import current_app

from streams.access.authorization import check_readers
from streams.chat import ask
from streams.chat.sweep import sweep
from streams.delivery.open_streams import open_streams
from streams.delivery.threads import THREADS, in_thread
from streams.log.channels import channel_of
from streams.log.errors import LogUnavailable
from streams.log.event_log import the_log
from streams.log.sharding import server_of
from streams.log.values import Watermark
from streams.models import Run
from streams.protocol.events import TextDelta
from tests.conftest import running_valkey
from tests.integration.support.broker import QUEUE
from tests.integration.support.published_run import VISITOR, PublishedRun
from tests.support.appends import text_append
from workers.attempt import Attempt
from workers.log_writer import LogWriter
from workers.run_attempt import generate
from workers.runtime import Runtime

pytestmark = pytest.mark.django_db(transaction=True)
NOWHERE = "redis://127.0.0.1:1/0"  # where everything is refused at once
SERVERS = (0, 1)


@pytest.fixture(scope="module")
def second_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_valkey(tmp_path_factory.mktemp("w")) as url:
        yield url


@pytest.fixture
def two(valkey: "redis.Redis", second_url: str, settings: Any) -> Iterator[list["redis.Redis"]]:
    """Both servers, as the settings name them."""
    settings.REDIS_URL += f",{second_url}"
    with redis.Redis.from_url(second_url, decode_responses=True) as second:
        second.flushall()
        yield [valkey, second]


@pytest.fixture
def pair(two: list["redis.Redis"]) -> list[PublishedRun]:
    """A reply on each server."""
    return [told_on(server) for server in SERVERS]


def told_on(server: int) -> PublishedRun:
    while server_of((story := PublishedRun()).channel) != server:
        pass
    return story


def asked_on(server: int) -> ask.QueuedRun:
    while True:
        made = ask.begin(owner=VISITOR.owner, text="Why?")
        if server_of(channel_of(made.conversation)) == server:
            return made


def second_is_away(settings: Any) -> None:
    settings.REDIS_URL = f"{settings.REDIS_URL.split(',')[0]},{NOWHERE}"
    the_log.cache_clear()


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


def test_while_one_server_is_down_the_sweep_continues_with_the_other(
    two: list["redis.Redis"],
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    both, rung = settings.REDIS_URL, list[object]()
    settings.REDIS_URL = f"{NOWHERE},{NOWHERE}"
    the_log.cache_clear()
    asked: list[list[UUID]] = [[], []]
    server = 0
    while server == 0 or not asked[0] or len(asked[1]) < 3:  # the newest is looked at first
        one = ask.begin(owner=VISITOR.owner, text="Why?")
        server = server_of(channel_of(one.conversation))
        asked[server].append(one.run)
    Run.objects.update(created_at="2026-01-01T00:00:00Z")
    monkeypatch.setattr("streams.chat.sweep.dispatch", lambda run, _model: rung.append(run))
    settings.REDIS_URL = both
    second_is_away(settings)
    caplog.clear()
    sweep()
    said = set(Run.objects.exclude(queued_event_id=None).values_list("pk", flat=True))
    assert said == set(asked[0])
    assert set(rung) == set(asked[0])  # a worker would keep its places for the others in vain
    assert [record.message[:8] for record in caplog.records].count("log away") == 1


def test_a_run_whose_server_is_down_takes_no_place(
    two: list["redis.Redis"], settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    both, rung = settings.REDIS_URL, list[UUID]()
    monkeypatch.setattr("streams.chat.sweep.dispatch", lambda run, _model: rung.append(run))
    made = asked_on(1)
    two[0].delete(QUEUE)  # its task is lost
    Run.objects.update(dispatched_at=None)
    second_is_away(settings)
    sweep()
    assert made.run not in rung
    settings.REDIS_URL = both
    the_log.cache_clear()
    sweep()
    assert made.run in rung


def test_cancelled_runs_of_a_server_that_is_down_delay_the_sweep_once(
    two: list["redis.Redis"], settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    runs = [told_on(1).run.id for _ in range(3)]
    Run.objects.filter(pk__in=runs).update(lease_until="2026-01-01T00:00:00Z", cancel_asked=True)
    second_is_away(settings)
    caplog.clear()
    sweep()
    assert [record.message[:8] for record in caplog.records].count("log away") == 1


@pytest.mark.parametrize("by_redis", [True, False], ids=["the first server", "another broker"])
def test_while_the_first_server_is_down_only_another_broker_gets_tasks(
    two: list["redis.Redis"], settings: Any, monkeypatch: pytest.MonkeyPatch, by_redis: bool
) -> None:
    sent = list[object]()
    monkeypatch.setattr(current_app, "send_task", lambda *said, **_: sent.append(said))
    settings.REDIS_URL = f"{NOWHERE},{settings.REDIS_URL.split(',')[1]}"
    settings.REDIS_IS_BROKER = by_redis
    the_log.cache_clear()
    asked_on(1)
    assert bool(sent) is not by_redis
    made = asked_on(0)  # what it says is unsaid
    Run.objects.filter(pk=made.run).update(created_at="2026-01-01T00:00:00Z")
    Run.objects.update(dispatched_at=None)
    sent.clear()
    with nullcontext() if not by_redis else pytest.raises(LogUnavailable):
        sweep()
    assert bool(sent) is not by_redis


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


def test_a_run_whose_server_fails_before_the_start_releases_its_place(
    two: list["redis.Redis"], settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, rung = asked_on(1), list[UUID]()
    monkeypatch.setattr("workers.lease.dispatch", lambda run, _model: rung.append(run))
    monkeypatch.setattr("workers.run_attempt.PATIENCE", 0.5)
    both = settings.REDIS_URL
    second_is_away(settings)
    process = Runtime()
    try:
        writing = threading.Thread(target=generate, args=(made.run, process))
        writing.start()
        writing.join(5)
        assert not writing.is_alive()
    finally:
        settings.REDIS_URL = both
        the_log.cache_clear()
        process.close()
    run = Run.objects.get(pk=made.run)
    assert (run.status, run.attempt, run.uncounted_attempts, rung) == (Run.Status.QUEUED, 1, 1, [])
    Run.objects.filter(pk=made.run).update(cancel_asked=True)
    sweep()
    assert Run.objects.get(pk=made.run).status == Run.Status.CANCELLED


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


def test_while_one_server_is_down_attempts_on_the_other_are_verified(
    two: list["redis.Redis"], pair: list[PublishedRun], settings: Any
) -> None:
    reached = [
        Watermark(channel=story.channel, run=story.run.id, attempt=1, head=story.first)
        for story in reversed(pair)
    ]
    state = f"{{{pair[0].channel}}}:state"
    two[0].hset(state, "server", "another")
    second_is_away(settings)
    the_log().verify(reached)
    assert two[0].hget(state, "server") != "another"


def test_while_one_server_is_down_appends_to_the_other_do_not_wait(
    two: list["redis.Redis"], pair: list[PublishedRun], settings: Any
) -> None:
    second_is_away(settings)
    process = Runtime()
    heard = list[object]()
    try:
        for story in reversed(pair):
            attempt = Attempt(story.run, process)
            event = TextDelta(run=story.run.id, attempt=1, index=0, text="w ")
            piece = text_append(story.channel, event, min_head=story.first)
            attempt.writer._log_writer.write(piece, heard.append)

        async def while_nothing_is_heard() -> None:
            async with asyncio.timeout(5):
                while not heard:
                    await asyncio.sleep(0.01)

        process.start(while_nothing_is_heard()).result()
    finally:
        settings.REDIS_URL = ",".join(client_url(client) for client in two)
        the_log.cache_clear()
        process.close()
    assert heard == [pair[0].first + 1, pair[1].first + 1]


def client_url(client: "redis.Redis") -> str:
    return f"unix://{client.connection_pool.connection_kwargs['path']}"
