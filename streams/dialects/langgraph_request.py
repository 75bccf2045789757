"""The bodies of LangGraph's requests, and what they say compared with the stored history.

What the service cannot do is refused, never passed over.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Any, Literal
from uuid import UUID

from django.db.models import Q
from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field

from streams.api.schemas import Line, Metadata, Text
from streams.chat.ask import WhenBusy
from streams.chat.idempotency import IdempotencyKey
from streams.chat.origin import EarlierMessage
from streams.dialects.langgraph import MODES, VALUES
from streams.dialects.openai_input import MOST, ONLY_TEXT, TextContent, checked
from streams.http.problems import Problem
from streams.models import Conversation, Message
from streams.protocol.ids import NotCanonical, parse_uuid

STRATEGIES: dict[str, WhenBusy] = {
    "reject": "reject",
    "interrupt": "interrupt",
    "enqueue": "queue",
}
ROLES: dict[str, Literal["system", "user", "assistant"]] = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("ai", "assistant"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
}
HISTORY = "Load the thread's state again."


def _message(value: object) -> object:
    """A message in one of its short forms: its text alone, or a pair of role and text."""
    match value:
        case str():
            return {"role": "user", "content": value}
        case [str() as role, str() as content]:
            return {"role": role, "content": content}
        case _:
            return value


def _list(value: object) -> object:
    return value if isinstance(value, list) or value is None else [value]


class InputMessage(BaseModel):
    """A message that is sent. Its `type`, or `role`, names who wrote it."""

    type: str = Field(validation_alias=AliasChoices("type", "role"))
    content: Text | list[TextContent] | None = None
    id: Line | None = None
    tool_calls: list[Any] | None = None

    @property
    def text(self) -> str:
        """Its text. Raises `Problem` for anything else."""
        if self.type not in ROLES or self.tool_calls:
            raise invalid(ONLY_TEXT)
        if not isinstance(self.content, list):
            return self.content or ""
        if any(part.text is None for part in self.content):
            raise invalid(ONLY_TEXT)
        return "".join(part.text or "" for part in self.content)

    @property
    def is_users(self) -> bool:
        return ROLES.get(self.type) == "user"

    def earlier(self) -> EarlierMessage:
        """The message as part of the history. Raises `Problem`."""
        text = self.text
        return EarlierMessage(role=ROLES[self.type], text=text, client_id=self.id)


class Input(BaseModel):
    """The input of a run: messages that the thread does not have yet."""

    model_config = ConfigDict(extra="forbid")
    messages: Annotated[
        list[Annotated[InputMessage, BeforeValidator(_message)]], BeforeValidator(_list)
    ]


class RunRequest(BaseModel):
    """The body of a request that begins a run. Other fields are ignored."""

    assistant_id: Line = Field(min_length=1)
    input: Input | None = None
    stream_mode: Annotated[list[Line] | None, BeforeValidator(_list)] = None
    multitask_strategy: Line | None = None
    if_not_exists: Literal["create", "reject"] = "reject"
    on_disconnect: Literal["cancel", "continue"] = "continue"
    on_completion: Literal["delete", "keep"] = "delete"
    metadata: Metadata = None
    checkpoint_id: Line | None = None
    checkpoint: dict[str, Any] | None = None
    command: Any = None
    context: Any = None
    config: dict[str, Any] | None = None
    interrupt_before: Any = None
    interrupt_after: Any = None
    webhook: Any = None
    after_seconds: Any = None

    def check(self) -> list[InputMessage]:
        """Return the messages. Raises `Problem` for what the service cannot do."""
        checked_modes(self.modes)
        if self.multitask_strategy not in (None, *STRATEGIES):
            names = ", ".join(STRATEGIES)
            raise invalid(f"`multitask_strategy` is one of {names}: no run is rolled back.")
        for name in ("command", "interrupt_before", "interrupt_after", "webhook", "after_seconds"):
            if getattr(self, name):
                raise invalid(f"`{name}` is not offered.")
        if self.context or (self.config or {}).get("configurable"):
            raise invalid("Send `metadata` to the agent, instead of `context` or `configurable`.")
        if self.input is None or not 0 < len(self.input.messages) <= MOST:
            raise invalid(f"Send 1 to {MOST} messages as `input.messages`.")
        if not self.input.messages[-1].is_users:
            raise invalid("The last message must be the user's.")
        checked(self.input.messages[-1].text)
        return self.input.messages

    @property
    def when_busy(self) -> WhenBusy:
        """What to do while another run is active."""
        return STRATEGIES[self.multitask_strategy or "enqueue"]

    @property
    def modes(self) -> tuple[str, ...]:
        """The modes of the stream."""
        return tuple(dict.fromkeys(self.stream_mode or [VALUES]))

    @property
    def from_checkpoint(self) -> str | None:
        """The state of the thread from which to go on; None for the latest one."""
        return self.checkpoint_id or (self.checkpoint or {}).get("checkpoint_id")

    def key(self, owner: str, thread: str, asked: InputMessage) -> IdempotencyKey | None:
        """The request's identity, if the client has given its message an id."""
        if not asked.id:
            return None
        key = sha256(f"{thread}\n{asked.id}".encode()).hexdigest()
        digest = sha256(f"{key}{asked.text}".encode()).hexdigest()
        return IdempotencyKey(owner=owner, route="POST /threads/runs", key=key, digest=digest)


