"""A follower sends one reader the events of a conversation after its cursor, each exactly once.

A `ChannelReader` takes the events from the log and the hub. The follower turns them into the bytes
of one SSE stream, adds heartbeats, and ends the stream. Where the log cannot continue from the
cursor, the reader's page is `stream-reset` and a snapshot.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from time import monotonic

from django.conf import settings

from streams.access.authorization import Caller
from streams.delivery.channel_reader import ChannelReader
from streams.delivery.hub import Hubs
from streams.delivery.stream_end import StreamEnd, closing_frames
from streams.log.channels import channel_of
from streams.models import Conversation
from streams.observability import metrics
from streams.protocol.sse import encode_frame, retry_field
from streams.protocol.stream_frames import Heartbeat


class Follower:
    """One open stream of one reader."""

    def __init__(
        self,
        hubs: Hubs,
        *,
        caller: Caller,
        conversation: Conversation,
        cursor: int | None,
        until_idle: bool,
    ) -> None:
        self.reader = (caller, conversation.id)
        self.task: asyncio.Task[object] | None = None
        # When the web server took the piece that it is still writing; None if it writes none.
        self.write_started_at: float | None = None
        self._events: ChannelReader | None = None
        self._hubs = hubs
        self._cursor = cursor  # of the reader when it came
        self._has_sent = False  # whether a complete frame was sent
        self.end: StreamEnd | None = None  # why the stream ends; None while it goes on
        self._until_idle = until_idle
        self._ends_at = monotonic() + settings.STREAM_MAX_AGE * random.uniform(0.8, 1.2)

    async def frames(self) -> AsyncIterator[bytes]:
        """The stream's bytes, in pieces.

        A piece is complete frames, so a cut between two pieces loses nothing. The first piece is
        the `retry` field, which belongs to the frame after it.
        """
        self.task = asyncio.current_task()
        _, conversation = self.reader
        with self._hubs.listen(channel_of(conversation)) as buffer:
            self._events = ChannelReader(conversation, self._cursor, buffer)
            async for piece in self._write(self._events):
                self.write_started_at = monotonic()
                yield piece
                self.write_started_at = None
                self._has_sent = piece.endswith(b"\n\n")

    def close(self, end: StreamEnd) -> None:
        """End the stream for this reason, unless it ends for another one already."""
        self.end = self.end or end
        if self._events:
            self._events.buffer.wake()

    async def _write(self, events: ChannelReader) -> AsyncIterator[bytes]:
        yield retry_field(*settings.STREAM_RETRY)
        heartbeat_at = monotonic() + settings.STREAM_HEARTBEAT
        buffer = events.buffer
        while self.end is None:
            version = buffer.version
            if piece := await self._next_piece(events):
                yield piece
                heartbeat_at = monotonic() + settings.STREAM_HEARTBEAT
            elif buffer.deleted:
                self.close(StreamEnd.GONE)
            elif self._until_idle and await events.is_idle():
                self.close(StreamEnd.IDLE)
            elif monotonic() >= heartbeat_at:
                yield await self._heartbeat(events)
                heartbeat_at = monotonic() + settings.STREAM_HEARTBEAT
            elif monotonic() >= self._ends_at:
                self.close(StreamEnd.TOO_OLD)
            elif buffer.version == version:  # otherwise a change came while the log was read
                due = min(heartbeat_at, events.due(until_idle=self._until_idle))
                await buffer.wait_for_change(due - monotonic())
        # Before the first frame, the stream has just sent its opening `retry` field.
        if last := closing_frames(self.end, events.cursor, retry=self._has_sent):
            yield last

    async def _next_piece(self, events: ChannelReader) -> bytes:
        """The frames after the cursor; empty if there are none, or if Redis is away."""
        live = events.live()
        if live is not None:
            return b"".join(live)
        page = await events.read()
        return page.joined if page else b""

    async def _heartbeat(self, events: ChannelReader) -> bytes:
        """A heartbeat, after any events that the log holds but the subscription did not deliver."""
        page = None
        if events.buffer.connected and events.cursor is not None:
            page = await events.read()
        metrics.GAPS_RECOVERED.inc(bool(page and page.frames))
        head = events.cursor if page else None
        return (page.joined if page else b"") + encode_frame(Heartbeat(head=head))
