"""Taking rings off the broker: at once where there is room, and none that nobody of ours sent.

Celery's consumer ends when it meets a task whose parts are not what it expects, and gives it
back, so that each of its successors meets it again. Here it is said, rejected and forgotten; the
run's row is the queue of record, and nothing is lost with it.
"""

import logging
from collections.abc import Callable
from typing import Any

from celery.concurrency import thread
from celery.worker import consumer

from workers.celery_transport import UNREADABLE

logger = logging.getLogger(__name__)


class Consumer(consumer.Consumer):
    """Celery's, which a forged message cannot end the worker with."""

    def create_task_handler(self, *given: Any, **wishes: Any) -> Callable[[Any], Any]:
        take = super().create_task_handler(*given, **wishes)

        def careful(message: Any) -> Any:
            try:
                return take(message)
            except UNREADABLE as error:
                logger.warning("a ring is misshapen: %s", type(error).__name__)
                return message.reject_log_error(logger, self.connection_errors)  # type: ignore[attr-defined]

        return careful


class Pool(thread.TaskPool):
    """Celery's threads; one that is free says so. By itself the consumer looks once a second."""

    _loop: Any  # with Redis and RabbitMQ there is one

    def register_with_event_loop(self, loop: Any) -> None:
        self._loop = loop

    def on_apply(self, *given: Any, **wishes: Any) -> Any:
        applied = super().on_apply(*given, **wishes)
        applied.f.add_done_callback(lambda _: self._loop.call_soon(_look))
        return applied


def _look() -> None:
    """To be called is all it takes: the loop then asks who has room."""
