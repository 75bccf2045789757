"""kombu's Redis transport, without acknowledgements; unreadable queue entries are dropped.

An unreadable entry ends a worker with kombu's own transport. kombu keeps each task that a worker
has taken in Redis until it is acknowledged, which takes two trips. A worker acknowledges a task as
soon as it has it, so this would only bring back a task whose worker died within a millisecond, an
hour later. In both cases no run is lost, because the run's row is the queue of record.
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
            # Otherwise Redis refuses the tag, which kombu takes for a lost connection.
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
        """The client of the channel's connections. Making one takes longer than its command."""
        if asynchronous:
            return super()._create_client(asynchronous)  # type: ignore[misc]  # the stubs lack it
        if self._client_kept is None or self._client_kept.connection_pool is not self.pool:
            self._client_kept = super()._create_client()  # type: ignore[misc]
        return self._client_kept

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        """Do nothing: a task that was taken is no longer in Redis."""

    def basic_reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Do nothing, as `basic_ack`; no task is put back."""

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]  # the stubs lack it
        except UNREADABLE as error:
            logger.warning("unreadable queue entry dropped: %s", type(error).__name__)
            return None  # BRPOP has already removed the entry


class Transport(redis.Transport):
    """kombu's Redis transport with that channel, for `redis:` and `rediss:` URLs."""

    Channel = Channel
