"""Frames of a stream that are no events of the log: a reset, the end of a stream, a heartbeat."""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar


class ResetReason(StrEnum):
    """Why the log cannot resume from a cursor."""

    EXPIRED = "expired"  # events after it were trimmed
    LOST = "lost"  # it is of another epoch
    AHEAD = "ahead"  # it is above the log's last id


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamReset:
    """The log cannot resume from the reader's cursor; a snapshot follows."""

    type: ClassVar[str] = "stream-reset"
    reason: ResetReason
    channels: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamError:
    """The server ends a stream: the reader lost access, or the conversation was deleted."""

    type: ClassVar[str] = "stream-error"
    condition: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Heartbeat:
    """Sent at intervals. `head` is the id that the reader has reached; null without Redis."""

    type: ClassVar[str] = "heartbeat"
    head: int | None
