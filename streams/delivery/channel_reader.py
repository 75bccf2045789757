"""Reads one channel in order, each event exactly once: the log after the cursor, then live events.

The caller subscribes first, and gives the reader the buffer that the hub fills. Until the reader
has read the log to its end in this subscription, `live` returns None, and the caller calls `read`.
The same happens if an id is missing. The reader compares ids, so it skips events that it has read
before. If the log cannot continue from the cursor, the page gives the reason and a new cursor.

Each follower has a reader for its stream. The bridge has one for all streams of a conversation that
Pushpin holds.
"""

import logging
from collections.abc import Callable
from functools import partial
from time import monotonic
from uuid import UUID

from streams.delivery.channel_buffer import ChannelBuffer
from streams.delivery.deadline_timer import NEVER
from streams.delivery.replay import Pending, ReplayPage, pending, read_page, snapshot_page
from streams.delivery.threads import in_thread
from streams.log.channels import channel_of
from streams.log.errors import LogUnavailable, Superseded
from streams.observability import metrics

logger = logging.getLogger(__name__)
SOON = 0.2  # seconds until the next try if Redis is away or a final event is unpublished


class ChannelReader:
    """The place of one reader in a channel.

    `cursor` is the id of the last event that it returned; None if it has no place yet.
    """

    def __init__(
        self,
        conversation: UUID,
        cursor: int | None,
        buffer: ChannelBuffer,
        *,
        start: Callable[[UUID], ReplayPage] = snapshot_page,
    ) -> None:
        self.cursor = cursor
        self.buffer = buffer
        self.idle_at = 0.0  # when to ask whether a run is pending
        self._conversation = conversation
        self._start = start  # reads the first page if there is no cursor, or it cannot be used
        self._subscription = 0  # the subscription in which the log was last read
        self._read_to_end = False  # whether that read came to the log's end
        self._retry_at = NEVER  # when to read the log again after a failure

    @property
    def caught_up(self) -> bool:
        """Whether the log was read to its end in this subscription, so that nothing is missing."""
        same = self.buffer.connected and self._subscription == self.buffer.subscription
        return same and self._read_to_end

    @property
    def resubscribed(self) -> bool:
        """Whether another subscription has begun since the log was last read."""
        return 0 < self._subscription != self.buffer.subscription

    def due(self, *, until_idle: bool) -> float:
        """The time (`monotonic()`) at which the caller must ask again, even without an event."""
        if not self.buffer.connected or self.buffer.deleted:
            return NEVER
        checks_idle = until_idle and self.caught_up and self.cursor is not None
        return min(self._retry_at, self.idle_at) if checks_idle else self._retry_at

    def live(self) -> list[bytes] | None:
        """The live frames after the cursor, maybe none. None if the log must be read first."""
        buffer, cursor = self.buffer, self.cursor
        if not buffer.connected or buffer.deleted:
            return []
        if cursor is None or not self.caught_up:
            return None
        frames = buffer.after(cursor)
        if frames:
            self._advance(cursor + len(frames), has_final=buffer.last_final > cursor)
        elif frames is None:
            metrics.GAPS_RECOVERED.inc()
        return frames

    def is_next(self, id: int) -> bool:
        """Whether the event comes next, and the stream can write it without waking.

        For a final event it must wake, to ask whether another run is pending.
        """
        cursor = self.cursor
        return cursor is not None and id == cursor + 1 > self.buffer.last_final and self.caught_up

    async def read(self, *, again: bool = False, min_head: int | None = None) -> ReplayPage | None:
        """The next page of the log; None if Redis is away or the conversation was deleted.

        With `again`, the page begins with the event at the cursor. `min_head` is an argument of
        `read_page`. A deletion is recorded in the buffer.
        """
        buffer, cursor, subscription = self.buffer, self.cursor, self.buffer.subscription
        asked_at = monotonic()
        if again and cursor is not None:
            cursor -= 1  # within one epoch, ids ascend by one
        ask = partial(read_page, self._conversation, cursor, min_head=min_head, start=self._start)
        channel = channel_of(self._conversation)
        try:
            page = await buffer.single_flight(cursor, lambda: in_thread(ask, of=channel))
        except LogUnavailable:
            buffer.unreadable = True
            self._read_to_end = False
            self._retry_at = monotonic() + SOON
            return None
        except Superseded:
            buffer.delete()  # the hub has not received the message about the deletion
            return None
        buffer.unreadable = False
        metrics.REPLAYS.inc(cursor is not None)
        if page.reset:
            logger.info("the log of %s cannot continue: %s", channel, page.reset)
            metrics.RESETS.labels(page.reset).inc()
        elif page.last:
            buffer.log_end = page.cursor, asked_at
        self._subscription, self._read_to_end = subscription, page.last
        self._retry_at = NEVER
        self._advance(page.cursor, has_final=page.has_final)
        return page

    def is_checked(self, seconds: float) -> bool:
        """Whether a reader of the channel found the log's end at this cursor within `seconds`."""
        cursor, at = self.buffer.log_end
        return self.caught_up and cursor == self.cursor and monotonic() - at < seconds

    async def is_idle(self) -> bool:
        """Whether every event was read and no run is pending. Asks the database only if due."""
        cursor = self.cursor
        if cursor is None or not self.caught_up or monotonic() < self.idle_at:
            return False
        match await in_thread(lambda: pending(self._conversation, cursor)):
            case Pending.IDLE:
                return True
            case Pending.BUSY:
                self.idle_at = NEVER  # until the next final event arrives
            case Pending.ENDING:
                self.idle_at = monotonic() + SOON
        return False

    def _advance(self, cursor: int | None, *, has_final: bool) -> None:
        self.cursor = cursor
        if has_final:
            self.idle_at = 0.0
