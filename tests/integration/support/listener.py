"""A reader of a conversation that a test moves step by step.

The `Follower` is the service's own, on a real log and a real database. The test controls only
which published messages arrive, and the clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast
from uuid import UUID

import orjson
import pytest
from django.conf import settings

from streams.access.authorization import Caller
from streams.delivery import channel_reader, follower
from streams.delivery.channel_buffer import ChannelBuffer, Deliver, Pass
from streams.delivery.follower import Follower
from streams.delivery.hub import Hub, Hubs
from streams.delivery.stream_end import StreamEnd, revoked
from streams.models import Conversation
from streams.protocol.events import Event, Snapshot
from streams.protocol.sse import decode
from streams.protocol.stream_frames import Heartbeat, StreamError, StreamReset
from tests.integration.support.stream_frames import Frame, frames
from tests.support.fold import ConversationState, fold

READER = Caller(owner="visitor:a")
BUFFER = 4  # frames that a web process holds; few, so that readers often lag behind them
STEP = 16.0  # seconds; longer than between two heartbeats
IDLE_WITHIN = 10.0  # seconds until a reader must have received all that is available


class ManualClock:
    """The follower's clock. It stands still between two steps of a test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        for module in (follower, channel_reader):
            monkeypatch.setattr(module, "monotonic", lambda: self.now)


class ObservedBuffer(ChannelBuffer):
    """A channel buffer with an event for "the follower is idle"."""

    def __init__(self) -> None:
        super().__init__(BUFFER, lambda _: None)
        self.idle = asyncio.Event()

    async def wait_for_change(
        self, deadline: float, deliver: Deliver | None = None, pass_deadline: Pass | None = None
    ) -> None:
        self.idle.set()
        await super().wait_for_change(deadline, deliver, pass_deadline)


class WebProcess(Hub):
    """A web process that receives only the messages that a test delivers."""

    def __init__(self) -> None:
        super().__init__("redis://redis.invalid", 0, keep=BUFFER, wake_at=lambda _: None)
        self.buffer = ObservedBuffer()

    @contextmanager
    def listen(self, channel: str) -> Iterator[ChannelBuffer]:
        yield self.buffer

    def receive(self, message: str) -> None:
        self._receive(self.buffer, message)


@dataclass(eq=False)
class SteppedReader:
    """One reader over all its connections. `violations` lists broken promises."""

    conversation: UUID
    time: ManualClock
    cursor: int | None = None
    state: ConversationState = field(default_factory=ConversationState)
    history: dict[int, tuple[str, str]] = field(default_factory=dict)  # since the last snapshot
    resets: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    closed_as: str | None = None
    frames_left: int | None = None  # frames that still arrive before the connection is cut
    _awaits_snapshot: bool = True  # a snapshot must come before anything else
    _now: float = 1000.0
    _pieces: int = 0  # pieces that the follower tried to write at once

    def __post_init__(self) -> None:
        self._awaits_snapshot = self.cursor is None
        self.inbox: list[str] = []
        self.web = WebProcess()
        self._following: Follower | None = None
        self._pump: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Open a stream after the cursor. The web process is subscribed at once."""
        found = await Conversation.objects.filter(pk=self.conversation).afirst()
        if found is None:
            self.closed_as = "gone"
            return
        self.inbox.clear()
        self.time.now = self._now
        self.web = WebProcess()
        self.web.buffer.subscribed()
        self._following = Follower(
            cast("Hubs", self.web),
            caller=READER,
            conversation=found,
            cursor=self.cursor,
            until_idle=False,
            heartbeat=settings.STREAM_HEARTBEAT,
        )
        self._following.write_with(self._write)
        self._pump = asyncio.create_task(self._follow(self._following.frames()))
        await self._wait_until_idle()

    async def disconnect(self) -> None:
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
        self._pump = None

    async def drop_after(self, frames: int) -> None:
        """Lose the connection after this many more frames, and reconnect."""
        self.frames_left = frames
        await self.step()
        await self.disconnect()
        self.frames_left = None
        await self.connect()

    async def cut_subscription(self) -> None:
        """Let the web process lose its subscription, and subscribe again."""
        self.web.buffer.disconnected()
        await self.step()
        self.inbox.clear()
        self.web.buffer.subscribed()
        await self.step()

    async def deliver(self, kept: list[bool]) -> None:
        """Deliver the next messages, without those whose flag in `kept` is false."""
        self.time.now = self._now  # another reader may have set it since
        arriving, self.inbox = self.inbox[: len(kept)], self.inbox[len(kept) :]
        for said, arrives in zip(arriving, kept, strict=False):
            if arrives:
                self.web.receive(said)
        await asyncio.sleep(0)  # a waiting follower writes them at once
        await self.step()

    async def catch_up(self) -> None:
        """Deliver all messages, then let a heartbeat and an access check happen."""
        await self.deliver([True] * len(self.inbox))
        if self._following and await revoked({(READER, self.conversation)}):
            self._following.close(StreamEnd.GONE)
        self._now += STEP
        await self.step()

    async def step(self) -> None:
        """Let the follower run until it is idle."""
        self.time.now = self._now
        self.web.buffer.idle.clear()
        self.web.buffer.wake()
        await self._wait_until_idle()

    async def _wait_until_idle(self) -> None:
        if self._pump is None or self._pump.done():
            return
        still = asyncio.create_task(self.web.buffer.idle.wait())
        done, _ = await asyncio.wait(
            {still, self._pump}, timeout=IDLE_WITHIN, return_when=asyncio.FIRST_COMPLETED
        )
        still.cancel()
        if not done:
            self.violations.append("its follower does not come to rest")
        if self._pump.done() and (fault := self._pump.exception()):
            self.violations.append(f"its stream broke off: {fault!r}")

    async def _follow(self, pieces: AsyncIterator[bytes]) -> None:
        async for piece in pieces:
            self._receive(piece)

    def _write(self, piece: bytes) -> bool:
        """Write to the connection, which is full at each fourth piece."""
        self._pieces += 1
        if self._pieces % 4 == 0:
            return False
        self._receive(piece)
        return True

    def _receive(self, piece: bytes) -> None:
        for frame in frames(piece):
            if self.frames_left is None or self.frames_left > 0:
                self._take(frame)
                self.frames_left = None if self.frames_left is None else self.frames_left - 1

    def _take(self, frame: Frame) -> None:
        match frame.type:
            case StreamReset.type:
                self.resets.append(orjson.loads(frame.data)["reason"])
                self._awaits_snapshot = True
            case Heartbeat.type:
                return
            case StreamError.type:
                self.closed_as = orjson.loads(frame.data)["condition"]
            case Snapshot.type:
                if not self._awaits_snapshot:
                    self.violations.append(f"a snapshot that nothing announced, at {frame.id}")
                self._awaits_snapshot = False
                self.history.clear()
                self._fold(frame)
            case _:
                if self._awaits_snapshot or (self.cursor and frame.id != self.cursor + 1):
                    self.violations.append(f"{frame.type} {frame.id} after {self.cursor}")
                self._fold(frame)
                assert frame.id
                self.history[frame.id] = (frame.type, frame.data)

    def _fold(self, frame: Frame) -> None:
        self.cursor = frame.id
        said: Event | Snapshot = decode(frame.type, frame.data)
        self.state = fold(self.state, said)
