"""Celery's consumer and thread pool, made to reject malformed tasks and use free threads at once.

A malformed task ends Celery's own consumer, and the broker then delivers the task to the next
consumer. This consumer logs and rejects the task instead. No run is lost, because the run's row is
the queue of record.
"""

import logging
from collections.abc import Callable
from typing import Any

from celery.concurrency import thread
from celery.worker import consumer

from workers.celery_transport import UNREADABLE

logger = logging.getLogger(__name__)


class Consumer(consumer.Consumer):
    """Celery's consumer, changed so that a forged or malformed message cannot end the worker."""

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        handle = super().create_task_handler(*args, **kwargs)

        def handle_or_reject(message: Any) -> Any:
            try:
                return handle(message)
            except UNREADABLE as error:
                logger.warning("malformed task rejected: %s", type(error).__name__)
                return message.reject_log_error(logger, self.connection_errors)  # type: ignore[attr-defined]

        return handle_or_reject


class Pool(thread.TaskPool):
    """Celery's thread pool, changed to wake the event loop whenever a thread becomes free.

    Otherwise the consumer would check for free threads only once a second.
    """

    _loop: Any  # always set, because the transports of Redis and RabbitMQ use the event loop

    def register_with_event_loop(self, loop: Any) -> None:
        self._loop = loop

    def on_apply(self, *args: Any, **kwargs: Any) -> Any:
        applied = super().on_apply(*args, **kwargs)
        applied.f.add_done_callback(lambda _: self._loop.call_soon(_wake_up))
        return applied


def _wake_up() -> None:
    """Do nothing. Any callback makes the loop run once, and then it checks for free threads."""
