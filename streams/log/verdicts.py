"""The verdicts that operations answer with, and the exceptions that stand for some of them."""

from enum import StrEnum, auto

from streams.log.errors import FenceMissing, LogCorrupted, LogUnverified, ReplyChanged, Superseded


class Verdict(StrEnum):
    """The first item of an operation's answer."""

    OK = auto()
    SUPERSEDED = auto()  # another attempt has the run, or the run has ended
    DELETED = auto()  # the conversation is deleted
    FENCE_MISSING = auto()  # the log does not know the run
    GAP = auto()  # the log has lost pieces of the run
    CHANGED = auto()  # the log no longer holds the reply that the seal returned
    UNVERIFIED = auto()  # an attempt must verify the log first
    CORRUPTED = auto()  # the operation failed on data that the service did not write
    LOST = auto()  # the log has lost events, or the cursor is of another epoch
    EXPIRED = auto()  # events after the cursor were trimmed
    AHEAD = auto()  # the cursor is above the head


REFUSALS: dict[Verdict, type[Exception]] = {
    Verdict.SUPERSEDED: Superseded,
    Verdict.DELETED: Superseded,
    Verdict.FENCE_MISSING: FenceMissing,
    Verdict.GAP: FenceMissing,
    Verdict.CHANGED: ReplyChanged,
    Verdict.UNVERIFIED: LogUnverified,
    Verdict.CORRUPTED: LogCorrupted,
}
