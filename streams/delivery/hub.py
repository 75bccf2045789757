"""One Redis subscription per followed channel, shared by all followers of a process.

A `ChannelBuffer` keeps the newest frames of a channel, encoded once. A follower keeps only its
cursor, and takes the frames after it from the buffer. Where the buffer does not reach back to the
cursor, the follower reads the log. So a slow follower costs no memory.
"""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection

from streams.log.sharding import server_of, server_urls
from streams.observability.metrics import set_subscription
from streams.protocol.events import ENDINGS
from streams.protocol.sse import encode_event

logger = logging.getLogger(__name__)
T = TypeVar("T")
PING = 1.0  # seconds between two PINGs on the connection
TIMEOUT = 3.0  # seconds without any reply after which the connection counts as lost
KEPT_BYTES = 1024 * 1024  # limit for the frames of one channel: a follower may get them at once
RECONNECT = (0.1, 0.6)  # seconds until the next try to connect, minimum and maximum


class ChannelBuffer:
    """The newest frames of one channel, as they arrive in this process."""

    def __init__(self, keep: int) -> None:
        self.connected = False  # subscribed: events published from now on arrive
        self.subscription = 0  # counts subscriptions: after each, followers must read the log again
        self.version = 0  # counts changes: a follower that was busy during one must not wait
        self.deleted = False
        self.last_final = 0
        self.listeners = 0
        self._keep = keep
        self._first = 0
        self._blocks: list[bytes] = []
        self._bytes = 0  # total size of these blocks
        self._waiting: list[asyncio.Future[None]] = []
        self._in_flight: dict[tuple[int, int | None], asyncio.Future[Any]] = {}

    @property
    def last(self) -> int:
        """The id of the newest frame; `_first - 1` if there is none."""
        return self._first + len(self._blocks) - 1

    def after(self, cursor: int) -> list[bytes] | None:
        """The frames after the cursor; None if the buffer lacks some and the log must be read."""
        if not self._blocks or cursor >= self.last:
            return []
        if cursor < self._first - 1:
            return None
        return self._blocks[cursor + 1 - self._first :]

    def push(self, id: int, frame: bytes) -> None:
        """Add the frame of event `id` and wake the followers."""
        if id != self.last + 1 or not self._blocks:
            self._drop(len(self._blocks))  # events were missed, or a new epoch has begun
            self._first = id
        elif len(self._blocks) >= 2 * self._keep:
            self._drop(self._keep)
        self._blocks.append(frame)
        self._bytes += len(frame)
        while self._bytes > KEPT_BYTES and len(self._blocks) > 1:
            self._drop(len(self._blocks) // 2)
        self.wake()

    def _drop(self, count: int) -> None:
        self._bytes -= sum(map(len, self._blocks[:count]))
        del self._blocks[:count]
        self._first += count

    def subscribed(self) -> None:
        """Start anew: events published before this subscription may be missing."""
        self.connected = True
        self.subscription += 1
        self._drop(len(self._blocks))
        self.wake()

    def disconnected(self) -> None:
        self.connected = False
        self.wake()

    def wake(self) -> None:
        """Wake every follower that waits for a change."""
        self.version += 1
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def single_flight(self, cursor: int | None, read: Callable[[], Awaitable[T]]) -> T:
        """The result of `read`, shared by all followers at this cursor that read at the same time.

        When Redis is back, all followers read at once. A read is shared within one `version` only.
        One that began before a new event may lack it. A follower that this event woke would then
        wait for the next event.
        """
        key = (self.version, cursor)
        future: asyncio.Future[T] | None = self._in_flight.get(key)
        if future is None:
            future = self._in_flight[key] = asyncio.ensure_future(read())
            future.add_done_callback(lambda _: self._in_flight.pop(key))
        return await asyncio.shield(future)  # the follower that began it may be cancelled first

    async def wait_for_change(self, seconds: float) -> bool:
        """Wait for a change, for at most `seconds`. Returns whether there was one."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            async with asyncio.timeout(seconds):
                await future
        except TimeoutError:
            self._waiting = [other for other in self._waiting if other is not future]
            return False
        return True


class Hubs:
    """One hub for each Redis server."""

    def __init__(self, *, keep: int) -> None:
        self._hubs = [Hub(url, index, keep=keep) for index, url in enumerate(server_urls())]

    def listen(self, channel: str) -> AbstractContextManager[ChannelBuffer]:
        """The channel's buffer. It stays subscribed while a context is open."""
        return self._hubs[server_of(channel)].listen(channel)

    async def close(self) -> None:
        for hub in self._hubs:
            await hub.close()


class Hub:
    """The buffers of one Redis server, and the one connection that feeds them."""

    def __init__(self, url: str, index: int = 0, *, keep: int) -> None:
        # redis-py sets no time-out: in Python 3.11 its `wait_for` can swallow a cancellation.
        self._pool = ConnectionPool.from_url(
            url,
            socket_connect_timeout=TIMEOUT,
            socket_timeout=None,
            protocol=2,
            decode_responses=True,
        )
        self._keep = keep
        self._server = index  # of the server, in `server_urls()`
        self._buffers: dict[str, ChannelBuffer] = {}
        self._asked: set[str] = set()
        self._unanswered: Counter[str] = Counter()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @contextmanager
    def listen(self, channel: str) -> Iterator[ChannelBuffer]:
        """The channel's buffer. It stays subscribed while a context is open."""
        if self._task is None:
            self._task = asyncio.create_task(self._stay_connected())
        buffer = self._buffers.setdefault(channel, ChannelBuffer(self._keep))
        buffer.listeners += 1
        self._changed.set()
        try:
            yield buffer
        finally:
            buffer.listeners -= 1
            if not buffer.listeners:
                self._changed.set()  # kept until unsubscribed: a new listener may come before

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

    async def _receive_messages(self, connection: AbstractConnection) -> None:
        while True:
            match await connection.read_response(timeout=TIMEOUT):
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
            buffer.deleted = True
            buffer.wake()
            return
        id, type, data = payload.split(" ", 2)
        if type in ENDINGS:
            buffer.last_final = int(id)
        buffer.push(int(id), encode_event(type, data, int(id)))
