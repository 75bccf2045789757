"""The messages of a request in OpenAI's format: the user's question, and the messages before it.

Only text is accepted, and only text is written. Anything else is refused. It is never ignored.
"""

from typing import Any, Literal

from pydantic import BaseModel

from streams.api.schemas import Text
from streams.chat.origin import EarlierMessage
from streams.dialects.text_input import MOST, ONLY_TEXT, checked
from streams.http.problems import Problem


class ResponseFormat(BaseModel):
    """The form of the reply; only text is offered."""

    type: str = "text"


class TextContent(BaseModel):
    """A part of a message's content."""

    type: str
    text: Text | None = None


class InputMessage(BaseModel):
    """One message, of Chat Completions or of the Responses API's `input`."""

    type: str = "message"
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Text | list[TextContent] | None = None
    tool_calls: list[Any] | None = None

    def text(self) -> str:
        """The message's text. Raises `Problem` if the message has anything else."""
        if self.type != "message" or self.role in ("tool", "function") or self.tool_calls:
            raise ONLY_TEXT
        if not isinstance(self.content, list):
            return self.content or ""
        if any(part.text is None for part in self.content):
            raise ONLY_TEXT
        return "".join(part.text or "" for part in self.content)

    def earlier(self) -> EarlierMessage:
        """The message as part of the history. Raises `Problem`."""
        if self.role in ("user", "assistant"):
            return EarlierMessage(role=self.role, text=self.text())
        return EarlierMessage(role="system", text=self.text())


def check_format(format: ResponseFormat | None, field: str) -> None:
    """Raise `Problem`, which names the field, if the reply is to have another form than text."""
    if format and format.type != "text":
        raise Problem(400, "not_offered", f"Only text is written: send no `{field}`.")


def split(messages: list[InputMessage]) -> tuple[tuple[EarlierMessage, ...], str]:
    """The history and the question. Raises `Problem`."""
    if not messages or len(messages) > MOST:
        raise Problem(422, "invalid_request", f"Send 1 to {MOST} messages.")
    *before, last = messages
    if last.role != "user":
        raise Problem(422, "invalid_request", "The last message must be the user's.")
    return tuple(one.earlier() for one in before), checked(last.text())
