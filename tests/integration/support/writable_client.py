"""A reader to whose connection events may be written at once, without its stream's task."""

import asyncio
from collections.abc import AsyncIterator, Callable
from time import monotonic

from streams.delivery.open_streams import OpenStreams
from tests.integration.support.published_run import VISITOR, PublishedRun
from tests.integration.support.stream_frames import frames

WITHIN = 10.0  # seconds, on a busy machine


class Client:
    """A reader to whose connection events can be written at once, unless it is full."""

    def __init__(
        self,
        crowd: OpenStreams,
        story: PublishedRun,
        *,
        until_idle: bool = False,
        heartbeat: float | None = None,
    ) -> None:
        cursor = story.first
        stream = crowd.admit(
            VISITOR, story.conversation, cursor, until_idle=until_idle, heartbeat=heartbeat
        )
        stream.write_with(self._write)
        self.full = False
        self.fails = False
        self.at_once = list[bytes]()  # what was written without the stream's task
        self.body = b""
        self.reading = asyncio.create_task(self._read(stream))

    async def _read(self, pieces: AsyncIterator[bytes]) -> None:
        async for piece in pieces:
            self.body += piece

    def _write(self, piece: bytes) -> bool:
        if self.fails:
            raise ValueError
        if self.full:
            return False
        self.at_once.append(piece)
        self.body += piece
        return True

    def ids(self) -> list[int | None]:
        return [frame.id for frame in frames(self.body) if frame.id]

    def types(self) -> list[str]:
        return [frame.type for frame in frames(self.body)]

    async def until(self, is_so: Callable[[], bool]) -> None:
        ends_at = monotonic() + WITHIN
        while not is_so():
            assert monotonic() < ends_at, self.types()
            await asyncio.sleep(0.01)


async def waiting(crowd: OpenStreams, clients: int = 1) -> None:
    """Wait until each stream has read the log to its end, and waits for events."""

    def waits() -> bool:
        (buffer,) = crowd._hubs._hubs[0]._buffers.values()
        return len(buffer._waiting) == clients and all(
            bool(follower._events and follower._events.caught_up) for follower in crowd._open
        )

    ends_at = monotonic() + WITHIN
    while not (len(crowd._open) == clients and waits()):
        assert monotonic() < ends_at
        await asyncio.sleep(0.01)
