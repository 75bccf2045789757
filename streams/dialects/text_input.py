"""The checks of requests that all dialects share: names, text, and no tools."""

from typing import Annotated

from django.conf import settings
from pydantic import BeforeValidator, Field

from streams.api.schemas import TOO_LONG
from streams.http.problems import Problem
from streams.protocol.sse import clean

MOST = 1000  # messages of one request that can be stored
ONLY_TEXT = Problem(422, "invalid_request", "Only text can be sent in a message.")
LAST = Problem(422, "invalid_request", "The last message has to be one of the user.")
NO_TOOLS = "The tools are those of the service's own agents. Send none."


def cleaned(value: object) -> object:
    return clean(value) if isinstance(value, str) else value


# `Field` comes first, because after a `BeforeValidator` pydantic's messages count "items".
Name = Annotated[str, Field(min_length=1, max_length=200), BeforeValidator(cleaned)]


def checked(text: str) -> str:
    """The user's message. Raises `Problem` if it is empty or too long."""
    if len(text) > settings.MAX_MESSAGE_CHARS:
        detail = f"At most {settings.MAX_MESSAGE_CHARS} characters are taken."
        raise Problem(422, TOO_LONG, detail)
    if not text.strip():
        raise Problem(422, "invalid_request", "There must be something in the message.")
    return text


def no_tools(*sent: object) -> None:
    """Raise `Problem` if the client sends tools."""
    if any(sent):
        raise Problem(400, "tools_not_taken", NO_TOOLS)
