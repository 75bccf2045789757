"""A follower sends one reader the events of a conversation after its cursor, each exactly once.

The follower subscribes first, then reads the log after the cursor, then takes live events. It
always compares ids. It drops events that it has sent already, and reads the log again where an id
is missing. Where the log cannot continue from the cursor, it sends `stream-reset` and a snapshot.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from functools import partial
from time import monotonic
from uuid import UUID

from django.conf import settings

from streams.access.authorization import Caller, read_refusals
from streams.delivery.hub import ChannelBuffer, Hubs
from streams.delivery.replay import pending, read_page
from streams.delivery.threads import in_thread
from streams.log.channels import channel_of
from streams.log.errors import LogUnavailable, Superseded
from streams.models import Conversation
from streams.observability import metrics
from streams.protocol.events import Heartbeat, StreamError
from streams.protocol.sse import encode_frame, retry_field

logger = logging.getLogger(__name__)
SOON = 0.2  # seconds until the next try: Redis is away, or a final event is unpublished
NEVER = float("inf")

GONE = encode_frame(StreamError(condition="gone", text="This conversation has been deleted."))
FORBIDDEN = encode_frame(StreamError(condition="forbidden", text="You may no longer read this."))


async def revoked(readers: set[tuple[Caller, UUID]]) -> dict[tuple[Caller, UUID], bytes]:
    """The closing frame of each reader that may no longer read; empty if the check fails."""
    try:
        refused = await in_thread(lambda: read_refusals(readers)) if readers else {}
    except Exception:
        # Without the database no permission can be checked, and none can have been revoked.
        logger.exception("checking the permissions of open streams failed")
        return {}
    return {reader: GONE if reason == "gone" else FORBIDDEN for reader, reason in refused.items()}


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
        self.caller = caller
        self.conversation = conversation.id
        self.task: asyncio.Task[object] | None = None
        # When the web server took the piece that it is still writing; None if it writes none.
        self.write_started_at: float | None = None
        self._buffer: ChannelBuffer | None = None
        self._hubs = hubs
        self._cursor = cursor
        self._subscription = 0  # the subscription in which the log was last read to its end
        self._has_sent = False  # whether a complete frame was sent
        self._closing_frame: bytes | None = None
        self._until_idle = until_idle
        self._idle_at = 0.0 if until_idle else NEVER  # when to check whether no run is pending
        self._retry_at = NEVER  # when to try Redis again after a failure
        self._ends_at = monotonic() + settings.STREAM_MAX_AGE * random.uniform(0.8, 1.2)

    async def frames(self) -> AsyncIterator[bytes]:
        """The stream's bytes, in pieces.

        A piece is complete frames, so a cut between two pieces loses nothing. The first piece is
        the `retry` field, which belongs to the frame after it.
        """
        self.task = asyncio.current_task()
        with self._hubs.listen(channel_of(self.conversation)) as self._buffer:
            async for piece in self._write(self._buffer):
                self.write_started_at = monotonic()
                yield piece
                self.write_started_at = None
                self._has_sent = piece.endswith(b"\n\n")

    def close(self, frame: bytes) -> None:
        """End the stream with this closing frame."""
        self._closing_frame = frame
        if self._buffer:
            self._buffer.wake()

    def reconnect_frame(self, min_ms: int, max_ms: int) -> bytes:
        """The closing frame that asks the reader to reconnect within `min_ms` to `max_ms`."""
        # Before the first frame, the stream has just sent its opening `retry` field.
        retry = retry_field(min_ms, max_ms) if self._has_sent else b""
        return retry + encode_frame(Heartbeat(head=self._cursor))

    async def _write(self, buffer: ChannelBuffer) -> AsyncIterator[bytes]:
        yield retry_field(*settings.STREAM_RETRY)
        heartbeat_at = monotonic() + settings.STREAM_HEARTBEAT
        while self._closing_frame is None:
            version = buffer.version
            if piece := await self._next_piece(buffer):
                yield piece
                heartbeat_at = monotonic() + settings.STREAM_HEARTBEAT
            elif self._closing_frame is not None:
                break  # closed meanwhile, or the conversation was deleted
            elif self._caught_up(buffer) and await self._is_idle():
                return
            elif monotonic() >= heartbeat_at:
                yield await self._heartbeat(buffer)
                heartbeat_at = monotonic() + settings.STREAM_HEARTBEAT
            elif buffer.deleted:
                self._closing_frame = GONE
            elif monotonic() >= self._ends_at:
                self._closing_frame = self.reconnect_frame(*settings.STREAM_RETRY)
            elif buffer.version == version:  # otherwise a change came while the log was read
                idle_at = self._idle_at if self._caught_up(buffer) else NEVER
                due = min(heartbeat_at, idle_at, self._retry_at)
                await buffer.wait_for_change(due - monotonic())
        yield self._closing_frame

    def _caught_up(self, buffer: ChannelBuffer) -> bool:
        """Whether the log was read to its end in this subscription, so that nothing is missing."""
        return buffer.connected and self._subscription == buffer.subscription

    async def _next_piece(self, buffer: ChannelBuffer) -> bytes:
        """The frames after the cursor; empty if there are none, or if Redis is away."""
        if not buffer.connected or buffer.deleted:
            return b""
        self._retry_at = NEVER
        cursor, caught_up = self._cursor, self._subscription == buffer.subscription
        live = buffer.after(cursor) if cursor is not None and caught_up else None
        if cursor is None or live is None:
            try:
                metrics.GAPS_RECOVERED.inc(caught_up)
                return await self._replay(buffer)
            except LogUnavailable:
                self._retry_at = monotonic() + SOON
                return b""
        self._advance(cursor + len(live), has_final=buffer.last_final > cursor)
        return b"".join(live)

    async def _replay(self, buffer: ChannelBuffer) -> bytes:
        """The next page of the log after the cursor, or a snapshot. Raises `LogUnavailable`."""
        subscription, cursor = buffer.subscription, self._cursor
        channel = channel_of(self.conversation)
        try:
            page = await buffer.single_flight(
                cursor, lambda: in_thread(partial(read_page, self.conversation, cursor), of=channel)
            )
        except Superseded:
            self._closing_frame = GONE  # the message about the deletion was lost
            return b""
        metrics.REPLAYS.inc(cursor is not None)
        if page.reset:
            logger.info("a stream of conversation %s is reset: %s", self.conversation, page.reset)
            metrics.RESETS.labels(page.reset).inc()
        if page.last:
            self._subscription = subscription  # caught up: later events arrive live
        self._advance(page.cursor, has_final=page.has_final)
        return page.frames

    def _advance(self, cursor: int, *, has_final: bool) -> None:
        self._cursor = cursor
        if has_final and self._until_idle:
            self._idle_at = 0.0

    async def _heartbeat(self, buffer: ChannelBuffer) -> bytes:
        """A heartbeat, after any events that the log holds but the subscription did not deliver."""
        piece, head = b"", None
        if buffer.connected and self._cursor is not None:
            try:
                piece = await self._replay(buffer)
                head = self._cursor
                metrics.GAPS_RECOVERED.inc(bool(piece))
            except LogUnavailable:
                self._subscription = 0  # read the log again before the next heartbeat
        return piece + encode_frame(Heartbeat(head=head))

    async def _is_idle(self) -> bool:
        """Whether an `until_idle` stream has sent every event and may end."""
        cursor = self._cursor
        if cursor is None or monotonic() < self._idle_at:
            return False
        match await in_thread(lambda: pending(self.conversation, cursor)):
            case "idle":
                return True
            case "busy":
                self._idle_at = NEVER  # until the next final event arrives
            case "ending":
                self._idle_at = monotonic() + SOON
        return False
