"""A model's streamed response without a network: bytes, silences and faults, in order."""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass, field
from typing import Any, cast

import httpx2

from streams.protocol.events import Usage
from workers.generators.errors import ModelError
from workers.generators.reply_stream import ReplyStream
from workers.generators.sse_lines import LineReader

DONE = b"data: [DONE]\n\n"
Part = bytes | float | Exception


@dataclass
class Response:
    """Gives its parts in turn: bytes, seconds of silence, or an exception."""

    parts: Iterable[Part]
    headers: dict[str, str] = field(default_factory=dict)

    async def aiter_raw(self) -> AsyncGenerator[bytes, None]:
        for part in self.parts:
            match part:
                case bytes():
                    yield part
                case Exception():
                    raise part
                case seconds:
                    await asyncio.sleep(seconds)


@dataclass(frozen=True)
class Reply:
    """The reply that was read from a response. `code` is that of its error, or None."""

    text: str = ""
    reasoning: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    code: str | None = None


def line_reader(parts: Iterable[Part], patience: float = 60) -> LineReader:
    return LineReader(cast(httpx2.Response, Response(parts)), patience=patience)


async def read(*parts: Part, patience: float = 60) -> Reply:
    """Read the whole reply from a response with these parts."""
    texts, thoughts, reason, usage, code = [], [], None, None, None
    try:
        async for chunk in ReplyStream(line_reader(parts, patience)).read():
            texts.append(chunk.text)
            thoughts.append(chunk.reasoning)
            reason = chunk.finish_reason or reason
            usage = chunk.usage or usage
    except ModelError as fault:
        code = fault.code
    return Reply("".join(texts), "".join(thoughts), reason, usage, code)


def event(body: object) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def chunk(finish_reason: object = None, **delta: Any) -> bytes:
    """One chunk of OpenAI's stream."""
    return event({"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]})


def content_chunk(content: Any, finish_reason: object = None) -> bytes:
    return chunk(finish_reason, content=content)


STOP = chunk("stop")
HELLO = content_chunk("Hel") + content_chunk("lo")
WHOLE = HELLO + STOP
