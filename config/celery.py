"""The Celery app: its tasks carry run ids to the workers, and nothing else."""

import gc
import os
import sys
from typing import Any

from celery import Celery
from celery.signals import import_modules, setup_logging, worker_init, worker_ready
from kombu.transport import TRANSPORT_ALIASES

from config import telemetry
from streams.chat.model_names import Kind, queue_of

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("unspool")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.imports = ("workers.tasks",)
# Tasks release their connections (workers/tasks.py). By default, Celery would close SQLite's
# connection after each task.
app.conf.CELERY_DB_REUSE_MAX = sys.maxsize
TRANSPORT_ALIASES |= dict.fromkeys(("redis", "rediss"), "workers.celery_transport:Transport")


@setup_logging.connect
def _keep_logging(**_: Any) -> None:
    """Keep the logging of Django's settings. If the signal has a receiver, Celery sets up none."""


def writes_agents() -> bool:
    """Whether this is the agents process, which consumes the queue of the agents' runs."""
    return queue_of(Kind.AGENT) in app.amqp.queues.consume_from


@import_modules.connect
def _pause_collector(**_: Any) -> None:
    """Disable the garbage collector. It would free nothing, and take a fifth of the start."""
    gc.disable()


@worker_init.connect
def _resume_collector(**_: Any) -> None:
    gc.freeze()
    gc.enable()


@worker_init.connect
def _begin_tracing(**_: Any) -> None:
    telemetry.begin("agents" if writes_agents() else "worker")


@worker_ready.connect
def _print_ready(**_: Any) -> None:
    # `make run` waits for this line. Celery's own line is hidden if LOG_LEVEL is higher than INFO.
    process = "agents process" if writes_agents() else "worker"
    print(f"The {process} takes runs", flush=True)
