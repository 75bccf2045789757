"""Two applications on one Redis database: each takes tasks from a queue of its own."""

from uuid import uuid4

import pytest
import redis as server
from celery import Celery, current_app
from django.conf import settings

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
