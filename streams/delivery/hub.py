"""One Redis subscription per followed channel, shared by all followers of a process.

One connection per Redis server receives the published events, and fills a `ChannelBuffer` for each
channel.
"""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from time import monotonic

from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection

from streams.delivery.channel_buffer import ChannelBuffer
from streams.delivery.deadline_timer import NEVER, DeadlineTimer
from streams.log.sharding import server_of, server_urls
from streams.observability.metrics import set_subscription
from streams.protocol.events import ENDINGS
from streams.protocol.sse import encode_event

logger = logging.getLogger(__name__)
PING = 1.0  # seconds between two PINGs on the connection
TIMEOUT = 3.0  # seconds without any reply after which the connection counts as lost
RECONNECT = (0.1, 0.6)  # seconds until the next try to connect, minimum and maximum


class Hubs:
    """One hub for each Redis server, and one timer for all followers of this process."""

    def __init__(self, *, keep: int) -> None:
        self._timer = DeadlineTimer(self._tick)
        self._hubs = [
            Hub(url, index, keep=keep, wake_at=self._timer.wake_at)
            for index, url in enumerate(server_urls())
        ]

    def listen(self, channel: str) -> AbstractContextManager[ChannelBuffer]:
        """The channel's buffer. It stays subscribed while a context is open."""
        return self._hubs[server_of(channel)].listen(channel)

    async def close(self) -> None:
        self._timer.close()
        for hub in self._hubs:
            await hub.close()

    def _tick(self, now: float) -> float:
        return min(hub.tick(now) for hub in self._hubs)


class Hub:
    """The buffers of one Redis server, and the one connection that feeds them."""

    def __init__(
        self, url: str, index: int, *, keep: int, wake_at: Callable[[float], None]
    ) -> None:
        # No time-out of redis-py, because its `wait_for` can swallow a cancellation in Python 3.11.
        self._pool = ConnectionPool.from_url(
            url,
            socket_connect_timeout=TIMEOUT,
            socket_timeout=None,
            protocol=2,
            decode_responses=True,
        )
        self._keep = keep
        self._wake_at = wake_at
        self._server = index  # in `server_urls()`
        self._buffers: dict[str, ChannelBuffer] = {}
        self._asked: set[str] = set()
        self._unanswered: Counter[str] = Counter()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._received_at = 0.0  # when the last message came on this connection

    @contextmanager
    def listen(self, channel: str) -> Iterator[ChannelBuffer]:
        """The channel's buffer. It stays subscribed while a context is open."""
        if self._task is None:
            self._task = asyncio.create_task(self._stay_connected())
        buffer = self._buffers.setdefault(channel, ChannelBuffer(self._keep, self._wake_at))
        buffer.listeners += 1
        self._changed.set()
        try:
            yield buffer
        finally:
            buffer.listeners -= 1
            if not buffer.listeners:
                self._changed.set()  # `_subscribe` drops the buffer, if no new listener has come

    def tick(self, now: float) -> float:
        """Call `tick` of all buffers. Returns the next deadline."""
        return min((buffer.tick(now) for buffer in self._buffers.values()), default=NEVER)

    async def close(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._pool.aclose()

    async def _stay_connected(self) -> None:
        while True:
            connection = self._pool.make_connection()
            try:
                await connection.connect()
                self._received_at = monotonic()
                set_subscription(self._server, True)
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._receive_messages(connection))
                    tasks.create_task(self._subscribe(connection))
                    tasks.create_task(self._ping(connection))
            except* Exception as errors:  # uvloop has its own errors for a lost connection
                error = errors.exceptions[0]
                logger.warning("subscription lost: %s: %s", type(error).__name__, error)
            finally:
                set_subscription(self._server, False)
                self._asked.clear()
                self._unanswered.clear()
                self._drop_unused()
                for buffer in self._buffers.values():
                    buffer.disconnected()
                await connection.disconnect(nowait=True)
            await asyncio.sleep(random.uniform(*RECONNECT))

    def _drop_unused(self) -> None:
        self._buffers = {name: buffer for name, buffer in self._buffers.items() if buffer.listeners}

    async def _subscribe(self, connection: AbstractConnection) -> None:
        while True:
            self._changed.clear()
            self._drop_unused()
            wanted = set(self._buffers)
            if added := wanted - self._asked:
                self._unanswered.update(added)
                await connection.send_command("SUBSCRIBE", *added)
            if removed := self._asked - wanted:
                await connection.send_command("UNSUBSCRIBE", *removed)
            self._asked = wanted
            await self._changed.wait()

    async def _ping(self, connection: AbstractConnection) -> None:
        while True:
            await connection.send_command("PING")
            await asyncio.sleep(PING)
            if monotonic() - self._received_at > TIMEOUT:
                raise TimeoutError("Redis does not answer")

    async def _receive_messages(self, connection: AbstractConnection) -> None:
        while True:
            message = await connection.read_response()  # a time-out would cost a timer each time
            self._received_at = monotonic()
            match message:
                case ["message", channel, payload]:
                    if buffer := self._buffers.get(channel):
                        self._receive(buffer, payload)
                case ["subscribe", channel, _]:
                    self._unanswered[channel] -= 1
                    # Only the reply to the last SUBSCRIBE counts, not one to an earlier SUBSCRIBE.
                    if not self._unanswered[channel]:
                        del self._unanswered[channel]
                        if buffer := self._buffers.get(channel):
                            buffer.subscribed()

    def _receive(self, buffer: ChannelBuffer, payload: str) -> None:
        if not payload:
            buffer.delete()
            return
        id, type, data = payload.split(" ", 2)
        if type in ENDINGS:
            buffer.last_final = int(id)
        buffer.push(int(id), encode_event(type, data, int(id)))
