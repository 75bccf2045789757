"""The body of `POST /api/chat`, and what it says compared with the stored history."""

from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Literal

from django.conf import settings
from pydantic import BaseModel, BeforeValidator, Field

from streams.api.schemas import TOO_LONG, Metadata
from streams.chat.idempotency import IdempotencyKey
from streams.chat.origin import EarlierMessage
from streams.http.problems import Problem
from streams.models import Conversation, Message
from streams.protocol.sse import clean


def _clean(value: object) -> object:
    return clean(value) if isinstance(value, str) else value


Name = Annotated[str, BeforeValidator(_clean), Field(min_length=1, max_length=200)]
ONLY_TEXT = Problem(422, "invalid_request", "Only text can be sent in a message.")
EMPTY = Problem(422, "invalid_request", "The message is empty.")
LAST = Problem(422, "invalid_request", "The last message has to be one of the user.")


def contradiction(detail: str) -> Problem:
    return Problem(409, "history_differs", f"{detail} Load the chat's messages again.")


class UiPart(BaseModel):
    """A part of a UI message; only text is taken."""

    type: str
    text: Annotated[str, BeforeValidator(_clean)] = ""


class UiMessage(BaseModel):
    """A message as the client holds it."""

    id: Name
    role: Literal["system", "user", "assistant"]
    parts: list[UiPart]

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts if part.type == "text")

    def require_text(self) -> None:
        """Raise `Problem` for a message with anything but text, unless it is a reply."""
        if self.role != "assistant" and any(part.type != "text" for part in self.parts):
            raise ONLY_TEXT


class ChatRequest(BaseModel):
    """The body of `POST /api/chat`. Other fields are the page's own, and are ignored."""

    id: Name | None = None
    messages: list[UiMessage] = Field(min_length=1)
    trigger: Literal["submit-message", "regenerate-message"] = "submit-message"
    messageId: Name | None = None  # noqa: N815  # the vendor's name
    model: Name | None = None
    metadata: Metadata = None

    @property
    def chat(self) -> str:
        """The chat's name. `WorkflowChatTransport` may send none: the first message's stands in."""
        return self.id or self.messages[0].id

    @property
    def asked(self) -> UiMessage:
        return self.messages[-1]

    @property
    def asks_again(self) -> bool:
        """Whether another reply is wanted to a message that may be stored already."""
        return self.trigger == "regenerate-message" or self.messageId == self.asked.id

    def check(self) -> str:
        """Return the text that is asked. Raises `Problem`."""
        if self.asked.role != "user":
            raise LAST
        for message in self.messages:
            message.require_text()
        if not self.asked.text.strip():
            raise EMPTY
        if len(self.asked.text) > settings.MAX_MESSAGE_CHARS:
            detail = f"At most {settings.MAX_MESSAGE_CHARS} characters are taken."
            raise Problem(422, TOO_LONG, detail)
        return self.asked.text

    def earlier(self, messages: list[UiMessage]) -> tuple[EarlierMessage, ...]:
        return tuple(
            EarlierMessage(role=one.role, text=one.text, client_id=one.id)
            for one in messages
            if one.text
        )

    def key(self, owner: str, regenerated: str) -> IdempotencyKey:
        """The request's identity. `regenerated` names the reply that is to be written anew."""
        names = [self.chat, self.trigger, self.asked.id, self.messageId or "", regenerated]
        key = sha256("\n".join(names).encode()).hexdigest()
        digest = sha256(f"{key}{self.asked.text}".encode()).hexdigest()
        return IdempotencyKey(owner=owner, route="POST /api/chat", key=key, digest=digest)


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where the asked message stands: it is stored already, or comes after `earlier` new ones."""

    stored: Message | None
    earlier: tuple[EarlierMessage, ...] = ()


def place_of(body: ChatRequest, conversation: Conversation) -> Place:
    """Compare the user's messages with the stored ones. Raises `Problem` if they differ.

    A client may send fewer messages than there are. Its copies of replies are not looked at,
    because a client that stopped or lost its connection has half a reply. Messages after the stored
    ones were refused when they were asked, and are taken over.
    """
    sent = [one for one in body.messages if one.role == "user"]
    rows = conversation.messages.filter(role=Message.Role.USER).order_by("-turn")
    stored = list(rows[: len(sent) + 1])
    names = {one.client_id or str(one.id): one for one in stored}
    known = [names.get(one.id) for one in sent]
    count = next((place for place, one in enumerate(known) if one is None), len(known))
    if any(known[count:]) or (count == 0 and len(sent) > 1):
        raise contradiction("This chat has other messages here.")
    expected = [stored[count - 1 - place] for place in range(count)] if count <= len(stored) else []
    if known[:count] != expected:
        raise contradiction("This chat has gone on elsewhere.")
    for one, row in zip(sent[:count], expected, strict=True):
        if one.text != row.content:
            raise contradiction("An earlier message of this chat cannot be changed.")
    if count == len(sent):
        return Place(stored=expected[-1])
    return Place(stored=None, earlier=body.earlier(sent[count:-1]))
