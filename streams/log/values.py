"""The typed values that the event log takes as arguments and returns."""

from dataclasses import dataclass
from enum import StrEnum, auto
from uuid import UUID

from streams.log.slots import SlotWrite
from streams.protocol.events import Piece, TextSnapshot
from streams.protocol.parts import Part, reasoning_of, text_of
from streams.protocol.stream_frames import ResetReason


@dataclass(frozen=True, kw_only=True, slots=True)
class Append:
    """One append to a running reply: the next piece, or all parts again.

    `write` is the piece's change of a slot; None for a `TextSnapshot`, which replaces all slots.
    """

    channel: str
    event: Piece | TextSnapshot
    write: SlotWrite | None
    min_head: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Watermark:
    """How far an attempt has come: `head` is the highest event id that it knows to be appended."""

    channel: str
    run: UUID
    attempt: int
    head: int


class OnUnverified(StrEnum):
    """What `ChannelLog.seal` does if Redis restarted, and no attempt has verified the log since."""

    IGNORE = auto()  # seal the reply anyway
    RAISE = auto()  # raise `LogUnverified`: the attempt will verify the log
    NEW_EPOCH = auto()  # begin a new epoch with the reply that is left, because no attempt runs


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
    """The log's data of one run whose final event is not recorded in the database yet."""

    attempt: int
    parts: tuple[Part, ...] = ()

    @property
    def text(self) -> str:
        return text_of(self.parts)

    @property
    def reasoning(self) -> str:
        return reasoning_of(self.parts)


@dataclass(frozen=True, kw_only=True, slots=True)
class SealedReply:
    """The log's data of a reply to which no attempt can append any more.

    `known`: whether the log knows the run; if not, the log was lost. `attempt`: the attempt that
    wrote the parts; None if no attempt has started. `published`: whether this epoch of the log
    holds the events of the parts. `token`: the value that `append_final` compares with the log.
    """

    known: bool
    attempt: int | None
    parts: tuple[Part, ...]
    published: bool
    index: int  # of the attempt's last piece; -1 if there is none
    head: int  # the log's last id
    token: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LogState:
    """The state of a channel at one moment.

    `recorded` has the ids of the events that are appended once for a run, by run and kind.
    """

    head: int
    runs: dict[UUID, RunProgress]
    recorded: dict[tuple[UUID, str], int]
