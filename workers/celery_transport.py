"""kombu's Redis transport, without acknowledgements; unreadable queue entries are dropped.

With kombu's own transport, an unreadable entry ends the worker.

kombu's own transport also keeps each task in Redis until the worker acknowledges it, which takes
two round trips. But a worker acknowledges each task at once. So this would save a task only if the
worker died within a millisecond, and the task would come back an hour later.

In both cases no run is lost, because the run's row is the queue of record.
"""

import logging
from typing import Any

from kombu.transport import redis, virtual

logger = logging.getLogger(__name__)
UNREADABLE = (
    *(ValueError, TypeError, LookupError, AttributeError),
    *(ArithmeticError, RecursionError),  # a number too large, JSON nested too deeply
)


class Message(virtual.Message):
    """A broker message. Raises one of UNREADABLE if its envelope is malformed."""

    def __init__(self, payload: Any, channel: Any = None, **kwargs: Any) -> None:
        if not isinstance(payload["properties"]["delivery_tag"], str):
            # Otherwise Redis refuses the tag, and kombu mistakes this error for a lost connection.
            raise TypeError
        super().__init__(payload, channel, **kwargs)


class Channel(redis.Channel):
    """kombu's Redis channel without acknowledgements, which survives an unreadable queue entry."""

    Message = Message
    _client_kept: Any = None

    def basic_consume(self, queue: str, no_ack: bool, *args: Any, **options: Any) -> str:
        tag: str = super().basic_consume(queue, True, *args, **options)
        return tag

    def _create_client(self, asynchronous: bool = False) -> Any:
        """Return the channel's client. It is cached: creating one takes longer than its command."""
        if asynchronous:
            return super()._create_client(asynchronous)  # type: ignore[misc]  # the stubs lack it
        if self._client_kept is None or self._client_kept.connection_pool is not self.pool:
            self._client_kept = super()._create_client()  # type: ignore[misc]
        return self._client_kept

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        """Do nothing, because Redis no longer holds a task that was taken."""

    def basic_reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Do nothing, like `basic_ack`. No task is put back."""

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]  # the stubs lack it
        except UNREADABLE as error:
            logger.warning("unreadable queue entry dropped: %s", type(error).__name__)
            return None  # BRPOP has already removed the entry


class Transport(redis.Transport):
    """kombu's Redis transport with this module's channel, for `redis:` and `rediss:` URLs."""

    Channel = Channel
