"""Reads a stream of another client's wire as bytes, and says whether its end was orderly."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.support.visitor import Visitor

UNREADABLE = "{"  # the last data behind Pushpin, where the web process broke the stream


@dataclass(kw_only=True)
class StreamRead:
    """The data of each frame that arrived, and whether the response came to its orderly end."""

    status: int
    data: list[str] = field(default_factory=list)
    complete: bool = False

    @property
    def chunks(self) -> list[dict[str, Any]]:
        return [json.loads(one) for one in self.data if one not in ("[DONE]", UNREADABLE)]

    @property
    def text(self) -> str:
        return "".join(one["delta"] for one in self.chunks if one["type"] == "text-delta")

    @property
    def types(self) -> list[str]:
        return [one["type"] for one in self.chunks]


async def read_stream(
    visitor: Visitor,
    method: str,
    path: str,
    *,
    body: object = None,
    after_text: Callable[[], Awaitable[object]] | None = None,
) -> StreamRead:
    """Read to the end. `after_text` is awaited once, when the first text has arrived."""
    async with visitor.http.stream(method, path, json=body, timeout=60) as answer:
        read = StreamRead(status=answer.status_code)
        try:
            async for line in answer.aiter_lines():
                if line.startswith("data: "):
                    read.data.append(line.removeprefix("data: "))
                if after_text and read.data and '"text-delta"' in read.data[-1]:
                    waiting, after_text = after_text, None
                    await waiting()
            read.complete = True
        except (httpx.RemoteProtocolError, httpx.ReadError):
            pass
        return read


def question(text: str, *, chat: str, message: str = "m1", **also: object) -> dict[str, object]:
    """The body of `POST /api/chat` for this text."""
    part = {"type": "text", "text": text}
    messages = [{"id": message, "role": "user", "parts": [part]}]
    return {"id": chat, "messages": messages, "trigger": "submit-message", **also}
