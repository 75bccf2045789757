"""Every event and frame of the wire protocol, as a typed value.

The fields have the names that they have on the wire (docs/design.md §3.2). No other module writes
event types as strings.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Literal, get_args
from uuid import UUID

from streams.protocol.parts import EVENT_KINDS, Part, WholePart
from streams.protocol.stream_frames import Heartbeat, StreamError, StreamReset

Role = Literal["user", "assistant", "system"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """The tokens that a reply used. `estimated`: the service has estimated the counts."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    estimated: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class MessageView:
    """A message as readers see it. Only an assistant's message has `reply_to` and `run`.

    `content` is the text of its `parts`.
    """

    id: UUID
    role: Role
    content: str
    parts: tuple[Part, ...]
    reply_to: UUID | None
    run: UUID | None
    created_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class ConversationUpdated:
    """The conversation has a new title or model."""

    type: ClassVar[str] = "conversation.updated"
    title: str
    model: str


@dataclass(frozen=True, kw_only=True, slots=True)
class MessageCreated:
    """The user sent a message."""

    type: ClassVar[str] = "message.created"
    message: MessageView


@dataclass(frozen=True, kw_only=True, slots=True)
class RunQueued:
    """A reply to `message` waits for a worker."""

    type: ClassVar[str] = "run.queued"
    run: UUID
    message: UUID


@dataclass(frozen=True, kw_only=True, slots=True)
class RunStarted:
    """A worker began an attempt. A higher attempt starts the reply's text anew."""

    type: ClassVar[str] = "run.started"
    run: UUID
    attempt: int
    model: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TextDelta:
    """The next piece of a reply's text. `index` counts this attempt's pieces from 0."""

    type: ClassVar[str] = "text.delta"
    run: UUID
    attempt: int
    index: int
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TextSnapshot:
    """All parts of the reply so far, which replace all earlier pieces.

    The next piece has `index` + 1.
    """

    type: ClassVar[str] = "text.snapshot"
    run: UUID
    attempt: int
    index: int
    text: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReasoningDelta:
    """The next piece of the model's reasoning. Its `index` continues the count of `TextDelta`."""

    type: ClassVar[str] = "reasoning.delta"
    run: UUID
    attempt: int
    index: int
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PartAdded:
    """The reply has one more part that is neither text nor reasoning.

    `index` continues the count of `TextDelta`. The event's type depends on the kind of the part. On
    the wire, the part's fields stand beside those of the event.
    """

    run: UUID
    attempt: int
    index: int
    part: WholePart

    @property
    def type(self) -> str:
        return self.part.event


@dataclass(frozen=True, kw_only=True, slots=True)
class RunCompleted:
    """The model has finished. `reply` is the message that it wrote."""

    type: ClassVar[str] = "run.completed"
    run: UUID
    attempt: int
    reply: UUID | None
    finish_reason: str
    usage: Usage


@dataclass(frozen=True, kw_only=True, slots=True)
class RunCancelled:
    """The run was cancelled. `reply` is the message with the text so far; None without text."""

    type: ClassVar[str] = "run.cancelled"
    run: UUID
    attempt: int
    reply: UUID | None
    usage: Usage


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFailed:
    """The reply could not be finished. `code` is stable for programs, `reason` is for people."""

    type: ClassVar[str] = "run.failed"
    run: UUID
    attempt: int
    reply: UUID | None
    code: str
    reason: str
    usage: Usage


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveRun:
    """A run in a snapshot, with its reply so far."""

    id: UUID
    status: Literal["queued", "running"]
    attempt: int
    message: UUID
    text: str
    reasoning: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class EndedRun:
    """A run in a snapshot that ended without a reply. A cancelled run has no code and reason."""

    id: UUID
    status: Literal["cancelled", "failed"]
    attempt: int
    message: UUID
    code: str | None
    reason: str | None
    usage: Usage


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """A conversation at `cursor`. `earlier` is the URL of the page of older messages.

    `unanswered` has, for each user message without a reply and an active run, its last ended run.
    """

    type: ClassVar[str] = "conversation.snapshot"
    id: UUID
    title: str
    model: str
    created_at: datetime
    messages: tuple[MessageView, ...]
    earlier: str | None
    runs: tuple[LiveRun, ...]
    unanswered: tuple[EndedRun, ...]
    cursor: int | None


Delta = TextDelta | ReasoningDelta
Ending = RunCompleted | RunCancelled | RunFailed
Piece = Delta | PartAdded
Event = (
    ConversationUpdated | MessageCreated | RunQueued | RunStarted | Piece | TextSnapshot | Ending
)
Frame = Event | Snapshot | StreamReset | StreamError | Heartbeat

ENDINGS = frozenset(kind.type for kind in get_args(Ending))
EVENTS: dict[str, type[Event]] = {
    kind.type: kind for kind in get_args(Event) if kind is not PartAdded
} | dict.fromkeys(EVENT_KINDS, PartAdded)