class ThreadRequest(BaseModel):
    """The body of `POST /threads`. A thread's metadata is not kept; that of a run is."""

    thread_id: Line | None = None
    if_exists: Literal["raise", "do_nothing"] = "raise"
    supersteps: Any = None
    ttl: Any = None

    def check(self) -> None:
        """Raise `Problem` for what the service cannot do."""
        if self.supersteps or self.ttl:
            raise invalid("`supersteps` and `ttl` are not offered.")


class HistoryRequest(BaseModel):
    """The body of `POST /threads/<id>/history`. Other fields are ignored."""

    limit: int = Field(10, ge=0)
    before: Any = None
    checkpoint: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where the asked message stands: it is stored already, or comes after `earlier` new ones."""

    stored: Message | None
    earlier: tuple[EarlierMessage, ...] = ()


def place_of(messages: list[InputMessage], conversation: Conversation) -> Place:
    """Compare the messages with the stored ones, by their ids. Raises `Problem` if they differ.

    Copies of replies are not looked at, because a client that lost its connection has half of one.
    """
    stored, runs = _stored(messages, conversation), _runs(messages, conversation)
    new: list[InputMessage] = []
    for message in messages:
        row = stored.get(message.id or "")
        if row is None and _run_of(message) not in runs:
            new.append(message)
            continue
        if new:
            raise contradiction(f"A new message stands before an earlier one. {HISTORY}")
        if row and message.is_users and message.text != row.content:
            raise contradiction(f"An earlier message of a thread cannot be changed. {HISTORY}")
    if not new:
        return Place(stored=stored[messages[-1].id or ""])
    return Place(stored=None, earlier=tuple(one.earlier() for one in new[:-1]))


def _stored(messages: list[InputMessage], conversation: Conversation) -> dict[str, Message]:
    """The stored messages among these, by the ids that the request gives them."""
    names = [one.id for one in messages if one.id]
    found = Q(client_id__in=names) | Q(pk__in=[id for name in names if (id := _uuid(name))])
    return {one.client_id or str(one.pk): one for one in conversation.messages.filter(found)}


def _runs(messages: list[InputMessage], conversation: Conversation) -> set[UUID]:
    """The thread's runs among those that have written these messages."""
    named = {run for message in messages if (run := _run_of(message))}
    return set(conversation.runs.filter(pk__in=named).values_list("pk", flat=True))


def _run_of(message: InputMessage) -> UUID | None:
    """The run that the id of a reply names."""
    return None if message.is_users else _uuid((message.id or "")[:36])


def _uuid(text: str) -> UUID | None:
    try:
        return parse_uuid(text)
    except NotCanonical:
        return None


def checked_modes(names: Iterable[str]) -> tuple[str, ...]:
    """The modes of a stream. Raises `Problem` for a mode that is not offered."""
    for name in names:
        if name not in MODES:
            raise invalid(f"`stream_mode` is one or more of {', '.join(MODES)}.")
    return tuple(dict.fromkeys(names))


def invalid(detail: str) -> Problem:
    return Problem(422, "invalid_request", detail)


def contradiction(detail: str) -> Problem:
    return Problem(409, "history_differs", detail)
