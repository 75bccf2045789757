"""How many tasks wait in the broker's queue. Redis and RabbitMQ both tell it by one call."""

import logging
from typing import Any

from amqp.exceptions import ChannelError
from celery import current_app

from streams.log.event_log import the_log
from streams.log.sharding import broker_server, server_urls

logger = logging.getLogger(__name__)
NO_SUCH_QUEUE = 404  # AMQP 0-9-1 §1.8.2: Redis has no empty list, RabbitMQ no queue before its use
WAIT = 1  # seconds for a connection


def queue_length() -> int | None:
    """The tasks of the default queue that no worker has taken; None where the broker cannot say."""
    try:
        server = broker_server()
        if server is not None and len(server_urls()) > 1:
            the_log().ask_server(
                server, "PING"
            )  # where it is away, kombu would take seconds to say so
        return _ask(current_app.conf.task_default_queue)
    except Exception as error:  # every broker has its own
        logger.warning("the queue's length is unknown: %s", type(error).__name__)
        return None


def _ask(queue: str) -> int:
    # A connection of its own: kombu closes one on which something failed, and those of the pool
    # send tasks. A passive declaration makes nothing.
    with current_app.connection_for_write() as broker:
        broker.ensure_connection(max_retries=1, interval_start=0, timeout=WAIT)
        channel: Any = broker.default_channel  # each broker has its own
        try:
            declared = channel.queue_declare(queue=queue, passive=True)
        except ChannelError as error:
            # `code` is the class's number, and kombu's Redis raises the base class, which has none.
            if int(error.reply_code or 0) == NO_SUCH_QUEUE:
                return 0
            raise
        return int(declared.message_count)
