"""The Celery task that writes a run's reply, and what a worker does at its start and end."""

import gc
import logging
import threading
from functools import cache, partial
from typing import Any
from uuid import UUID

from celery import current_app, shared_task
from celery.signals import worker_ready, worker_shutting_down
from django.conf import settings
from django.db import close_old_connections

from streams.chat.dispatch import TASK
from streams.chat.model_names import Kind, queue_of
from streams.observability import metrics
from streams.observability.request_id import adopt_request_id
from streams.observability.tracing import PARENT, task_span
from workers.agent_replies import AgentReplies, load_agents
from workers.run_attempt import generate as write
from workers.runtime import Runtime

logger = logging.getLogger(__name__)


@cache
def this_runtime() -> Runtime:
    """The runtime of this process; the first call starts its threads.

    The queue that the process consumes decides whether it claims runs of models or of agents.
    """
    if queue_of(Kind.AGENT) in current_app.amqp.queues.consume_from:
        return Runtime(Kind.AGENT, AgentReplies(load_agents()))
    return Runtime()


@shared_task(bind=True, name=TASK, ignore_result=True)
def generate(task: Any, run: str) -> None:
    """Write the reply of the run with this id, unless another worker holds the run."""
    adopt_request_id(task.request.get("asked_by"))
    try:
        id = UUID(run)
    except (ValueError, AttributeError, TypeError):
        logger.warning("task ignored: it names no run")
        return
    try:
        with task_span(id, task.request.get(PARENT)):
            write(id, this_runtime())
    finally:
        close_old_connections()  # a pooled connection returns to its pool; SQLite's stays open


@worker_ready.connect
def _ready(**_: Any) -> None:
    this_runtime()
    metrics.serve()
    gc.collect()
    gc.freeze()  # collections skip the imported modules now; visiting them delays tokens


@worker_shutting_down.connect
def _drain(**_: Any) -> None:
    """Let replies finish for WORKER_DRAIN seconds, then release the runs that are left.

    A run that has called a tool which must not be called twice has AGENT_DRAIN seconds, then it
    ends.
    """
    process = this_runtime()
    process.draining = True
    for seconds, called in ((settings.WORKER_DRAIN, False), (settings.AGENT_DRAIN, True)):
        timer = threading.Timer(seconds, partial(process.keeper.release_all, called=called))
        timer.daemon = True  # once all replies have finished, the process ends without waiting
        timer.start()
