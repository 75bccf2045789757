"""The Celery tasks: a ring names a run, and a worker that is free takes it."""

import gc
import logging
import threading
from typing import Any
from uuid import UUID

from celery import shared_task
from celery.signals import worker_ready, worker_shutting_down
from django.conf import settings

from streams.chat.dispatch import TASK
from streams.observability import metrics
from streams.observability.request_id import adopt_request_id
from streams.observability.tracing import PARENT, task_span
from workers.run_attempt import generate as write
from workers.runtime import this_runtime

logger = logging.getLogger(__name__)


@shared_task(bind=True, name=TASK, ignore_result=True)
def generate(task: Any, run: str) -> None:
    """Write the reply of this run, if nobody else does."""
    adopt_request_id(task.request.get("asked_by"))
    try:
        id = UUID(run)
    except (ValueError, AttributeError, TypeError):
        logger.warning("a ring that names no run")
        return
    with task_span(id, task.request.get(PARENT)):
        write(id, this_runtime())


@worker_ready.connect
def _ready(**_: Any) -> None:
    this_runtime()
    metrics.serve()
    gc.collect()
    gc.freeze()  # what was imported stays: looking through it again costs tokens their time


@worker_shutting_down.connect
def _drain(**_: Any) -> None:
    """Replies may finish for a while; then they are handed over, at once."""
    process = this_runtime()
    process.draining = True
    end = threading.Timer(settings.WORKER_DRAIN, process.keeper.release_all)
    end.daemon = True  # without a reply there is nothing to wait for
    end.start()
