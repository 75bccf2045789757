"""Everybody who follows in this process: how many, whether they still may, and their farewell."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from functools import cache, partial
from threading import Lock
from time import monotonic

from django.conf import settings

from streams.access.authorization import Caller
from streams.delivery.follower import Follower, revoked
from streams.delivery.hub import Hubs
from streams.models import Conversation
from streams.observability import metrics

logger = logging.getLogger(__name__)
SPREAD = (500, 5000)  # ms until readers come back after a shutdown, least and most


class StreamLimit(Exception):
    """The owner has as many open streams in this process as he may."""


class OpenStream:
    """A stream's bytes, and its place among its owner's until it is closed, begun or not."""

    def __init__(self, pieces: AsyncGenerator[bytes], leave: Callable[[], None]) -> None:
        self._pieces = pieces
        self._leave: Callable[[], None] | None = leave

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._pieces)

    async def aclose(self) -> None:
        await self._pieces.aclose()
        self.close()

    def close(self) -> None:
        leave, self._leave = self._leave, None
        if leave:
            leave()


class OpenStreams:
    """The open streams of one process."""

    def __init__(self) -> None:
        self._hubs = Hubs(keep=settings.STREAM_BUFFER)
        self._open: set[Follower] = set()
        self._of: Counter[str] = Counter()
        self._watching: asyncio.Task[None] | None = None
        self.draining = False
        self._counting = Lock()

    def admit(
        self, caller: Caller, conversation: Conversation, cursor: int | None, *, until_idle: bool
    ) -> OpenStream:
        """A new stream's bytes. From any thread. Raises `StreamLimit`."""
        with self._counting:
            if self._of[caller.owner] >= settings.MAX_STREAMS:
                raise StreamLimit
            self._of[caller.owner] += 1
        follower = Follower(
            self._hubs,
            caller=caller,
            conversation=conversation,
            cursor=cursor,
            until_idle=until_idle,
        )
        return OpenStream(self._stream(follower), partial(self._leave, caller.owner))

    def _leave(self, owner: str) -> None:
        with self._counting:
            self._of[owner] -= 1
            if not self._of[owner]:
                del self._of[owner]

    def drain(self) -> None:
        """Let every stream end by itself, now and from now on. In the streams' own loop."""
        self.draining = True
        for follower in self._open:
            follower.close(follower.reconnect_frame(*SPREAD))

    async def close(self) -> None:
        """Let go of Redis."""
        if self._watching:
            self._watching.cancel()
        await self._hubs.close()

    async def _stream(self, follower: Follower) -> AsyncGenerator[bytes]:
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch())
        self._open.add(follower)
        metrics.OPEN_STREAMS.inc()
        if self.draining:
            follower.close(follower.reconnect_frame(*SPREAD))
        try:
            async for piece in follower.frames():
                yield piece
        finally:
            self._open.discard(follower)
            metrics.OPEN_STREAMS.dec()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(settings.ACCESS_CHECK_INTERVAL)
            self._close_stalled()
            await self._close_revoked()

    def _close_stalled(self) -> None:
        """Give up readers that do not read: they resume later, without loss."""
        for follower in self._open:
            since = follower.write_started_at
            if since and monotonic() - since > settings.STREAM_WRITE_TIMEOUT and follower.task:
                logger.info("a stream of conversation %s is not read", follower.conversation)
                follower.task.cancel()

    async def _close_revoked(self) -> None:
        out = await revoked({(reader.caller, reader.conversation) for reader in self._open})
        for reader in self._open:
            if farewell := out.get((reader.caller, reader.conversation)):
                reader.close(farewell)


@cache
def open_streams() -> OpenStreams:
    """This process's: one hub, one event loop."""
    return OpenStreams()
