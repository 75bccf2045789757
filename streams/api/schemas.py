"""What requests say and answers hold, where the domain has no value of its own for it."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

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
from streams.protocol.events import MessageView
from streams.protocol.sse import clean

TOO_LONG = "message_too_long"
SHORT = 200  # characters
FIELDS = 20  # of a body: more than any request has


def _clean(value: object) -> object:
    # One character more than any text may have: as much as is needed to refuse it.
    most = max(SHORT, settings.MAX_MESSAGE_CHARS) + 1
    return clean(value[:most]) if isinstance(value, str) else value


def _bounded(value: str) -> str:
    if len(value) > settings.MAX_MESSAGE_CHARS:
        limit = {"limit": settings.MAX_MESSAGE_CHARS}
        raise PydanticCustomError(TOO_LONG, "At most {limit} characters are taken", limit)
    return value


def _spoken(value: str) -> str:
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
    Text, AfterValidator(_spoken), Field(json_schema_extra={"minLength": 1, "pattern": r"\S"})
]
Line = Annotated[str, Field(max_length=SHORT), BeforeValidator(_clean)]
Title = Annotated[Line, AfterValidator(_spoken), Field(json_schema_extra={"pattern": r"\S"})]

PageCursor = Annotated[
    str, Field(pattern=f"^({PAGE_CURSOR})?$", json_schema_extra={"description": "from `next`"})
]
Search = Annotated[Line, Field(json_schema_extra={"description": "what the title contains"})]
# There is no null in a query.
Before = Annotated[UUID | None, WithJsonSchema({"type": "string", "format": "uuid"})]


class _Body(BaseModel):
    # A misspelt `when_busy` must not be taken for the default.
    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _few(cls, body: object) -> object:
        # Each unknown field would be an error of its own, and a body may bring a million.
        if isinstance(body, dict) and len(body) > FIELDS:
            raise PydanticCustomError("too_many_fields", "No request has so many fields")
        return body


class Begin(_Body):
    """A conversation's first message, and what it is to be."""

    message: Message
    system: Text | None = None
    model: Line | None = Field(
        None,
        min_length=1,
        description="one of `/api/models/`; the default where null",
        json_schema_extra={"enum": [*settings.LLM_MODELS, None]},
    )
    title: Line | None = Field(None, description="the message's beginning where null")


class Ask(_Body):
    """The next message of a conversation."""

    message: Message
    when_busy: WhenBusy = "reject"


class Retry(_Body):
    """Another reply to the same message."""

    when_busy: WhenBusy = "reject"


class Rename(_Body):
    """Another title."""

    title: Title


class EmptyBody(_Body):
    """No words are needed."""


class ConversationItem(Schema):
    """A conversation in a list."""

    id: UUID
    title: str
    model: str
    created_at: datetime


class ConversationList(Schema):
    """Conversations, newest first; `next` is the URL of those after these."""

    items: list[ConversationItem]
    next: str | None


class Messages(Schema):
    """Messages in turn order; `earlier` is the URL of those before these."""

    messages: list[MessageView]
    earlier: str | None


class ModelItem(Schema):
    """A model that may be asked for."""

    id: str


class ModelList(Schema):
    """The models that may be asked for, and the one that answers where none was."""

    items: list[ModelItem]
    default: str


class FieldError(BaseModel):
    """What is wrong with one part of a request."""

    field: str
    code: str
    detail: str


class Problem(BaseModel):
    """RFC 9457. `code` is for programs and stays as it is; `detail` is for a person."""

    type: Literal["about:blank"]
    title: str
    status: int
    code: str
    detail: str
    errors: list[FieldError] | None = Field(
        default_factory=list, description="where it is at fault"
    )
