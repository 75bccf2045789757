"""Reading the broker's queue in Redis: what is no message at all is dropped, and said.

kombu's own reader ends the worker when it cannot read an envelope, and each successor at the
next one. The run's row is the queue of record: nothing is lost with what anybody else put there.
"""

import logging
from typing import Any

from kombu.transport import redis, virtual

logger = logging.getLogger(__name__)
UNREADABLE = (
    *(ValueError, TypeError, LookupError, AttributeError),
    *(ArithmeticError, RecursionError),  # a number without bounds, brackets without end
)


class Message(virtual.Message):
    """An envelope that is read."""

    def __init__(self, payload: Any, channel: Any = None, **also: Any) -> None:
        if not isinstance(payload["properties"]["delivery_tag"], str):
            raise TypeError  # Redis cannot keep it by that, which looks as if Redis were away
        super().__init__(payload, channel, **also)


class Channel(redis.Channel):
    Message = Message

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]  # the stubs lack it
        except UNREADABLE as error:
            logger.warning("what was in the queue is no ring: %s", type(error).__name__)
            return None  # it was taken out of the queue to be read


class Transport(redis.Transport):
    """kombu's, for URLs that begin with redis: or rediss:."""

    Channel = Channel
