"""What streams ask of the log and the database: each question goes through one of a few threads.

So an open stream holds neither a thread nor a connection.
"""

from dataclasses import dataclass, replace
from typing import Literal, TypeVar
from uuid import UUID

from streams.chat.snapshot import recorded_head, snapshot
from streams.log.channels import channel_of
from streams.log.errors import LogUnavailable, Superseded
from streams.log.event_log import the_log
from streams.log.values import CursorGap
from streams.models import Conversation, Run
from streams.protocol.events import ENDINGS, StreamReset
from streams.protocol.sse import encode_event, encode_frame

T = TypeVar("T")
PAGE_SIZE = 200  # events read from the log at once: a long replay lets others pass in between


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplayPage:
    """What readers at one place are told next, as it is sent to everybody who asked for it."""

    frames: bytes
    cursor: int  # after them
    has_final: bool  # whether a run may have ended among them
    last: bool  # whether the log held no more
    reset: str = ""  # why the log could not go on from where they were


def read_page(conversation: UUID, cursor: int | None, *, min_head: int | None = None) -> ReplayPage:
    """A page of the log after the cursor; a snapshot without one, or where the log cannot go on.

    `known` is the row's `head`, for one who has just read it.
    Raises `LogUnavailable`; `Superseded` where the conversation was deleted.
    """
    if cursor is None:
        return _snapshot_page(conversation)
    channel = channel_of(conversation)
    # What the row notes and a failover lost, nobody else may ever miss.
    min_head = recorded_head(conversation) if min_head is None else min_head
    page = the_log().read_after(channel, cursor, min_head=min_head, count=PAGE_SIZE)
    if isinstance(page, CursorGap):
        anew = _snapshot_page(conversation)
        reset = encode_frame(StreamReset(reason=page.reason, channels=(channel,)))
        return replace(anew, frames=reset + anew.frames, reset=page.reason)
    return ReplayPage(
        frames=b"".join(encode_event(type, data, id) for id, type, data in page.entries),
        cursor=page.entries[-1][0] if page.entries else cursor,
        has_final=any(type in ENDINGS for _, type, _ in page.entries),
        last=page.last,
    )


def _snapshot_page(conversation: UUID) -> ReplayPage:
    try:
        now = snapshot(Conversation.objects.get(pk=conversation))
    except Conversation.DoesNotExist:
        raise Superseded from None
    if now.cursor is None:
        raise LogUnavailable
    return ReplayPage(
        frames=encode_frame(now, now.cursor), cursor=now.cursor, has_final=True, last=True
    )


def pending(conversation: UUID, cursor: int) -> Literal["busy", "ending", "idle"]:
    """What a reader at the cursor may still hear: a reply, an ending being said, or nothing."""
    runs = Run.objects.filter(conversation=conversation)
    unsaid = set(runs.filter(ended_event_id=None).values_list("status", flat=True))
    if unsaid & set(Run.ACTIVE):
        return "busy"
    return "ending" if unsaid or runs.filter(ended_event_id__gt=cursor).exists() else "idle"
