"""Blocking reads for open streams: a page of the log, a snapshot, and the state of the runs.

Streams call these functions through `in_thread`, so an open stream holds neither a thread nor a
database connection.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from uuid import UUID

from streams.chat.snapshot import recorded_head, snapshot
from streams.log.channels import channel_of
from streams.log.errors import LogUnavailable, Superseded
from streams.log.event_log import log_of
from streams.log.values import CursorGap
from streams.models import Conversation, Run
from streams.protocol.events import ENDINGS
from streams.protocol.sse import encode_event, encode_frame
from streams.protocol.stream_frames import ResetReason, StreamReset

PAGE_SIZE = 200  # events per read, so that other streams run between the pages of a long replay


@dataclass(frozen=True, kw_only=True)
class ReplayPage:
    """The next frames for a cursor. All readers at that cursor get the same page."""

    frames: list[bytes]
    cursor: int | None  # the cursor after these frames; None if the reader has no place yet
    has_final: bool  # whether a final event may be among them
    last: bool  # whether the log held no more events
    reset: ResetReason | None = None  # why the log could not continue from the cursor

    @cached_property
    def joined(self) -> bytes:
        """All frames, joined once for all readers of the page."""
        return b"".join(self.frames)


def snapshot_page(conversation: UUID) -> ReplayPage:
    """The conversation as it is now. Raises `LogUnavailable`, and `Superseded` if deleted."""
    try:
        now = snapshot(Conversation.objects.get(pk=conversation))
    except Conversation.DoesNotExist:
        raise Superseded from None
    if now.cursor is None:
        raise LogUnavailable
    frame = encode_frame(now, now.cursor)
    return ReplayPage(frames=[frame], cursor=now.cursor, has_final=True, last=True)


def read_page(
    conversation: UUID,
    cursor: int | None,
    *,
    min_head: int | None = None,
    start: Callable[[UUID], ReplayPage] = snapshot_page,
) -> ReplayPage:
    """A page of the log after the cursor.

    It is the page of `start` if `cursor` is None, or if the log cannot continue from the cursor.
    `min_head` is the row's recorded head, if the caller has just read the row.
    Raises `LogUnavailable`, and `Superseded` if the conversation was deleted.
    """
    if cursor is None:
        return start(conversation)
    # Without the recorded head, a loss in a failover could stay undetected for ever.
    min_head = recorded_head(conversation) if min_head is None else min_head
    page = log_of(conversation, min_head).read_after(cursor, count=PAGE_SIZE)
    if isinstance(page, CursorGap):
        fresh = start(conversation)
        reset = encode_frame(StreamReset(reason=page.reason, channels=(channel_of(conversation),)))
        return replace(fresh, frames=[reset, *fresh.frames], reset=page.reason)
    return ReplayPage(
        frames=[encode_event(type, data, id) for id, type, data in page.entries],
        cursor=page.entries[-1][0] if page.entries else cursor,
        has_final=any(type in ENDINGS for _, type, _ in page.entries),
        last=page.last,
    )


class Pending(StrEnum):
    """Whether more events may follow a cursor."""

    BUSY = "busy"  # a run is active
    ENDING = "ending"  # no run is active, but a final event is unpublished or after the cursor
    IDLE = "idle"  # no run is active, and no event follows the cursor


def pending(conversation: UUID, cursor: int) -> Pending:
    """Whether more events of the conversation may follow the cursor."""
    runs = Run.objects.filter(conversation=conversation)
    unpublished = set(runs.filter(ended_event_id=None).values_list("status", flat=True))
    if unpublished & set(Run.ACTIVE):
        return Pending.BUSY
    ending = unpublished or runs.filter(ended_event_id__gt=cursor).exists()
    return Pending.ENDING if ending else Pending.IDLE
