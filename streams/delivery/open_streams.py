"""The open streams of one process: their limit per owner, their access checks, their end.

The API admits a stream here. A watcher ends streams whose readers lost access or stopped reading.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from functools import cache, partial
from threading import Lock
from time import monotonic

from django.conf import settings

from streams.access.authorization import Caller, Reader
from streams.delivery.follower import Follower
from streams.delivery.hub import Hubs
from streams.delivery.stream_end import StreamEnd, revoked
from streams.http.event_stream import Write
from streams.models import Conversation
from streams.observability import metrics

logger = logging.getLogger(__name__)


class StreamLimit(Exception):
    """The owner has `MAX_STREAMS` open streams in this process. Refuse the request with 429."""


class OpenStream:
    """A stream's bytes. It counts toward its owner's limit until closed, even if never iterated."""

    __slots__ = ("_follower", "_pieces", "_release")

    def __init__(
        self, follower: Follower, pieces: AsyncGenerator[bytes], release: Callable[[], None]
    ) -> None:
        self._follower = follower
        self._pieces = pieces
        self._release: Callable[[], None] | None = release

    @property
    def end(self) -> StreamEnd | None:
        """Why the stream has ended; None while it goes on."""
        return self._follower.end

    def write_with(self, write: Write) -> None:
        self._follower.write_with(write)

    def note_progress(self) -> None:
        self._follower.note_progress()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._pieces)

    async def aclose(self) -> None:
        await self._pieces.aclose()
        self.close()

    def close(self) -> None:
        release, self._release = self._release, None
        if release:
            release()


class OpenStreams:
    """The open streams of one process."""

    def __init__(self) -> None:
        self._hubs = Hubs(keep=settings.STREAM_BUFFER)
        self._open: set[Follower] = set()
        self._readers: Counter[Reader] = Counter()  # number of open streams of each reader
        self._counts: Counter[str] = Counter()
        self._watcher: asyncio.Task[None] | None = None
        self.draining = False
        self._lock = Lock()

    def check_limit(self, owner: str) -> None:
        """Raise `StreamLimit` if the owner may open no further stream now. Thread-safe."""
        with self._lock:
            if self._counts[owner] >= settings.MAX_STREAMS:
                raise StreamLimit

    def admit(
        self,
        caller: Caller,
        conversation: Conversation,
        cursor: int | None,
        *,
        until_idle: bool,
        heartbeat: float | None = None,
    ) -> OpenStream:
        """A new stream of bytes, which the caller must close. Thread-safe. Raises `StreamLimit`.

        `heartbeat`: seconds between two heartbeats, even while events arrive. Without it, a
        heartbeat is sent after STREAM_HEARTBEAT seconds without an event.
        """
        release = self.reserve(caller.owner)
        follower = Follower(
            self._hubs,
            caller=caller,
            conversation=conversation,
            cursor=cursor,
            until_idle=until_idle,
            heartbeat=heartbeat or settings.STREAM_HEARTBEAT,
            is_regular=heartbeat is not None,
        )
        return OpenStream(follower, self._stream(follower), release)

    def reserve(self, owner: str) -> Callable[[], None]:
        """Count one more stream of this owner. Returns the function that ends the count.

        Thread-safe. Raises `StreamLimit`.
        """
        with self._lock:
            if self._counts[owner] >= settings.MAX_STREAMS:
                raise StreamLimit
            self._counts[owner] += 1
        return partial(self._release, owner)

    def _release(self, owner: str) -> None:
        with self._lock:
            self._counts[owner] -= 1
            if not self._counts[owner]:
                del self._counts[owner]

    def drain(self) -> None:
        """Ask all readers to reconnect, also those that come later.

        Call it in the event loop of the streams.
        """
        self.draining = True
        for follower in self._open:
            follower.close(StreamEnd.DRAINING)

    async def close(self) -> None:
        """Stop the watcher and close the Redis connections."""
        if self._watcher:
            self._watcher.cancel()
        await self._hubs.close()

    async def _stream(self, follower: Follower) -> AsyncGenerator[bytes]:
        if self._watcher is None:
            self._watcher = asyncio.create_task(self._watch())
        self._open.add(follower)
        self._readers[follower.reader] += 1
        metrics.OPEN_STREAMS.inc()
        if self.draining:
            follower.close(StreamEnd.DRAINING)
        try:
            async for piece in follower.frames():
                yield piece
        finally:
            self._open.discard(follower)
            self._readers[follower.reader] -= 1
            if not self._readers[follower.reader]:
                del self._readers[follower.reader]
            metrics.OPEN_STREAMS.dec()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(settings.ACCESS_CHECK_INTERVAL)
            self._close_stalled()
            await self._close_revoked()

    def _close_stalled(self) -> None:
        """Cancel streams whose readers do not read. They can resume later without loss."""
        for follower in self._open:
            since = follower.write_started_at
            if since and monotonic() - since > settings.STREAM_WRITE_TIMEOUT and follower.task:
                logger.info("a stream of conversation %s is not read", follower.reader[1])
                follower.close(StreamEnd.STALLED)
                follower.task.cancel()

    async def _close_revoked(self) -> None:
        ends = await revoked(set(self._readers))
        for follower in self._open if ends else ():
            if end := ends.get(follower.reader):
                follower.close(end)


@cache
def open_streams() -> OpenStreams:
    """The one instance of this process. All its streams run in one event loop."""
    return OpenStreams()
