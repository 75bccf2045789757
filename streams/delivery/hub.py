"""Where a web process hears Redis: one subscription per followed channel, shared by its followers.

The newest frames of a channel stand in a ring, encoded once. A follower keeps nothing but its
cursor, and takes from the ring what comes after it; where the ring does not reach, it reads the
log. So a slow follower costs no memory, and every doubt has one remedy.
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
PING = 1.0  # seconds between signs of life on the subscription
TIMEOUT = 3.0  # seconds without any, and the connection counts as lost
KEPT_BYTES = 1024 * 1024  # of one channel's frames at most: a follower may be sent them at once
RECONNECT = (0.1, 0.6)  # seconds until the next try to connect, least and most


class ChannelBuffer:
    """What one channel says, as it arrives in this process."""

    def __init__(self, keep: int) -> None:
        self.connected = False  # subscribed: what is said from now on arrives
        self.subscription = 0  # counts subscriptions: after each, the log must be read once more
        self.version = 0  # counts what was new: whoever was busy meanwhile must not wait for it
        self.deleted = False
        self.last_final = 0
        self.listeners = 0
        self._keep = keep
        self._first = 0
        self._blocks: list[bytes] = []
        self._bytes = 0  # of these blocks
        self._waiting: list[asyncio.Future[None]] = []
        self._in_flight: dict[tuple[int, int | None], asyncio.Future[Any]] = {}

    @property
    def last(self) -> int:
        """The id of the newest frame; below the first where there is none."""
        return self._first + len(self._blocks) - 1

    def after(self, cursor: int) -> list[bytes] | None:
        """The frames after the cursor; None where only the log can tell what they are."""
        if not self._blocks or cursor >= self.last:
            return []
        if cursor < self._first - 1:
            return None
        return self._blocks[cursor + 1 - self._first :]

    def push(self, id: int, frame: bytes) -> None:
        if id != self.last + 1 or not self._blocks:
            self._drop(len(self._blocks))  # something was missed, or another life has begun
            self._first = id
        elif len(self._blocks) >= 2 * self._keep:
            self._drop(self._keep)
        self._blocks.append(frame)
        self._bytes += len(frame)
        while self._bytes > KEPT_BYTES and len(self._blocks) > 1:
            self._drop(len(self._blocks) // 2)
        self.wake()

    def _drop(self, oldest: int) -> None:
        self._bytes -= sum(map(len, self._blocks[:oldest]))
        del self._blocks[:oldest]
        self._first += oldest

    def subscribed(self) -> None:
        self.connected = True
        self.subscription += 1
        self._drop(len(self._blocks))
        self.wake()

    def disconnected(self) -> None:
        self.connected = False
        self.wake()

    def wake(self) -> None:
        self.version += 1
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def single_flight(self, cursor: int | None, ask: Callable[[], Awaitable[T]]) -> T:
        """What comes after the cursor: one asks, for all who want it at the same time.

        When Redis is back, everybody does. What was asked before something new arrived may not
        hold it, and whom that woke would sleep until the next.
        """
        question = (self.version, cursor)
        answer: asyncio.Future[T] | None = self._in_flight.get(question)
        if answer is None:
            answer = self._in_flight[question] = asyncio.ensure_future(ask())
            answer.add_done_callback(lambda _: self._in_flight.pop(question))
        return await asyncio.shield(answer)  # whoever asked may leave before it comes

    async def wait_for_change(self, seconds: float) -> bool:
        """Wait until something is new, at most so long. Tells whether something is."""
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
    """A hub for each Redis server."""

    def __init__(self, *, keep: int) -> None:
        self._hubs = [Hub(url, place, keep=keep) for place, url in enumerate(server_urls())]

    def listen(self, channel: str) -> AbstractContextManager[ChannelBuffer]:
        """The channel's feed, which stays subscribed for as long as somebody listens."""
        return self._hubs[server_of(channel)].listen(channel)

    async def close(self) -> None:
        for hub in self._hubs:
            await hub.close()


class Hub:
    """Every feed that comes from one server, and the one connection that they arrive on."""

    def __init__(self, url: str, place: int = 0, *, keep: int) -> None:
        # No time-out of redis-py's own: in Python 3.11 its `wait_for` can swallow a cancellation.
        self._pool = ConnectionPool.from_url(
            url,
            socket_connect_timeout=TIMEOUT,
            socket_timeout=None,
            protocol=2,
            decode_responses=True,
        )
        self._keep = keep
        self._server = place  # the server's
        self._buffers: dict[str, ChannelBuffer] = {}
        self._asked: set[str] = set()
        self._unanswered: Counter[str] = Counter()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @contextmanager
    def listen(self, channel: str) -> Iterator[ChannelBuffer]:
        """The channel's feed, which stays subscribed for as long as somebody listens."""
        if self._task is None:
            self._task = asyncio.create_task(self._stay_connected())
        feed = self._buffers.setdefault(channel, ChannelBuffer(self._keep))
        feed.listeners += 1
        self._changed.set()
        try:
            yield feed
        finally:
            feed.listeners -= 1
            if not feed.listeners:
                self._changed.set()  # kept until it is unsubscribed: somebody may come meanwhile

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
            except* Exception as lost:  # also what uvloop says of a connection that was lost
                first = lost.exceptions[0]
                logger.warning("subscription lost: %s: %s", type(first).__name__, first)
            finally:
                set_subscription(self._server, False)
                self._asked.clear()
                self._unanswered.clear()
                self._drop_unused()
                for feed in self._buffers.values():
                    feed.disconnected()
                await connection.disconnect(nowait=True)
            await asyncio.sleep(random.uniform(*RECONNECT))

    def _drop_unused(self) -> None:
        self._buffers = {name: feed for name, feed in self._buffers.items() if feed.listeners}

    async def _subscribe(self, connection: AbstractConnection) -> None:
        while True:
            self._changed.clear()
            self._drop_unused()
            wanted = set(self._buffers)
            if fresh := wanted - self._asked:
                self._unanswered.update(fresh)
                await connection.send_command("SUBSCRIBE", *fresh)
            if stale := self._asked - wanted:
                await connection.send_command("UNSUBSCRIBE", *stale)
            self._asked = wanted
            await self._changed.wait()

    async def _ping(self, connection: AbstractConnection) -> None:
        while True:
            await connection.send_command("PING")
            await asyncio.sleep(PING)

    async def _receive_messages(self, connection: AbstractConnection) -> None:
        while True:
            match await connection.read_response(timeout=TIMEOUT):
                case ["message", channel, said]:
                    if feed := self._buffers.get(channel):
                        self._receive(feed, said)
                case ["subscribe", channel, _]:
                    self._unanswered[channel] -= 1
                    # An earlier subscription's answer says nothing about the one asked for last.
                    if not self._unanswered[channel]:
                        del self._unanswered[channel]
                        if feed := self._buffers.get(channel):
                            feed.subscribed()

    def _receive(self, feed: ChannelBuffer, said: str) -> None:
        if not said:
            feed.deleted = True
            feed.wake()
            return
        id, type, data = said.split(" ", 2)
        if type in ENDINGS:
            feed.last_final = int(id)
        feed.push(int(id), encode_event(type, data, int(id)))
