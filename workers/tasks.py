"""The Celery task that writes a run's reply, and what a worker does at its start and end."""

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
    """Write the reply of the run with this id, unless another worker holds the run."""
    adopt_request_id(task.request.get("asked_by"))
    try:
        id = UUID(run)
    except (ValueError, AttributeError, TypeError):
        logger.warning("task ignored: it names no run")
        return
    with task_span(id, task.request.get(PARENT)):
        write(id, this_runtime())


@worker_ready.connect
def _ready(**_: Any) -> None:
    this_runtime()
    metrics.serve()
    gc.collect()
    gc.freeze()  # imported modules stay alive, and collections that visit them delay tokens


@worker_shutting_down.connect
def _drain(**_: Any) -> None:
    """Let replies finish for WORKER_DRAIN seconds, then release the runs that are left."""
    process = this_runtime()
    process.draining = True
    timer = threading.Timer(settings.WORKER_DRAIN, process.keeper.release_all)
    timer.daemon = True  # once all replies have finished, the process need not wait for it
    timer.start()
