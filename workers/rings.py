"""Taking rings off the broker: one that nobody of ours can have sent is put aside.

Celery's consumer ends when it meets a task whose parts are not what it expects, and gives it
back, so that each of its successors meets it again. Here it is said, rejected and forgotten; the
run's row is the queue of record, and nothing is lost with it.
"""

import logging
from collections.abc import Callable
from typing import Any

from celery.worker import consumer

from workers.broker import UNREADABLE

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
