"""The broker's queue holds at most one task a waiting run, however long no worker comes."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any
from uuid import UUID, uuid4

import pytest
import redis
from celery import current_app
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now
from django.test import Client

from streams.chat import ask as ask_module
from streams.chat import finish
from streams.chat import sweep as sweep_module
from streams.chat.broker_queue import queue_length
from streams.chat.model_names import Kind
from streams.chat.sweep import sweep
from streams.models import Conversation, Run
from streams.protocol.parts import text_parts
from tests.integration.support.broker import QUEUE, let_dispatch_expire, queued
from workers.lease import claim, claim_in_turn

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]
OWNERS = 10
RUNS = 30
PRIORITY = f"{QUEUE}\x06\x163"  # where kombu keeps tasks of another priority


def ask(owner: str) -> UUID:
    return ask_module.begin(owner=owner, text="Why?").run


def ask_many() -> list[UUID]:
    """Runs that wait, oldest first."""
    return [ask(f"user:{number % OWNERS}") for number in range(RUNS)]


def test_without_a_worker_the_queue_holds_one_task_per_waiting_run(
    valkey: redis.Redis,
) -> None:
    runs = ask_many()
    for _ in range(20):
        let_dispatch_expire()
        sweep()
    assert queued(valkey) == runs


def test_concurrent_sweeps_send_each_lost_task_once(valkey: redis.Redis) -> None:
    runs = ask_many()
    let_dispatch_expire()
    valkey.delete(QUEUE)
    together = Barrier(6, timeout=30)

    def one_process(_: int) -> None:
        together.wait()
        try:
            sweep()
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as processes:
        list(processes.map(one_process, range(6)))
    assert sorted(queued(valkey)) == sorted(runs)


def test_a_task_sent_by_another_process_during_a_sweep_is_not_sent_again(
    valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = ask_many()
    let_dispatch_expire()
    valkey.delete(QUEUE)
    asked: Callable[[Kind], int | None] = sweep_module.queue_length

    def meanwhile(kind: Kind) -> int | None:
        monkeypatch.setattr(sweep_module, "queue_length", asked)
        length = asked(kind)
        sweep()
        return length

    monkeypatch.setattr(sweep_module, "queue_length", meanwhile)
    sweep()
    assert queued(valkey) == runs


def test_a_task_sent_by_a_post_during_a_sweep_is_not_sent_again(
    valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = ask_many()
    let_dispatch_expire()
    valkey.rpop(current_app.conf.task_default_queue)  # the oldest task is missing
    asked: Callable[[Kind], int | None] = sweep_module.queue_length

    def meanwhile(kind: Kind) -> int | None:
        length = asked(kind)
        runs.extend(ask_many())
        return length

    monkeypatch.setattr(sweep_module, "queue_length", meanwhile)
    sweep()
    assert queued(valkey) == [*runs[1:], runs[0]]


def test_a_sweep_sends_as_many_tasks_as_are_missing_oldest_first(valkey: redis.Redis) -> None:
    runs = ask_many()
    let_dispatch_expire()
    valkey.ltrim(QUEUE, 0, RUNS - 8)  # a worker that died has taken seven
    sweep()
    assert len(queued(valkey)) == RUNS
    assert queued(valkey)[-7:] == runs[:7]


def test_tasks_of_every_priority_count(valkey: redis.Redis) -> None:
    ask_many()
    valkey.rename(QUEUE, PRIORITY)
    assert queue_length(Kind.MODEL) == RUNS
    let_dispatch_expire()
    sweep()
    assert valkey.llen(QUEUE) == 0


def test_without_a_queue_length_each_run_is_dispatched_less_and_less_often(
    valkey: redis.Redis,
) -> None:
    run = ask("user:1")
    valkey.set(PRIORITY, "no list")
    assert queue_length(Kind.MODEL) is None
    for _ in range(100):  # ten minutes, a sweep every six seconds
        Run.objects.update(
            created_at=F("created_at") - timedelta(seconds=6),
            dispatched_at=F("dispatched_at") - timedelta(seconds=6),
        )
        sweep()
    assert 5 <= len(queued(valkey)) <= 9
    assert set(queued(valkey)) == {run}


def test_a_broker_that_is_down_has_no_queue_length(monkeypatch: pytest.MonkeyPatch) -> None:
    ask("user:1")
    monkeypatch.setattr(current_app.conf, "broker_url", "redis://127.0.0.1:1/0")
    assert queue_length(Kind.MODEL) is None
    assert 'unspool_queue_length{kind="model"} NaN' in Client().get("/metrics").content.decode()


def test_a_queue_without_a_task_has_length_zero() -> None:
    assert queue_length(Kind.MODEL) == 0


def test_the_queue_length_is_a_metric() -> None:
    ask_many()
    assert 'unspool_queue_length{kind="model"} 30.0' in Client().get("/metrics").content.decode()


def test_a_run_that_waits_for_its_turn_has_no_task(valkey: redis.Redis) -> None:
    first = ask("user:1")
    talk = Conversation.objects.get()
    second = ask_module.ask(talk, "And?", when_busy="queue").run
    third = ask_module.ask(talk, "And then?", when_busy="queue").run
    for _ in range(5):
        let_dispatch_expire()
        sweep()
    assert queued(valkey) == [first]
    valkey.delete(QUEUE)
    for run, waits in ((first, [second]), (second, [second, third])):
        taken = claim(run, uuid4())
        assert taken
        finish.complete(taken, text_parts("So."), finish_reason="stop", usage=None)
        assert queued(valkey) == waits


def test_a_run_whose_turn_comes_during_its_post_is_dispatched(
    valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = claim(ask("user:1"), uuid4())
    assert taken
    valkey.delete(QUEUE)
    publish_pending: Callable[..., None] = ask_module.publish_pending

    def meanwhile(*about: Any, **named: Any) -> None:
        monkeypatch.setattr(ask_module, "publish_pending", publish_pending)
        finish.complete(taken, text_parts("So."), finish_reason="stop", usage=None)
        publish_pending(*about, **named)

    monkeypatch.setattr(ask_module, "publish_pending", meanwhile)
    second = ask_module.ask(taken.conversation, "And?", when_busy="queue").run
    assert queued(valkey) == [second]


def test_a_task_of_an_ended_run_starts_a_waiting_run(valkey: redis.Redis) -> None:
    over = ask_many()
    for run in over:
        finish.cancel(run)
    new = ask("user:1")
    assert queued(valkey) == [*over, new]  # no task expires
    worker = uuid4()
    assert claim(over[0], worker) is None
    instead = claim_in_turn(worker)
    assert instead
    assert instead.id == new
    assert claim_in_turn(worker) is None


def test_a_clock_set_back_does_not_delay_a_dispatch(valkey: redis.Redis) -> None:
    run = ask("user:1")
    valkey.delete(QUEUE)
    Run.objects.update(dispatched_at=Now() + timedelta(seconds=60))
    sweep()
    assert queued(valkey) == [run]
