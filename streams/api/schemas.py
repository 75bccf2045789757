"""Schemas of request and response bodies that the domain packages do not define themselves."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from django.conf import settings
from ninja import Schema
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from streams.chat.ask import WhenBusy
from streams.chat.conversations import PAGE_CURSOR
from streams.chat.model_names import Kind, kinds, names
from streams.protocol.events import MessageView
from streams.protocol.sse import clean, clean_json

TOO_LONG = "message_too_long"
SHORT = 200  # characters
METADATA_BYTES = 4096  # of JSON
FIELDS = 20  # at most in a body; every request has fewer


def _clean(value: object) -> object:
    # Cut to one character more than the longest allowed text, so that it is still refused.
    limit = max(SHORT, settings.MAX_MESSAGE_CHARS) + 1
    return clean(value[:limit]) if isinstance(value, str) else value


def _bounded(value: str) -> str:
    if len(value) > settings.MAX_MESSAGE_CHARS:
        limit = {"limit": settings.MAX_MESSAGE_CHARS}
        raise PydanticCustomError(TOO_LONG, "At most {limit} characters are taken", limit)
    return value


def _metadata(value: object) -> object:
    """Return the metadata as JSON that both databases store: no NUL, no NaN, no half surrogate."""
    try:
        encoded = orjson.dumps(clean_json(value))
    except (TypeError, RecursionError):  # nested too deeply, or a number of more than 64 bits
        raise PydanticCustomError("bad_metadata", "This cannot be kept as JSON") from None
    if len(encoded) > METADATA_BYTES:
        limit = {"limit": METADATA_BYTES}
        raise PydanticCustomError("metadata_too_large", "At most {limit} bytes are kept", limit)
    return orjson.loads(encoded)


def _not_blank(value: str) -> str:
    if not value.strip():
        raise PydanticCustomError("blank", "There must be something in it")
    return value


Text = Annotated[
    str,
    BeforeValidator(_clean),
    AfterValidator(_bounded),
    Field(json_schema_extra={"maxLength": settings.MAX_MESSAGE_CHARS}),
]
Message = Annotated[
    Text, AfterValidator(_not_blank), Field(json_schema_extra={"minLength": 1, "pattern": r"\S"})
]
Line = Annotated[str, Field(max_length=SHORT), BeforeValidator(_clean)]
Title = Annotated[Line, AfterValidator(_not_blank), Field(json_schema_extra={"pattern": r"\S"})]
Metadata = Annotated[
    dict[str, Any] | None,
    BeforeValidator(_metadata),
    Field(
        description=f"JSON for the agent, at most {METADATA_BYTES} bytes; kept with the run",
        json_schema_extra={"additionalProperties": True},
    ),
]

StoredJson = Annotated[Any, BeforeValidator(_metadata)]  # any JSON, with the limit of `Metadata`

PageCursor = Annotated[
    str, Field(pattern=f"^({PAGE_CURSOR})?$", json_schema_extra={"description": "from `next`"})
]
Search = Annotated[Line, Field(json_schema_extra={"description": "what the title contains"})]
# A query parameter cannot be null, so the schema does not offer it.
Before = Annotated[UUID | None, WithJsonSchema({"type": "string", "format": "uuid"})]


class Body(BaseModel):
    """A request's body, with a bound on the number of its fields."""

    # Without this, a misspelt `when_busy` would silently get the default.
    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _limit_fields(cls, body: object) -> object:
        # Each unknown field would add an error, and a body may contain a million fields.
        if isinstance(body, dict) and len(body) > FIELDS:
            raise PydanticCustomError("too_many_fields", "No request has so many fields")
        return body


class Begin(Body):
    """A new conversation: its first message, system prompt, model, title and metadata."""

    message: Message
    system: Text | None = None
    model: Line | None = Field(
        None,
        min_length=1,
        description="a name from `/api/models/`; null for the default",
        json_schema_extra={"enum": [*(name for kind in kinds() for name in names(kind)), None]},
    )
    title: Line | None = Field(None, description="null for the message's beginning")
    metadata: Metadata = None


class Ask(Body):
    """The next message of a conversation."""

    message: Message
    when_busy: WhenBusy = "reject"
    metadata: Metadata = None


class Retry(Body):
    """A request for another reply to the same message; all fields are optional."""

    when_busy: WhenBusy = "reject"


class Rename(Body):
    """A new title for a conversation."""

    title: Title


class EmptyBody(Body):
    """An empty JSON object, or no body."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Accepted:
    """The response to an accepted message.

    `events` is the URL of the stream from `cursor` on. `cursor` is None while Redis is away.
    """

    conversation: UUID
    message: UUID
    run: UUID
    status: Literal["queued"]
    cursor: int | None
    events: str


class ConversationItem(Schema):
    """A conversation in a list."""

    id: UUID
    title: str
    model: str
    created_at: datetime


class ConversationList(Schema):
    """Conversations, newest first; `next` is the URL of the next page, or null."""

    items: list[ConversationItem]
    next: str | None


class Messages(Schema):
    """Messages in turn order; `earlier` is the URL of the messages before these, or null."""

    messages: list[MessageView]
    earlier: str | None


class ModelItem(Schema):
    """A language model or an agent that a conversation may use."""

    id: str
    kind: Kind
    suggestions: list[str] = Field(description="first questions that a page may offer")


class ModelList(Schema):
    """The models and agents that a conversation may use, and the default of requests."""

    items: list[ModelItem]
    default: str


class FieldError(BaseModel):
    """An error in one field of a request."""

    field: str
    code: str
    detail: str


class Problem(BaseModel):
    """Problem details (RFC 9457). `code` is stable, for programs; `detail` is for a person."""

    type: Literal["about:blank"]
    title: str
    status: int
    code: str
    detail: str
    errors: list[FieldError] | None = Field(
        default_factory=list, description="which fields are not valid"
    )
