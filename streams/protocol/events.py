"""What can be said on a channel: every event and state frame of the wire, as a typed value.

A field here is a field there (docs/design.md §3.2). Event types stand as strings in this
module alone.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Literal, get_args
from uuid import UUID

Role = Literal["user", "assistant", "system"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """What a reply cost, in tokens. `estimated`: counted by us, the provider gave none."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    estimated: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class MessageView:
    """A message as readers see it. `reply_to` and `run` are an assistant's alone."""

    id: UUID
    role: Role
    content: str
    reply_to: UUID | None
    run: UUID | None
    created_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class ConversationUpdated:
    """The conversation has another title or model."""

    type: ClassVar[str] = "conversation.updated"
    title: str
    model: str


@dataclass(frozen=True, kw_only=True, slots=True)
class MessageCreated:
    """Somebody asked."""

    type: ClassVar[str] = "message.created"
    message: MessageView


@dataclass(frozen=True, kw_only=True, slots=True)
class RunQueued:
    """A reply to `message` is going to be written."""

    type: ClassVar[str] = "run.queued"
    run: UUID
    message: UUID


@dataclass(frozen=True, kw_only=True, slots=True)
class RunStarted:
    """A worker writes. A higher attempt starts the reply's text anew."""

    type: ClassVar[str] = "run.started"
    run: UUID
    attempt: int
    model: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TextDelta:
    """The next piece of a reply. `index` counts this attempt's pieces from 0."""

    type: ClassVar[str] = "text.delta"
    run: UUID
    attempt: int
    index: int
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TextSnapshot:
    """The reply's text so far, as a whole: it replaces what was heard. Next comes `index` + 1."""

    type: ClassVar[str] = "text.snapshot"
    run: UUID
    attempt: int
    index: int
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ReasoningDelta:
    """The next piece of what the model thinks aloud. It shares the count of `TextDelta`."""

    type: ClassVar[str] = "reasoning.delta"
    run: UUID
    attempt: int
    index: int
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RunCompleted:
    """The model finished. `reply` is the message it wrote."""

    type: ClassVar[str] = "run.completed"
    run: UUID
    attempt: int
    reply: UUID | None
    finish_reason: str
    usage: Usage


@dataclass(frozen=True, kw_only=True, slots=True)
class RunCancelled:
    """Somebody said stop. `reply` holds the text so far, if there was any."""

    type: ClassVar[str] = "run.cancelled"
    run: UUID
    attempt: int
    reply: UUID | None
    usage: Usage


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFailed:
    """It could not be written to its end: `code` is stable, `reason` is for a person."""

    type: ClassVar[str] = "run.failed"
    run: UUID
    attempt: int
    reply: UUID | None
    code: str
    reason: str
    usage: Usage


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveRun:
    """A run as a snapshot tells it: what its reply holds so far."""

    id: UUID
    status: str
    attempt: int
    message: UUID
    text: str
    reasoning: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """What a conversation is at `cursor`; `earlier` is the URL of the messages before these."""

    type: ClassVar[str] = "conversation.snapshot"
    id: UUID
    title: str
    model: str
    created_at: datetime
    messages: tuple[MessageView, ...]
    earlier: str | None
    runs: tuple[LiveRun, ...]
    cursor: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamReset:
    """The log cannot go on from the reader's cursor; a snapshot follows."""

    type: ClassVar[str] = "stream-reset"
    reason: Literal["expired", "lost", "ahead"]
    channels: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamError:
    """An open stream ends: the reader may no longer hear it, or it is no more."""

    type: ClassVar[str] = "stream-error"
    condition: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Heartbeat:
    """Nothing was said for a while. `head` is the log's last id; null while Redis is away."""

    type: ClassVar[str] = "heartbeat"
    head: int | None


Delta = TextDelta | ReasoningDelta
Ending = RunCompleted | RunCancelled | RunFailed
Event = (
    ConversationUpdated | MessageCreated | RunQueued | RunStarted | Delta | TextSnapshot | Ending
)
Frame = Event | Snapshot | StreamReset | StreamError | Heartbeat

ENDINGS = frozenset(kind.type for kind in get_args(Ending))
EVENTS: dict[str, type[Event]] = {kind.type: kind for kind in get_args(Event)}
