"""kombu's Redis transport, but it logs and drops queue entries that are not Celery messages.

An unreadable entry ends a worker with kombu's own transport. No run is lost with a dropped entry,
because the run's row is the queue of record.
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
    """kombu's Redis channel, but it survives an unreadable queue entry."""

    Message = Message

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]  # the stubs lack it
        except UNREADABLE as error:
            logger.warning("unreadable queue entry dropped: %s", type(error).__name__)
            return None  # BRPOP has already removed the entry


class Transport(redis.Transport):
    """kombu's Redis transport with that channel, for `redis:` and `rediss:` URLs."""

    Channel = Channel
