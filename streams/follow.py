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

from streams import metrics
from streams.channels import Caller, channel_of, refusals
from streams.events import Heartbeat, StreamError
from streams.hub import Feed, Hubs
from streams.models import Conversation
from streams.reading import in_thread, outlook, page_of
from streams.verdicts import Away, Superseded
from streams.wire import block_of, retry

logger = logging.getLogger(__name__)
SOON = 0.2  # seconds until a doubt is looked at again: Redis away, an ending not yet noted
NEVER = float("inf")

GONE = block_of(StreamError(condition="gone", text="This conversation has been deleted."))
FORBIDDEN = block_of(StreamError(condition="forbidden", text="You may no longer read this."))


async def shut_out(readers: set[tuple[Caller, UUID]]) -> dict[tuple[Caller, UUID], bytes]:
    """The farewell to each of these who may no longer read."""
    try:
        refused = await in_thread(lambda: refusals(readers)) if readers else {}
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
        self.handed_at: float | None = None  # when the server took a piece that it still holds
        self._feed: Feed | None = None
        self._hubs = hubs
        self._cursor = cursor
        self._epoch = 0  # the subscription after which the log was read
        self._begun = False  # whether a block was sent
        self._farewell: bytes | None = None
        self._until_idle = until_idle
        self._idle_at = 0.0 if until_idle else NEVER  # when to ask whether all is said
        self._again_at = NEVER  # when to ask Redis again, which did not answer
        self._ends_at = monotonic() + settings.STREAM_LIFE * random.uniform(0.8, 1.2)

    async def frames(self) -> AsyncIterator[bytes]:
        """The stream's bytes: each piece is whole frames, so a cut in between loses nothing."""
        self.task = asyncio.current_task()
        with self._hubs.listen(channel_of(self.conversation)) as self._feed:
            async for piece in self._tell(self._feed):
                self.handed_at = monotonic()
                yield piece
                self.handed_at = None
                self._begun = piece.endswith(b"\n\n")

    def leave(self, farewell: bytes) -> None:
        """End the stream, with these words."""
        self._farewell = farewell
        if self._feed:
            self._feed.wake()

    def sent_round(self, least: int, most: int) -> bytes:
        """The farewell to a reader who is to come back, in so many ms."""
        again = retry(least, most) if self._begun else b""  # else its first line said so
        return again + block_of(Heartbeat(head=self._cursor))

    async def _tell(self, feed: Feed) -> AsyncIterator[bytes]:
        yield retry(*settings.STREAM_RETRY)
        beat_at = monotonic() + settings.STREAM_HEARTBEAT
        while self._farewell is None:
            turn = feed.turn
            if piece := await self._unheard(feed):
                yield piece
                beat_at = monotonic() + settings.STREAM_HEARTBEAT
            elif self._farewell is not None:
                break  # its log is no more
            elif self._caught_up(feed) and await self._all_said():
                return
            elif monotonic() >= beat_at:
                yield await self._heartbeat(feed)
                beat_at = monotonic() + settings.STREAM_HEARTBEAT
            elif feed.removed:
                self._farewell = GONE
            elif monotonic() >= self._ends_at:
                self._farewell = self.sent_round(*settings.STREAM_RETRY)
            elif feed.turn == turn:  # else it woke nobody: we were asking the log
                idle_at = self._idle_at if self._caught_up(feed) else NEVER
                await feed.change(min(beat_at, idle_at, self._again_at) - monotonic())
        yield self._farewell

    def _caught_up(self, feed: Feed) -> bool:
        """Whether the log was read since the subscription began: before, silence says nothing."""
        return feed.up and self._epoch == feed.epoch

    async def _unheard(self, feed: Feed) -> bytes:
        """What this reader has not heard yet, or nothing."""
        if not feed.up or feed.removed:
            return b""
        self._again_at = NEVER
        cursor, caught_up = self._cursor, self._epoch == feed.epoch
        live = feed.after(cursor) if cursor is not None and caught_up else None
        if cursor is None or live is None:
            try:
                metrics.HEALS.inc(caught_up)
                return await self._replay(feed)
            except Away:
                self._again_at = monotonic() + SOON
                return b""
        self._hear(cursor + len(live), ending=feed.last_ending > cursor)
        return b"".join(live)

    async def _replay(self, feed: Feed) -> bytes:
        """What the log holds after the cursor, or a snapshot. Raises `Away`."""
        epoch, cursor, channel = feed.epoch, self._cursor, channel_of(self.conversation)
        try:
            page = await feed.together(
                cursor, lambda: in_thread(partial(page_of, self.conversation, cursor), of=channel)
            )
        except Superseded:
            self._farewell = GONE  # and the announcement that it was deleted never came
            return b""
        metrics.REPLAYS.inc(cursor is not None)
        if page.reset:
            logger.info("a stream of conversation %s is reset: %s", self.conversation, page.reset)
            metrics.RESETS.labels(page.reset).inc()
        if page.last:
            self._epoch = epoch  # caught up: what comes next arrives live
        self._hear(page.cursor, ending=page.ending)
        return page.blocks

    def _hear(self, cursor: int, *, ending: bool) -> None:
        self._cursor = cursor
        if ending and self._until_idle:
            self._idle_at = 0.0

    async def _heartbeat(self, feed: Feed) -> bytes:
        """A sign of life, after whatever a deaf subscription has kept from this reader."""
        piece, head = b"", None
        if feed.up and self._cursor is not None:
            try:
                piece = await self._replay(feed)
                head = self._cursor
                metrics.HEALS.inc(bool(piece))
            except Away:
                self._epoch = 0  # not at the next heartbeat, but as soon as it answers
        return piece + block_of(Heartbeat(head=head))

    async def _all_said(self) -> bool:
        """Whether a reader who stays until all is said has heard it all."""
        cursor = self._cursor
        if cursor is None or monotonic() < self._idle_at:
            return False
        match await in_thread(lambda: outlook(self.conversation, cursor)):
            case "idle":
                return True
            case "busy":
                self._idle_at = NEVER  # until the next ending is heard
            case "ending":
                self._idle_at = monotonic() + SOON
        return False
