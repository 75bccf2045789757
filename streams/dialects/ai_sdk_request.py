"""The body of `POST /api/chat`."""

from hashlib import sha256
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field

from streams.api.schemas import Metadata
from streams.chat.idempotency import IdempotencyKey
from streams.dialects.history import check_ids
from streams.dialects.text_input import LAST, ONLY_TEXT, Name, checked, cleaned


class UiPart(BaseModel):
    """A part of a UI message; only text is accepted."""

    type: str
    text: Annotated[str, BeforeValidator(cleaned)] = ""


class UiMessage(BaseModel):
    """A message as the client holds it."""

    id: Name
    role: Literal["system", "user", "assistant"]
    parts: list[UiPart]

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts if part.type == "text")

    def require_text(self) -> None:
        """Raise `Problem` if the message has anything except text, unless it is a reply."""
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
        """The chat's name. `WorkflowChatTransport` may send none; then the first message's id."""
        return self.id or self.messages[0].id

    @property
    def asked(self) -> UiMessage:
        return self.messages[-1]

    @property
    def asks_again(self) -> bool:
        """Whether another reply is wanted to a message that may be stored already."""
        return self.trigger == "regenerate-message" or self.messageId == self.asked.id

    def check(self) -> str:
        """Return the text of the question. Raises `Problem`."""
        if self.asked.role != "user":
            raise LAST
        for message in self.messages:
            message.require_text()
        check_ids(self.messages)
        return checked(self.asked.text)

    def key(self, owner: str, regenerated: str) -> IdempotencyKey:
        """The request's identity. `regenerated` names the reply that is to be written anew."""
        names = [self.chat, self.trigger, self.asked.id, self.messageId or "", regenerated]
        key = sha256("\n".join(names).encode()).hexdigest()
        digest = sha256(f"{key}{self.asked.text}".encode()).hexdigest()
        return IdempotencyKey(owner=owner, route="POST /api/chat", key=key, digest=digest)
