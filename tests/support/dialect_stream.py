"""Reads a stream of another client's wire as bytes, and says whether its end was orderly."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx

from tests.support.visitor import Visitor

TEXT = ("text-delta", "response.output_text.delta", "TEXT_MESSAGE_CONTENT")
UNREADABLE = "{"  # the last data behind Pushpin if the web process broke the stream


@dataclass(kw_only=True)
class StreamRead:
    """The data of each frame that arrived, and whether the response came to its orderly end."""

    status: int
    data: list[str] = field(default_factory=list)
    complete: bool = False

    @property
    def chunks(self) -> list[Any]:
        return [json.loads(one) for one in self.data if one not in ("[DONE]", UNREADABLE)]

    @property
    def text(self) -> str:
        return "".join(map(text_of, self.chunks))

    @property
    def takes_back(self) -> bool:
        """Whether a frame says that earlier text is void. Then `text` is not the reply's text."""
        return any(map(takes_back, self.chunks))

    @property
    def run(self) -> str:
        """The run's id, which is in the first frame of each wire."""
        match self.chunks[0]:
            case {"messageId": str(run)} | {"metadata": {"run": str(run)}} | {"run_id": str(run)}:
                return run
            case {"response": {"id": id}} | {"id": id}:
                return str(id).removeprefix("resp_").removeprefix("chatcmpl-")
        raise AssertionError(self.data[0])

    @property
    def types(self) -> list[str]:
        return [one["type"] for one in self.chunks]


def text_of(chunk: Any) -> str:
    """The text that this frame adds, in any wire."""
    match chunk:
        case {"type": type, "delta": text} if type in TEXT:
            return str(text)
        case [{"type": "AIMessageChunk", "content": str(text)}, _]:
            return text
        case {"choices": [{"delta": {"content": str(text)}}]}:
            return text
    return ""


def takes_back(chunk: Any) -> bool:
    match chunk:
        case {"error": _} | {"type": "MESSAGES_SNAPSHOT"} | [{"type": "remove"}, _]:
            return True
        case {"type": "response.output_item.done", "item": {"status": "incomplete"}}:
            return True
    return False


@dataclass(frozen=True, kw_only=True)
class Wire:
    """A wire whose streams the tests break. Add a new wire to `WIRES`.

    `back` is the path at which the run's stream can be read again, in this or another wire.
    """

    name: str
    path: str
    body: Callable[[str], dict[str, object]]
    back: str
    deleted: int  # the status of `back` when the conversation is deleted


async def read_stream(
    visitor: Visitor,
    method: str,
    path: str,
    *,
    body: object = None,
    after_text: Callable[[StreamRead], Awaitable[object]] | None = None,
) -> StreamRead:
    """Read the stream to its end. `after_text` is awaited once, when the first text has arrived."""
    async with visitor.http.stream(method, path, json=body, timeout=60) as answer:
        read = StreamRead(status=answer.status_code)
        try:
            async for line in answer.aiter_lines():
                if line.startswith("data: "):
                    read.data.append(line.removeprefix("data: "))
                if after_text and read.chunks and text_of(read.chunks[-1]):
                    waiting, after_text = after_text, None
                    await waiting(read)
            read.complete = True
        except (httpx.RemoteProtocolError, httpx.ReadError):
            pass
        return read


def question(text: str, *, chat: str, message: str = "m1", **also: object) -> dict[str, object]:
    """The body of `POST /api/chat` for this text."""
    part = {"type": "text", "text": text}
    messages = [{"id": message, "role": "user", "parts": [part]}]
    return {"id": chat, "messages": messages, "trigger": "submit-message", **also}


def _asked(text: str) -> dict[str, object]:
    return question(text, chat=uuid4().hex)


def _responses(text: str) -> dict[str, object]:
    return {"model": "scripted", "input": text, "background": True, "stream": True}


def _completions(text: str) -> dict[str, object]:
    messages = [{"role": "user", "content": text}]
    return {"model": "scripted", "messages": messages, "stream": True}


def _ag_ui(text: str) -> dict[str, object]:
    messages = [{"id": "m1", "role": "user", "content": text}]
    return {"threadId": uuid4().hex, "runId": uuid4().hex, "messages": messages}


def _langgraph(text: str) -> dict[str, object]:
    input = {"messages": [{"type": "human", "content": text}]}
    return {"assistant_id": "agent", "input": input, "stream_mode": ["messages-tuple"]}


RESPONSE = "/v1/responses/resp_{run}?stream=true"
WIRES = [
    Wire(name="ai-sdk", path="/api/chat", body=_asked, back="/api/chat/{run}/stream", deleted=204),
    Wire(name="responses", path="/v1/responses", body=_responses, back=RESPONSE, deleted=404),
    Wire(
        name="chat-completions",
        path="/v1/chat/completions",
        body=_completions,
        back=RESPONSE,
        deleted=404,
    ),
    Wire(name="ag-ui", path="/ag-ui", body=_ag_ui, back=RESPONSE, deleted=404),
    Wire(name="langgraph", path="/runs/stream", body=_langgraph, back=RESPONSE, deleted=404),
]
