"""Following: one connection that hears a channel, from its cursor on, exactly once.

Subscribe first, then read the log after the cursor, then take what arrives live. A follower
compares ids always: what it has, it drops; where an id is missing, it reads the log again; where
the log cannot go on from its cursor, it says so and starts from a snapshot.
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
SOON = 0.2  # seconds until a doubt is looked at again: Redis away, an ending not yet noted
NEVER = float("inf")

GONE = encode_frame(StreamError(condition="gone", text="This conversation has been deleted."))
FORBIDDEN = encode_frame(StreamError(condition="forbidden", text="You may no longer read this."))


async def revoked(readers: set[tuple[Caller, UUID]]) -> dict[tuple[Caller, UUID], bytes]:
    """The farewell to each of these who may no longer read."""
    try:
        refused = await in_thread(lambda: read_refusals(readers)) if readers else {}
    except Exception:
        # Without the database nobody can be asked, nor can anybody have been shut out.
        logger.exception("looking who may still read")
        return {}
    return {reader: GONE if why == "gone" else FORBIDDEN for reader, why in refused.items()}


class Follower:
    """One open stream."""

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
        self.write_started_at: float | None = (
            None  # when the server took a piece that it still holds
        )
        self._buffer: ChannelBuffer | None = None
        self._hubs = hubs
        self._cursor = cursor
        self._epoch = 0  # the subscription after which the log was read
        self._has_sent = False  # whether a block was sent
        self._closing_frame: bytes | None = None
        self._until_idle = until_idle
        self._idle_at = 0.0 if until_idle else NEVER  # when to ask whether all is said
        self._retry_at = NEVER  # when to ask Redis again, which did not answer
        self._ends_at = monotonic() + settings.STREAM_MAX_AGE * random.uniform(0.8, 1.2)

    async def frames(self) -> AsyncIterator[bytes]:
        """The stream's bytes: each piece is whole frames, so a cut in between loses nothing."""
        self.task = asyncio.current_task()
        with self._hubs.listen(channel_of(self.conversation)) as self._buffer:
            async for piece in self._write(self._buffer):
                self.write_started_at = monotonic()
                yield piece
                self.write_started_at = None
                self._has_sent = piece.endswith(b"\n\n")

    def close(self, farewell: bytes) -> None:
        """End the stream, with these words."""
        self._closing_frame = farewell
        if self._buffer:
            self._buffer.wake()

    def reconnect_frame(self, least: int, most: int) -> bytes:
        """The farewell to a reader who is to come back, in so many ms."""
        again = retry_field(least, most) if self._has_sent else b""  # else its first line said so
        return again + encode_frame(Heartbeat(head=self._cursor))

    async def _write(self, feed: ChannelBuffer) -> AsyncIterator[bytes]:
        yield retry_field(*settings.STREAM_RETRY)
        beat_at = monotonic() + settings.STREAM_HEARTBEAT
        while self._closing_frame is None:
            turn = feed.version
            if piece := await self._next_piece(feed):
                yield piece
                beat_at = monotonic() + settings.STREAM_HEARTBEAT
            elif self._closing_frame is not None:
                break  # its log is no more
            elif self._caught_up(feed) and await self._is_idle():
                return
            elif monotonic() >= beat_at:
                yield await self._heartbeat(feed)
                beat_at = monotonic() + settings.STREAM_HEARTBEAT
            elif feed.deleted:
                self._closing_frame = GONE
            elif monotonic() >= self._ends_at:
                self._closing_frame = self.reconnect_frame(*settings.STREAM_RETRY)
            elif feed.version == turn:  # else it woke nobody: we were asking the log
                idle_at = self._idle_at if self._caught_up(feed) else NEVER
                await feed.wait_for_change(min(beat_at, idle_at, self._retry_at) - monotonic())
        yield self._closing_frame

    def _caught_up(self, feed: ChannelBuffer) -> bool:
        """Whether the log was read since the subscription began: before, silence says nothing."""
        return feed.connected and self._epoch == feed.subscription

    async def _next_piece(self, feed: ChannelBuffer) -> bytes:
        """What this reader has not heard yet, or nothing."""
        if not feed.connected or feed.deleted:
            return b""
        self._retry_at = NEVER
        cursor, caught_up = self._cursor, self._epoch == feed.subscription
        live = feed.after(cursor) if cursor is not None and caught_up else None
        if cursor is None or live is None:
            try:
                metrics.GAPS_RECOVERED.inc(caught_up)
                return await self._replay(feed)
            except LogUnavailable:
                self._retry_at = monotonic() + SOON
                return b""
        self._advance(cursor + len(live), ending=feed.last_final > cursor)
        return b"".join(live)

    async def _replay(self, feed: ChannelBuffer) -> bytes:
        """What the log holds after the cursor, or a snapshot. Raises `LogUnavailable`."""
        epoch, cursor, channel = feed.subscription, self._cursor, channel_of(self.conversation)
        try:
            page = await feed.single_flight(
                cursor, lambda: in_thread(partial(read_page, self.conversation, cursor), of=channel)
            )
        except Superseded:
            self._closing_frame = GONE  # and the announcement that it was deleted never came
            return b""
        metrics.REPLAYS.inc(cursor is not None)
        if page.reset:
            logger.info("a stream of conversation %s is reset: %s", self.conversation, page.reset)
            metrics.RESETS.labels(page.reset).inc()
        if page.last:
            self._epoch = epoch  # caught up: what comes next arrives live
        self._advance(page.cursor, ending=page.has_final)
        return page.frames

    def _advance(self, cursor: int, *, ending: bool) -> None:
        self._cursor = cursor
        if ending and self._until_idle:
            self._idle_at = 0.0

    async def _heartbeat(self, feed: ChannelBuffer) -> bytes:
        """A sign of life, after whatever a deaf subscription has kept from this reader."""
        piece, head = b"", None
        if feed.connected and self._cursor is not None:
            try:
                piece = await self._replay(feed)
                head = self._cursor
                metrics.GAPS_RECOVERED.inc(bool(piece))
            except LogUnavailable:
                self._epoch = 0  # not at the next heartbeat, but as soon as it answers
        return piece + encode_frame(Heartbeat(head=head))

    async def _is_idle(self) -> bool:
        """Whether a reader who stays until all is said has heard it all."""
        cursor = self._cursor
        if cursor is None or monotonic() < self._idle_at:
            return False
        match await in_thread(lambda: pending(self.conversation, cursor)):
            case "idle":
                return True
            case "busy":
                self._idle_at = NEVER  # until the next ending is heard
            case "ending":
                self._idle_at = monotonic() + SOON
        return False
