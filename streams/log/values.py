"""What the log takes and gives: a piece on its way in, a page of what was said, a look at all."""

from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

from streams.protocol.events import Delta, TextSnapshot


@dataclass(frozen=True, kw_only=True, slots=True)
class Append:
    """One delta, or the whole text again, on its way into the log."""

    channel: str
    event: Delta | TextSnapshot
    min_head: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Watermark:
    """How far an attempt has come: the highest event id that it knows to have been said."""

    channel: str
    run: UUID
    attempt: int
    head: int


OnUnverified = Literal["none", "leave", "settle"]  # what is done about a tail that may be lost


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """What came after a cursor: (id, type, data) each, and the log's last id."""

    head: int
    entries: list[tuple[int, str, str]]

    @property
    def last(self) -> bool:
        """Whether the log held nothing after these."""
        return not self.entries or self.entries[-1][0] >= self.head


@dataclass(frozen=True, kw_only=True, slots=True)
class CursorGap:
    """The log cannot go on from the cursor."""

    reason: Literal["expired", "lost", "ahead"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunProgress:
    """What the log knows of one unsettled run."""

    attempt: int
    text: str
    reasoning: str
    head: int = field(default=0, compare=False)  # the log's last id, where nobody may add to it


@dataclass(frozen=True, kw_only=True, slots=True)
class LogState:
    """What a channel is at one moment. `once` holds the ids of what a run says once."""

    head: int
    runs: dict[UUID, RunProgress]
    recorded: dict[tuple[UUID, str], int]
