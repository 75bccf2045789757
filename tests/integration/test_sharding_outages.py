"""While one of two Redis servers is away, all goes on at the other."""

import asyncio
import threading
from contextlib import nullcontext
from typing import Any
from uuid import UUID

import pytest
import redis
from celery import current_app
from django.db import connection

from streams.chat import ask
from streams.chat.sweep import sweep
from streams.log.channels import channel_of
from streams.log.errors import LogUnavailable
from streams.log.event_log import the_log
from streams.log.sharding import server_of
from streams.log.values import Watermark
from streams.models import Run
from streams.protocol.events import TextDelta
from tests.integration.support.broker import QUEUE
from tests.integration.support.published_run import VISITOR, PublishedRun
from tests.integration.support.two_servers import NOWHERE, asked_on, second_is_away, told_on
from tests.support.appends import text_append
from workers.attempt import Attempt
from workers.run_attempt import generate
from workers.runtime import Runtime

pytestmark = pytest.mark.django_db(transaction=True)


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


def test_a_run_whose_server_fails_before_the_start_releases_its_place(
    two: list["redis.Redis"], settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, rung = asked_on(1), list[UUID]()
    monkeypatch.setattr("workers.lease.dispatch", lambda run, _model: rung.append(run))
    monkeypatch.setattr("workers.run_attempt.PATIENCE", 0.5)
    both = settings.REDIS_URL
    second_is_away(settings)
    process = Runtime()

    def write() -> None:
        generate(made.run, process)
        connection.close()

    try:
        writing = threading.Thread(target=write)
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
