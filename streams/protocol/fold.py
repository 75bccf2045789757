"""Folds events into the state of a conversation, as a reader sees it: one pure function.

The invariant of this project: in the end, every reader's fold equals what the database holds. It
holds for every way in which the reader's connections break.
"""

from dataclasses import dataclass, field, replace
from uuid import UUID

from streams.protocol.events import (
    ConversationUpdated,
    EndedRun,
    Ending,
    Event,
    MessageCreated,
    MessageView,
    PartAdded,
    Piece,
    ReasoningDelta,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunQueued,
    RunStarted,
    Snapshot,
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
            return self  # of a superseded attempt, or after the final event
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


@dataclass(frozen=True, kw_only=True, slots=True)
class ConversationState:
    """A conversation, folded from the events that one reader received."""

    title: str = ""
    model: str = ""
    messages: dict[UUID, MessageView] = field(default_factory=dict)
    replies: dict[UUID, Reply] = field(default_factory=dict)

    def _with(self, reply: Reply) -> "ConversationState":
        return replace(self, replies={**self.replies, reply.run: reply})


def fold(state: ConversationState, event: Event | Snapshot) -> ConversationState:
    """The state after `event`. A repeated message or snapshot changes nothing."""
    match event:
        case Snapshot():
            return ConversationState(
                title=event.title,
                model=event.model,
                messages={message.id: message for message in event.messages},
                replies={
                    run.id: Reply(
                        run=run.id,
                        message=run.message,
                        attempt=run.attempt,
                        parts=run.parts,
                    )
                    for run in event.runs
                }
                | {run.id: _ended(run) for run in event.unanswered},
            )
        case ConversationUpdated():
            return replace(state, title=event.title, model=event.model)
        case MessageCreated():
            return replace(state, messages={**state.messages, event.message.id: event.message})
        case RunQueued():
            return state._with(Reply(run=event.run, message=event.message))
        case _:
            reply = state.replies.get(event.run) or Reply(run=event.run)
            return state._with(reply.apply(event))


def _ended(run: EndedRun) -> Reply:
    ending: Ending
    if run.code is None:
        ending = RunCancelled(run=run.id, attempt=run.attempt, reply=None, usage=run.usage)
    else:
        ending = RunFailed(
            run=run.id,
            attempt=run.attempt,
            reply=None,
            code=run.code,
            reason=run.reason or "",
            usage=run.usage,
        )
    return Reply(run=run.id, message=run.message, attempt=run.attempt, ending=ending)
