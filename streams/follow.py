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

from django.conf import settings

from streams import metrics
from streams.channels import Caller, channel_of
from streams.events import Heartbeat, StreamError, StreamReset
from streams.hub import Feed, Hubs
from streams.models import Conversation
from streams.passages import Torn
from streams.reading import in_thread, outlook, page_of, snapshot_of
from streams.verdicts import Away, Superseded
from streams.wire import block_of, retry

logger = logging.getLogger(__name__)
SOON = 0.2  # seconds until a doubt is looked at again: Redis away, an ending not yet noted
NEVER = float("inf")

GONE = block_of(StreamError(condition="gone", text="This conversation has been deleted."))
FORBIDDEN = block_of(StreamError(condition="forbidden", text="You may no longer read this."))


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
        self._preface = b""  # said before the next snapshot: why there is one
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
        try:
            if self._cursor is None:
                return await self._begin(feed)
            live = feed.after(self._cursor) if self._epoch == feed.epoch else None
            if live is None:
                metrics.HEALS.inc(self._epoch == feed.epoch)
                return await self._replay(feed, self._cursor)
        except Away:
            self._again_at = monotonic() + SOON
            return b""
        self._hear(self._cursor + len(live), ending=feed.last_ending > self._cursor)
        return b"".join(live)

    async def _begin(self, feed: Feed) -> bytes:
        """The snapshot, from whose cursor the events go on. Raises `Away`."""
        epoch, channel = feed.epoch, channel_of(self.conversation)
        now = await in_thread(lambda: snapshot_of(self.conversation), of=channel)
        if now is None:
            self._farewell = GONE
            return b""
        if now.cursor is None:
            raise Away
        self._epoch = epoch
        self._hear(now.cursor, ending=True)
        preface, self._preface = self._preface, b""
        return preface + block_of(now, now.cursor)

    async def _replay(self, feed: Feed, cursor: int) -> bytes:
        """What the log holds after the cursor. Raises `Away`."""
        epoch, channel = feed.epoch, channel_of(self.conversation)
        try:
            page = await feed.together(
                cursor, lambda: in_thread(partial(page_of, self.conversation, cursor), of=channel)
            )
        except Superseded:
            self._farewell = GONE  # and the announcement that it was deleted never came
            return b""
        metrics.REPLAYS.inc()
        if isinstance(page, Torn):
            logger.info("a stream of conversation %s is reset: %s", self.conversation, page.reason)
            metrics.RESETS.labels(page.reason).inc()
            self._cursor = None
            self._preface = block_of(StreamReset(reason=page.reason, channels=(channel,)))
            return await self._begin(feed)
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
                piece = await self._replay(feed, self._cursor)
                head = self._cursor
                metrics.HEALS.inc(bool(piece))
            except Away:
                head = None
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
