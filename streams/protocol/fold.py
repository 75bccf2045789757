"""What a reader knows after what he heard: one pure function over events.

The law of this project is that for every reader, whatever happened to his connections, this fold
gives what the database holds in the end.
"""

from dataclasses import dataclass, field, replace
from uuid import UUID

from streams.protocol.events import (
    ConversationUpdated,
    Ending,
    Event,
    MessageCreated,
    MessageView,
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """The text and state of one run, as its events tell it."""

    run: UUID
    message: UUID | None = None
    attempt: int = 0
    text: str = ""
    reasoning: str = ""
    ending: Ending | None = None

    def apply(
        self, event: RunStarted | TextDelta | ReasoningDelta | TextSnapshot | Ending
    ) -> "Reply":
        """The reply after one more event of its run."""
        if event.attempt < self.attempt or self.ending:
            return self  # a worker that was superseded: nobody is listening for it
        anew = event.attempt > self.attempt
        now = replace(self, attempt=event.attempt, text="", reasoning="") if anew else self
        match event:
            case RunStarted():
                return now
            case TextDelta():
                return replace(now, text=now.text + event.text)
            case ReasoningDelta():
                return replace(now, reasoning=now.reasoning + event.text)
            case TextSnapshot():
                return replace(now, text=event.text)
            case RunCompleted() | RunCancelled() | RunFailed():
                # A run that ended before its next attempt spoke keeps what the last one said.
                return replace(self, attempt=event.attempt, ending=event)


@dataclass(frozen=True, kw_only=True, slots=True)
class ConversationState:
    """A conversation as one reader has heard it."""

    title: str = ""
    model: str = ""
    messages: dict[UUID, MessageView] = field(default_factory=dict)
    replies: dict[UUID, Reply] = field(default_factory=dict)

    def _with(self, reply: Reply) -> "ConversationState":
        return replace(self, replies={**self.replies, reply.run: reply})


def fold(heard: ConversationState, event: Event | Snapshot) -> ConversationState:
    """What is known after `event`. Hearing a message or a snapshot twice changes nothing."""
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
                        text=run.text,
                        reasoning=run.reasoning,
                    )
                    for run in event.runs
                },
            )
        case ConversationUpdated():
            return replace(heard, title=event.title, model=event.model)
        case MessageCreated():
            return replace(heard, messages={**heard.messages, event.message.id: event.message})
        case RunQueued():
            return heard._with(Reply(run=event.run, message=event.message))
        case _:
            known = heard.replies.get(event.run) or Reply(run=event.run)
            return heard._with(known.apply(event))
