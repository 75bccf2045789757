"""The items of a reply from a chat model or an agent: pieces, then one completion."""

from dataclasses import dataclass

from streams.protocol.events import Usage
from streams.protocol.parts import ReasoningPart, WholePart


@dataclass(frozen=True, slots=True)
class Completion:
    """The end of the reply. `usage` is None if the model server sent no token counts."""

    finish_reason: str
    usage: Usage | None


# A string is a piece of the reply's text, never empty.
ReplyItem = str | ReasoningPart | WholePart | Completion
