"""The old names of settings. A process refuses to start if its environment has one of them.

Otherwise the process would ignore the old name and run with the default of the new one.
"""

from collections.abc import Mapping

from django.core.exceptions import ImproperlyConfigured

RENAMED = {
    "ANSWERS_KEPT": "IDEMPOTENCY_TTL",
    "BRIDGE": "BRIDGE_BIND",
    "BRIDGES": "BRIDGE_URLS",
    "HISTORY_TOKENS": "PROMPT_MAX_TOKENS",
    "LOG_LIFE": "LOG_TTL",
    "LOG_MEMORY": "LOG_STATE_TTL",
    "MAX_MESSAGE": "MAX_MESSAGE_CHARS",
    "MAX_POSTS": "MAX_RUNS_PER_MINUTE",
    "MODEL_CONNECT": "MODEL_CONNECT_TIMEOUT",
    "MODEL_SILENCE": "MODEL_READ_TIMEOUT",
    "MODEL_TRIES": "MODEL_MAX_TRIES",
    "PUSHPIN_READERS": "PUSHPIN_MAX_CONNECTIONS",
    "RUN_LIFE": "RUN_TIMEOUT",
    "RUN_RING": "REDISPATCH_AFTER",
    "RUN_SWEEP": "SWEEP_INTERVAL",
    "RUN_WATCH": "LEASE_CHECK_INTERVAL",
    "STREAM_ACCESS": "ACCESS_CHECK_INTERVAL",
    "STREAM_LIFE": "STREAM_MAX_AGE",
    "STREAM_RING": "STREAM_BUFFER",
    "STREAM_STALL": "STREAM_WRITE_TIMEOUT",
    "WORKER_REPLIES": "WORKER_CONCURRENCY",
}


def refuse_old_names(environment: Mapping[str, str]) -> None:
    """Raise `ImproperlyConfigured` with a sentence for each old name that has a value."""
    sentences = [
        f"{old} is now {new}: rename it." for old, new in RENAMED.items() if environment.get(old)
    ]
    if sentences:
        raise ImproperlyConfigured("\n".join(sentences))
