"""The lengths of the broker's task queues, by passive declarations.

Redis and RabbitMQ both answer this one call.
"""

import logging
from typing import Any

from amqp.exceptions import ChannelError
from celery import current_app

from streams.chat.dispatch import check_broker
from streams.chat.model_names import Kind, queue_of

logger = logging.getLogger(__name__)
# AMQP 0-9-1 §1.8.2. An empty queue may give this code, because Redis stores no empty list, and
# RabbitMQ creates a queue at its first use.
NO_SUCH_QUEUE = 404
WAIT = 1  # seconds, at most, to connect to the broker


def queue_length(kind: Kind) -> int | None:
    """Return how many tasks of this kind no process has taken; None if the broker is away."""
    try:
        check_broker()
        return _ask(queue_of(kind))
    except Exception as error:  # each broker raises its own exceptions
        logger.warning("queue length unknown: %s", type(error).__name__)
        return None


def _ask(queue: str) -> int:
    # Not a connection of the pool, which sends tasks, because kombu closes a connection after a
    # failed call. A passive declaration creates no queue.
    with current_app.connection_for_write() as broker:
        broker.ensure_connection(max_retries=1, interval_start=0, timeout=WAIT)
        channel: Any = broker.default_channel  # its type depends on the broker
        try:
            declared = channel.queue_declare(queue=queue, passive=True)
        except ChannelError as error:
            # `error.code` exists only in subclasses, and kombu's Redis transport raises the base
            # class.
            if int(error.reply_code or 0) == NO_SUCH_QUEUE:
                return 0
            raise
        return int(declared.message_count)
