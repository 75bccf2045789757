"""A follower sends one reader the events of a conversation after its cursor, each exactly once.

A `ChannelReader` takes the events from the log and the hub. The follower turns them into the bytes
of one SSE stream, adds heartbeats, and ends the stream. If the log cannot continue from the cursor,
the follower sends `stream-reset` and a snapshot.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from functools import lru_cache
from math import ceil
from time import monotonic

from django.conf import settings

from streams.access.authorization import Caller
from streams.delivery.channel_reader import ChannelReader
from streams.delivery.hub import Hubs
from streams.delivery.stream_end import StreamEnd, closing_frames
from streams.http.event_stream import Write
from streams.log.channels import channel_of
from streams.models import Conversation
from streams.observability import metrics
from streams.protocol.sse import encode_frame, retry_field
from streams.protocol.stream_frames import Heartbeat

logger = logging.getLogger(__name__)
STEPS = 16  # a heartbeat is due at a whole multiple of a 16th of its interval


@lru_cache(maxsize=256)
def heartbeat_frame(head: int | None) -> bytes:
    """The frame of a heartbeat, encoded once for all readers of a channel."""
    return encode_frame(Heartbeat(head=head))


class Follower:
    """One open stream of one reader."""

    __slots__ = (
        "_check_at",
        "_cursor",
        "_ends_at",
        "_events",
        "_has_sent",
        "_heartbeat_after",
        "_heartbeat_at",
        "_hubs",
        "_is_regular",
        "_until_idle",
        "_write_at_once",
        "end",
        "reader",
        "task",
        "write_started_at",
    )

    def __init__(
        self,
        hubs: Hubs,
        *,
        caller: Caller,
        conversation: Conversation,
        cursor: int | None,
        until_idle: bool,
        heartbeat: float,
        is_regular: bool = False,
    ) -> None:
        """`heartbeat`: seconds from an event to a heartbeat, or between two if `is_regular`."""
        self.reader = (caller, conversation.id)
        self.task: asyncio.Task[object] | None = None
        # When the web server last took a part of the current piece; None if it writes no piece.
        self.write_started_at: float | None = None
        self._events: ChannelReader | None = None
        self._write_at_once: Write | None = None
        self._heartbeat_at = self._check_at = 0.0
        self._hubs = hubs
        self._cursor = cursor  # the reader's cursor when the stream was opened
        self._has_sent = False  # whether a complete frame was sent
        self.end: StreamEnd | None = None  # why the stream ends; None while it goes on
        self._until_idle = until_idle
        self._heartbeat_after = heartbeat
        self._is_regular = is_regular
        self._ends_at = monotonic() + settings.STREAM_MAX_AGE * random.uniform(0.8, 1.2)

    async def frames(self) -> AsyncIterator[bytes]:
        """The stream's bytes, in pieces.

        A piece consists of complete frames, so a cut between two pieces loses nothing. Only the
        first piece is a `retry` field, which belongs to the frame after it.
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

    def write_with(self, write: Write) -> None:
        """Write live frames with `write` when they arrive while the stream waits.

        If `write` fails, the stream wakes and writes the frames itself. So the fault ends this
        stream only.
        """
        self._write_at_once = write

    def note_progress(self) -> None:
        """Record that the web server has taken a part of the piece."""
        if self.write_started_at is not None:
            self.write_started_at = monotonic()

    def close(self, end: StreamEnd) -> None:
        """End the stream for this reason, unless it is already ending for another reason."""
        self.end = self.end or end
        if self._events:
            self._events.buffer.wake()

    async def _write(self, events: ChannelReader) -> AsyncIterator[bytes]:
        yield retry_field(*settings.STREAM_RETRY)
        self._heartbeat_at = self._check_at = self._next_heartbeat()
        buffer = events.buffer
        at_once = (self._deliver, self._pass_deadline) if self._write_at_once else (None, None)
        while self.end is None:
            version = buffer.version
            if piece := await self._next_piece(events):
                yield piece
                self._delay_heartbeat()
            elif buffer.deleted:
                self.close(StreamEnd.GONE)
            elif self._until_idle and await events.is_idle():
                self.close(StreamEnd.IDLE)
            elif monotonic() >= self._heartbeat_at:
                yield await self._heartbeat(events)
                self._heartbeat_at = self._next_heartbeat()
            elif monotonic() >= self._ends_at:
                self.close(StreamEnd.TOO_OLD)
            elif buffer.version == version:  # otherwise a change came while the log was read
                await buffer.wait_for_change(self._due(events), *at_once)
        # Without a frame so far, the stream has just sent a `retry` field, so it sends no second.
        if last := closing_frames(self.end, events.cursor, retry=self._has_sent):
            yield last

    def _due(self, events: ChannelReader) -> float:
        due: float = min(self._heartbeat_at, self._ends_at)
        return min(due, events.due(until_idle=self._until_idle))

    def _next_heartbeat(self) -> float:
        """When the next heartbeat is due, rounded up so that one tick serves many streams."""
        step = self._heartbeat_after / STEPS
        return ceil((monotonic() + self._heartbeat_after) / step) * step

    def _delay_heartbeat(self) -> None:
        """Delay the next check of the log, and the heartbeat, because an event has arrived."""
        self._check_at = self._next_heartbeat()
        if not self._is_regular:
            self._heartbeat_at = self._check_at

    def _is_checked(self, events: ChannelReader) -> bool:
        """Whether a heartbeat may be sent without reading the log, because nothing is missing."""
        return monotonic() < self._check_at or events.is_checked(self._heartbeat_after)

    def _deliver(self, first: int, last: int, frames: bytes) -> bool:
        """Write live events while the stream waits. False if the stream must wake to write them."""
        events = self._events
        if not events or not events.is_next(first) or not self._has_written(frames):
            return False
        events.cursor = last
        self._has_sent = True
        self._delay_heartbeat()
        return True

    def _pass_deadline(self, now: float) -> float | None:
        """Write a due heartbeat while the stream waits. Returns the next deadline, or None to wake.

        While another follower reads the log for all, the heartbeat waits for that read.
        """
        events = self._events
        if not events:
            return None
        if now >= self._heartbeat_at:
            if not self._is_checked(events):
                return None if events.buffer.may_check(now) else now
            if not self._has_written(heartbeat_frame(events.cursor)):
                return None
            self._has_sent = True
            self._heartbeat_at = self._next_heartbeat()
        due = self._due(events)
        return due if now < due else None

    def _has_written(self, frames: bytes) -> bool:
        try:
            return bool(self._write_at_once and self._write_at_once(frames))
        except Exception:
            logger.exception("a write to a stream of conversation %s failed", self.reader[1])
            return False

    async def _next_piece(self, events: ChannelReader) -> bytes:
        """The frames after the cursor; empty if there are none, or if Redis is away."""
        live = events.live()
        if live is not None:
            return b"".join(live)
        page = await events.read()
        return page.joined if page else b""

    async def _heartbeat(self, events: ChannelReader) -> bytes:
        """A heartbeat, after any events that the log holds but the subscription did not deliver.

        One follower of the channel reads the log for all. If it finds events, all followers read.
        """
        if self._is_checked(events):
            return heartbeat_frame(events.cursor)
        page = None
        if events.buffer.connected and events.cursor is not None:
            page = await events.read()
        if page and page.frames:
            metrics.GAPS_RECOVERED.inc()
            events.buffer.distrust()
        head = events.cursor if page else None
        return (page.joined if page else b"") + heartbeat_frame(head)
