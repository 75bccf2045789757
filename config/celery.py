"""The Celery app: a doorbell that carries run ids, and nothing else."""

import os
from typing import Any

from celery import Celery
from celery.signals import setup_logging, worker_init, worker_ready
from kombu.transport import TRANSPORT_ALIASES

from config import telemetry

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("unspool")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.imports = ("workers.tasks",)
TRANSPORT_ALIASES |= dict.fromkeys(("redis", "rediss"), "workers.celery_transport:Transport")


@setup_logging.connect
def _leave_logging(**_: Any) -> None:
    """Django's settings say what is logged, and how: with a receiver here, Celery does not."""


@worker_init.connect
def _trace(**_: Any) -> None:
    telemetry.begin("worker")


@worker_ready.connect
def _say(**_: Any) -> None:
    # Celery says so itself, but not where LOG_LEVEL is above INFO.
    print("The worker takes runs", flush=True)
