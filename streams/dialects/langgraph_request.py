"""The bodies of LangGraph's requests, and their comparison with the stored history.

A request for something that the service cannot do is refused. It is never ignored.
"""

from collections.abc import Iterable
from hashlib import sha256
from typing import Annotated, Any, Literal

from django.db.models import Q
from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field

from streams.api.schemas import Line, Metadata, Text
from streams.chat.ask import WhenBusy
from streams.chat.idempotency import IdempotencyKey
from streams.dialects.history import ROLES as KNOWN
from streams.dialects.history import Place, check_ids, earlier, place_of
from streams.dialects.langgraph import MODES, VALUES
from streams.dialects.openai_input import TextContent
from streams.dialects.text_input import MOST, ONLY_TEXT, checked
from streams.http.problems import Problem
from streams.models import Conversation
from streams.protocol.ids import uuid_of

STRATEGIES: dict[str, WhenBusy] = {
    "reject": "reject",
    "interrupt": "interrupt",
    "enqueue": "queue",
}
ROLES = {"human": "user", "ai": "assistant"}  # the roles that have another name in LangGraph


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
    id: Annotated[Line, BeforeValidator(lambda id: "" if id is None else id)] = ""
    tool_calls: list[Any] | None = None

    @property
    def role(self) -> str:
        return ROLES.get(self.type, self.type)

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "".join(part.text or "" for part in self.content)
        return self.content or ""

    def check(self) -> None:
        """Raise `Problem` if the message has anything except text, unless it copies a reply."""
        parts = self.content if isinstance(self.content, list) else []
        is_copy = self.role in ("assistant", "tool") and uuid_of(self.id[:36])
        if is_copy or (self.role in KNOWN and all(part.text is not None for part in parts)):
            return
        raise ONLY_TEXT


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
        """Return the messages. Raises `Problem` if the service cannot do what is asked."""
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
        last = self.input.messages[-1]
        last.check()
        if last.role != "user":
            raise invalid("The last message must be the user's.")
        checked(last.text)
        check_ids(self.input.messages)
        return self.input.messages

    @property
    def when_busy(self) -> WhenBusy:
        """How to treat the request while another run is active."""
        return STRATEGIES[self.multitask_strategy or "enqueue"]

    @property
    def modes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.stream_mode or [VALUES]))

    @property
    def from_checkpoint(self) -> str | None:
        """The id of the checkpoint from which to continue; None for the latest one."""
        return self.checkpoint_id or (self.checkpoint or {}).get("checkpoint_id")

    def key(self, owner: str, thread: str, asked: InputMessage) -> IdempotencyKey | None:
        """The request's identity; None if the client has given its message no id."""
        if not asked.id:
            return None
        key = sha256(f"{thread}\n{asked.id}".encode()).hexdigest()
        digest = sha256(f"{key}{asked.text}".encode()).hexdigest()
        return IdempotencyKey(owner=owner, route="POST /threads/runs", key=key, digest=digest)


class ThreadRequest(BaseModel):
    """The body of `POST /threads`. A thread's metadata is not stored; a run's metadata is."""

    thread_id: Line | None = None
    if_exists: Literal["raise", "do_nothing"] = "raise"
    supersteps: Any = None
    ttl: Any = None

    def check(self) -> None:
        """Raise `Problem` if the service cannot do what is asked."""
        if self.supersteps or self.ttl:
            raise invalid("`supersteps` and `ttl` are not offered.")


class HistoryRequest(BaseModel):
    """The body of `POST /threads/<id>/history`. Other fields are ignored."""

    limit: int = Field(10, ge=0)
    before: Any = None
    checkpoint: dict[str, Any] | None = None


def place_in(messages: list[InputMessage], conversation: Conversation) -> Place:
    """The place of the last message. If none of the messages is stored, all are new.

    Raises `Problem` if the messages contradict the stored history.
    """
    for message in messages:
        message.check()
    names = {one.id for one in messages if one.id and one.role == "user"}
    ids = {id for name in names if (id := uuid_of(name))}
    if conversation.messages.filter(Q(client_id__in=names) | Q(pk__in=ids)).exists():
        return place_of(messages, conversation)
    return Place(stored=None, earlier=earlier(messages[:-1]))


def checked_modes(names: Iterable[str]) -> tuple[str, ...]:
    """The modes of a stream. Raises `Problem` for a mode that is not offered."""
    for name in names:
        if name not in MODES:
            raise invalid(f"`stream_mode` is one or more of {', '.join(MODES)}.")
    return tuple(dict.fromkeys(names))


def invalid(detail: str) -> Problem:
    return Problem(422, "invalid_request", detail)
