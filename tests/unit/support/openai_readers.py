"""Clients of OpenAI's wires, which fold the frames. They get each frame once."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from streams.models import Run
from streams.protocol.sse import DONE
from tests.support.reply_histories import RUN

MADE = datetime(2026, 1, 2, tzinfo=UTC)


VOID_CALL = ("mcp_call", "incomplete")
TERMINAL = {"response.completed", "response.failed", "response.incomplete"}


def run() -> Run:
    return Run(id=RUN, model="m", created_at=MADE, conversation_id=UUID(int=2), reader=RUN)


def data_of(frame: bytes) -> dict[str, Any]:
    *_, data, end = frame.split(b"\n", 2)
    assert end == b"\n"
    return dict(json.loads(data.removeprefix(b"data: ")))


class ResponseReader:
    """A client of the Responses API, which folds the frames."""

    def __init__(self) -> None:
        self.last: int | None = None
        self.items: dict[int, dict[str, Any]] = {}
        self.final: dict[str, Any] | None = None

    def read(self, frame: bytes) -> None:
        assert self.final is None
        data = data_of(frame)
        assert frame.startswith(f"event: {data['type']}\n".encode())
        assert self.last is None or data["sequence_number"] > self.last
        self.last = data["sequence_number"]
        index: Any = data.get("output_index")
        match data["type"]:
            case "response.output_item.added":
                assert index not in self.items
                self.items[index] = data["item"] | {"so_far": "", "done": False}
            case "response.output_text.delta" | "response.reasoning_text.delta":
                item = self.items[index]
                assert item["id"] == data["item_id"]
                item["so_far"] += data["delta"]
            case "response.output_text.done" | "response.reasoning_text.done":
                assert self.items[index]["so_far"] == data["text"]
            case "response.output_item.done":
                is_void = data["item"]["status"] == "incomplete"
                assert is_void or not self.items[index]["done"]
                self.items[index] = data["item"] | {"done": True}
            case type if type in TERMINAL:
                self.final = data["response"]

    def valid_items(self, *, without_voided_calls: bool = False) -> list[dict[str, Any]]:
        """The items with content. A void item has none."""
        done = [self.items[index] for index in sorted(self.items)]
        assert all(item.pop("done") for item in done)
        if without_voided_calls:
            done = [one for one in done if (one["type"], one["status"]) != VOID_CALL]
        return [item for item in done if item["type"] == "mcp_call" or item["content"]]


class ChatReader:
    """A client of Chat Completions, which folds the frames."""

    def __init__(self) -> None:
        self.text = self.reasoning = ""
        self.finish_reason: str | None = None
        self.usage: dict[str, Any] | None = None
        self.error: dict[str, Any] | None = None
        self.done = False

    def read(self, frame: bytes) -> None:
        assert not self.done
        assert self.error is None
        if frame == DONE:
            self.done = True
            return
        data = json.loads(frame.removeprefix(b"data: "))
        if "error" in data:
            self.error = data["error"]
            return
        for choice in data["choices"]:
            self.text += choice["delta"].get("content", "")
            self.reasoning += choice["delta"].get("reasoning_content", "")
            self.finish_reason = self.finish_reason or choice["finish_reason"]
        self.usage = data["usage"] or self.usage
