"""Writes the pieces of a reply into the log, as a worker's attempt does."""

from typing import Any

from streams.log.channel_log import ChannelLog
from streams.log.values import Append, Page
from streams.protocol.events import PartAdded, Piece, ReasoningDelta, TextDelta
from streams.protocol.fold import Reply
from streams.protocol.parts import (
    DataPart,
    Part,
    ReasoningPart,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    add_part,
)
from streams.protocol.sse import decode
from tests.support.fold import ConversationState, fold
from workers.reply_parts import ReplyParts

CALL = ToolCallPart(call="c1", name="clock", input={"zone": "UTC", "deep": {"a": [1, None]}})
RESULT = ToolResultPart(call="c1", output=None)
PROGRESS = DataPart(name="progress", data=1, id="p")
PIECES: list[Part] = [
    ReasoningPart(text="Hm. "),
    TextPart(text="So "),
    PROGRESS,
    TextPart(text="it is "),
    CALL,
    RESULT,
    DataPart(name="progress", data=2, id="p"),
    TextPart(text="late.\u2028"),
    SourcePart(source="s", title="Time"),
]


class Writer:
    """Writes the pieces of one reply as the worker's attempt does."""

    def __init__(self, channel: str, run: Any, attempt: int = 1) -> None:
        self.channel, self.run, self.attempt = channel, run, attempt
        self.reply, self.index = ReplyParts(10**9), 0

    def append_of(self, part: Part) -> Append:
        place = {"run": self.run, "attempt": self.attempt, "index": self.index}
        self.index += 1
        event: Piece
        match part:
            case TextPart(text=text):
                event, write = TextDelta(**place, text=text), self.reply.add_text(TextPart, text)
            case ReasoningPart(text=text):
                event = ReasoningDelta(**place, text=text)
                write = self.reply.add_text(ReasoningPart, text)
            case whole:
                event, write = PartAdded(**place, part=whole), self.reply.add_part(whole)
        return Append(channel=self.channel, event=event, write=write, min_head=0)


def folded(pieces: list[Part]) -> tuple[Part, ...]:
    parts: tuple[Part, ...] = ()
    for piece in pieces:
        parts = add_part(parts, piece)
    return parts


def reply_in(log: ChannelLog, run: Any, after: int = 0) -> Reply:
    page = log.read_after(after)
    assert isinstance(page, Page)
    state = ConversationState()
    for _, type, data in page.entries:
        state = fold(state, decode(type, data))
    return state.replies[run]
