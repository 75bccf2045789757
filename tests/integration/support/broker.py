"""Reads the broker's queue, and changes the time since its tasks were sent."""

import json
from base64 import b64decode
from datetime import timedelta
from uuid import UUID

import redis
from django.conf import settings
from django.db.models import F

from streams.models import Run

QUEUE = settings.CELERY_TASK_DEFAULT_QUEUE
AGENT_QUEUE = f"{QUEUE}-agents"


def let_dispatch_expire() -> None:
    """Set dispatch times so far back that every run may be dispatched again."""
    Run.objects.update(dispatched_at=F("dispatched_at") - timedelta(seconds=60))


def queued(valkey: redis.Redis, queue: str = QUEUE) -> list[UUID]:
    """The runs of the tasks in the queue, in the order in which a worker takes them."""
    tasks = [json.loads(task) for task in valkey.lrange(queue, 0, -1)]
    return [UUID(json.loads(b64decode(task["body"]))[0][0]) for task in reversed(tasks)]
