"""Frames of a stream that are not events of the log: a reset, a stream's end, a heartbeat."""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar


class ResetReason(StrEnum):
    """Why the log cannot resume from a cursor."""

    EXPIRED = "expired"  # events after the cursor were trimmed
    LOST = "lost"  # the cursor is of another epoch, or the log has lost events
    AHEAD = "ahead"  # the cursor is above the log's last id


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamReset:
    """The log cannot resume from the reader's cursor; a snapshot follows."""

    type: ClassVar[str] = "stream-reset"
    reason: ResetReason
    channels: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamError:
    """The server ends a stream, because the reader lost access, or the conversation is deleted."""

    type: ClassVar[str] = "stream-error"
    condition: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Heartbeat:
    """Sent at intervals. `head` is the reader's position; null while Redis is away."""

    type: ClassVar[str] = "heartbeat"
    head: int | None
