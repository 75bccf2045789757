"""Folds all events of a conversation into its state, for comparison with the rows."""

from dataclasses import dataclass, field, replace
from uuid import UUID

from streams.protocol.events import (
    ConversationUpdated,
    EndedRun,
    Ending,
    Event,
    MessageCreated,
    MessageView,
    RunCancelled,
    RunFailed,
    RunQueued,
    Snapshot,
)
from streams.protocol.fold import Reply


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
