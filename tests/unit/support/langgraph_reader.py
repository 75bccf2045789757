"""A client of LangGraph's wire, which folds its frames."""

import json
from typing import Any
from uuid import UUID

from streams.dialects.langgraph import MODES, STATUS, LangGraphWire, ThreadBefore
from streams.dialects.langgraph_messages import Json, plain_message, reply_messages
from streams.dialects.position import Position
from streams.models import Run
from streams.protocol.events import RunFailed
from streams.protocol.fold import Reply
from tests.support.reply_histories import RUN

ASKED = plain_message("human", "m1", "Why?")
THREAD = ThreadBefore(thread=str(UUID(int=2)), messages=(ASKED,))


class Reader:
    """A client's fold of the frames. It adds up chunks by the id of their message."""

    def __init__(self) -> None:
        self.last: int | None = None
        self.ids: list[int] = []
        self.messages: dict[str, Json] = {}
        self.state: list[Json] | None = None
        self.custom: list[Json] = []
        self.error: Json | None = None
        self.status: str | None = None

    def read(self, frame: bytes) -> None:
        assert self.status is None
        id, event, data, end = frame.split(b"\n", 3)
        assert end == b"\n"
        self.last = int(id.removeprefix(b"id: "))
        self.ids.append(self.last)
        self.hear(event.removeprefix(b"event: ").decode(), json.loads(data[6:]))

    def hear(self, event: str, data: Any) -> None:
        match event:
            case "values":
                self.state = data["messages"]
            case "messages":
                self.add(data[0])
            case "custom":
                self.custom = [one for one in self.custom if not replaces(data, one)] + [data]
            case "error":
                self.error = data
            case "end":
                self.status = data["status"]

    def add(self, message: Json) -> None:
        id = message["id"]
        if message["type"] == "remove":
            self.messages.pop(id, None)
        elif message["type"] == "tool":
            assert id not in self.messages
            self.messages[id] = message
        else:
            add_chunk(self.messages.setdefault(id, plain_message("ai", id, "")), message)


def replaces(data: Json, other: Json) -> bool:
    names = ("type", "name", "id")
    return data.get("id") is not None and all(data.get(n) == other.get(n) for n in names)


def add_chunk(message: Json, chunk: Json) -> None:
    message["content"] += chunk["content"]
    kwargs = message["additional_kwargs"]
    for name, text in chunk["additional_kwargs"].items():
        kwargs[name] = kwargs.get(name, "") + text
    for call in chunk.get("tool_call_chunks", []):
        assert call["index"] == len(message["tool_calls"])
        called = {"name": call["name"], "args": json.loads(call["args"]), "id": call["id"]}
        message["tool_calls"].append({"type": "tool_call", **called})
    message["response_metadata"] |= chunk["response_metadata"]
    if "usage_metadata" in chunk:
        assert "usage_metadata" not in message
        message["usage_metadata"] = chunk["usage_metadata"]


def wire(reader: Reader, modes: tuple[str, ...] = MODES) -> LangGraphWire:
    after = None if reader.last is None else Position.of(reader.last)
    return LangGraphWire(Run(id=RUN), THREAD, modes=modes, after=after)


def expected(now: Reply) -> list[Json]:
    return [*map(dict, reply_messages(now.run, now.attempt, now.parts, now.ending))]


def check(reader: Reader, last: Reply, modes: tuple[str, ...]) -> None:
    assert [*reader.messages.values()] == expected(last)
    if "values" in modes:
        assert reader.state == [ASKED, *expected(last)]
    assert reader.status == STATUS[type(last.ending)]
    failed = isinstance(last.ending, RunFailed)
    assert (reader.error is not None) == failed
