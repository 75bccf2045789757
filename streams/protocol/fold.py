"""Folds the events of a run into its reply, as a reader sees it.

The invariant of this project: in the end, every reader's fold equals the reply in the database,
however often and wherever the reader's connections break.
"""

from dataclasses import dataclass, replace
from uuid import UUID

from streams.protocol.events import (
    Ending,
    PartAdded,
    Piece,
    ReasoningDelta,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunStarted,
    TextDelta,
    TextSnapshot,
)
from streams.protocol.parts import Part, ReasoningPart, TextPart, add_part, reasoning_of, text_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """The parts and state of one run, folded from its events."""

    run: UUID
    message: UUID | None = None
    attempt: int = 0
    parts: tuple[Part, ...] = ()
    ending: Ending | None = None

    @property
    def text(self) -> str:
        return text_of(self.parts)

    @property
    def reasoning(self) -> str:
        return reasoning_of(self.parts)

    def apply(self, event: RunStarted | Piece | TextSnapshot | Ending) -> "Reply":
        """The reply after one more event of its run."""
        if event.attempt < self.attempt or self.ending:
            return self  # an event of a superseded attempt, or after the final event
        newer = event.attempt > self.attempt
        now = replace(self, attempt=event.attempt, parts=()) if newer else self
        match event:
            case RunStarted():
                return now
            case TextDelta():
                return replace(now, parts=add_part(now.parts, TextPart(text=event.text)))
            case ReasoningDelta():
                return replace(now, parts=add_part(now.parts, ReasoningPart(text=event.text)))
            case PartAdded():
                return replace(now, parts=add_part(now.parts, event.part))
            case TextSnapshot():
                return replace(now, parts=event.parts)
            case RunCompleted() | RunCancelled() | RunFailed():
                # If the new attempt appended nothing, the parts of the attempt before it stay.
                return replace(self, attempt=event.attempt, ending=event)
