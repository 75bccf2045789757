"""Two applications on one Redis database: each takes tasks from a queue of its own."""

from typing import Any
from uuid import uuid4

import pytest
import redis as server
from celery import Celery, current_app
from celery.fixups.django import DjangoWorkerFixup
from django.conf import settings
from django.db import connection

from config.celery import app
from streams.chat.dispatch import dispatch


@pytest.mark.usefixtures("valkey")
def test_a_worker_consumes_the_queue_that_runs_are_dispatched_to(valkey: "server.Redis") -> None:
    dispatch(uuid4(), settings.LLM_MODEL)
    assert (valkey.llen("unspool"), valkey.llen("celery")) == (1, 0)
    # What `celery worker` without -Q consumes.
    assert list(app.amqp.queues.consume_from) == ["unspool"]


def test_another_application_with_celerys_defaults_takes_none_of_the_tasks(
    valkey: "server.Redis",
) -> None:
    dispatch(uuid4(), settings.LLM_MODEL)
    other = Celery("other", broker=current_app.conf.broker_url, set_as_current=False)
    with other.connection_for_read() as connection:
        queues = list(other.amqp.queues.consume_from)
        assert queues == ["celery"]
        assert connection.default_channel.basic_get(queues[0]) is None
    assert valkey.llen("unspool") == 1


def test_a_task_that_a_worker_has_taken_is_not_kept_in_redis(valkey: "server.Redis") -> None:
    taken = []

    def take(message: Any) -> None:
        taken.append(message.headers["task"])
        message.ack()

    run = uuid4()
    dispatch(run, settings.LLM_MODEL)
    with app.connection_for_read() as broker:
        consumer = app.amqp.TaskConsumer(broker.default_channel, on_message=take)
        with consumer, valkey.monitor() as monitor:
            broker.drain_events(timeout=10)
            valkey.ping()
            seen = []
            while (command := monitor.next_command()["command"]) != "PING":
                seen.append(command.split()[0])
    assert taken == ["workers.tasks.generate"]
    assert "BRPOP" in seen
    assert not {"ZADD", "HSET", "ZREM", "HDEL"} & set(seen)
    assert valkey.keys("unacked*") == []


@pytest.mark.django_db(transaction=True)
def test_celery_does_not_close_the_connection_after_a_task() -> None:
    """Tasks release it themselves: SQLite's stays open."""
    connection.ensure_connection()
    DjangoWorkerFixup(app).close_database()
    assert connection.connection is not None
