"""The typed values that the event log takes as arguments and returns."""

from dataclasses import dataclass, field
from enum import StrEnum, auto
from uuid import UUID

from streams.protocol.events import Delta, ResetReason, TextSnapshot


@dataclass(frozen=True, kw_only=True, slots=True)
class Append:
    """One append to a running reply: the next delta, or the whole text again."""

    channel: str
    event: Delta | TextSnapshot
    min_head: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Watermark:
    """How far an attempt has come: `head` is the highest event id that it knows to be appended."""

    channel: str
    run: UUID
    attempt: int
    head: int


class OnUnverified(StrEnum):
    """What `ChannelLog.seal` does if Redis restarted, and an attempt has not verified the log."""

    IGNORE = auto()  # seal the reply all the same
    RAISE = auto()  # raise `LogUnverified`: the attempt will verify the log
    NEW_EPOCH = auto()  # begin a new epoch with the text that is left: the attempt is gone


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """The events after a cursor, each as (id, type, data); `head` is the log's last id."""

    head: int
    entries: list[tuple[int, str, str]]

    @property
    def last(self) -> bool:
        """Whether the log held no event after these."""
        return not self.entries or self.entries[-1][0] >= self.head


@dataclass(frozen=True, kw_only=True, slots=True)
class CursorGap:
    """The log cannot resume from the cursor, so the reader needs a snapshot."""

    reason: ResetReason


@dataclass(frozen=True, kw_only=True, slots=True)
class RunProgress:
    """What the log holds of one unsettled run."""

    attempt: int
    text: str
    reasoning: str
    head: int = field(default=0, compare=False)  # the log's last id, if the run is sealed


@dataclass(frozen=True, kw_only=True, slots=True)
class LogState:
    """The state of a channel at one moment.

    `recorded` has the ids of the events that are appended once for a run, by run and kind.
    """

    head: int
    runs: dict[UUID, RunProgress]
    recorded: dict[tuple[UUID, str], int]
