"""When to repeat a request that failed before the first piece of its reply, and how soon."""

import random

from django.conf import settings

from workers.generators.errors import ModelError

FIRST_PAUSE = 1.0  # seconds before the second try; each later pause is twice as long
LONGEST_PAUSE = 20.0  # seconds; a provider that asks for more gets no second try


def pause_before_retry(error: ModelError, tried: int) -> float | None:
    """The seconds to wait after `tried` requests. None: do not repeat the request."""
    jitter = random.uniform(0.5, 1)  # otherwise all replies would retry in the same second
    pause = (error.retry_after or 0) + FIRST_PAUSE * 2 ** (tried - 1) * jitter
    allowed = error.transient and tried < settings.MODEL_MAX_TRIES and pause <= LONGEST_PAUSE
    return pause if allowed else None
