"""A model's stream over a real connection: what real servers send, and what hostile ones do."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from streams.protocol.events import Usage
from streams.protocol.parts import ReasoningPart
from tests.unit.support.model_response import DONE, STOP, chunk, content_chunk, event
from workers.generators import reply_stream, retry
from workers.generators.base import ModelError, generate
from workers.generators.openai import close_client
from workers.prompt.messages import PromptMessage
from workers.reply_items import Completion

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
Speak = Callable[[asyncio.StreamWriter, str], Coroutine[Any, Any, None]]


@asynccontextmanager
async def server(speak: Speak) -> AsyncIterator[str]:
    """A server that answers each request by `speak`, with the request's text."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            request = (await reader.readexactly(length)).decode()
            writer.write(HEAD)
            await speak(writer, request)
        except ConnectionError:
            pass  # the client has closed its request
        finally:
            writer.close()

    listening = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"


@pytest.fixture(autouse=True)
async def _client(settings: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    settings.EMBEDDED_MODEL = False
    settings.MODEL_MAX_TRIES = 1
    settings.MODEL_READ_TIMEOUT = 60.0
    monkeypatch.setattr(retry, "FIRST_PAUSE", 0.01)
    yield
    await close_client()


async def hear(message: str = "hello") -> tuple[str, str, Completion | str]:
    """Text, reasoning, and the end: a Finish, or the fault's code."""
    texts, thoughts = [], []
    end: Completion | str = "nothing"
    try:
        async for one in generate([PromptMessage("user", message)], model="test"):
            match one:
                case str(text):
                    texts.append(text)
                case ReasoningPart(text=reasoning):
                    thoughts.append(reasoning)
                case Completion() as finish:
                    end = finish
    except ModelError as fault:
        end = fault.code
    return "".join(texts), "".join(thoughts), end


async def heard_of(settings: Any, *parts: bytes | float) -> tuple[str, str, Completion | str]:
    async def speak(writer: asyncio.StreamWriter, request: str) -> None:
        for part in parts:
            if isinstance(part, bytes):
                writer.write(part)
                await writer.drain()
            else:
                await asyncio.sleep(part)

    async with server(speak) as settings.OPENAI_BASE_URL:
        return await hear()


STOPPED = Completion("stop", None)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        pytest.param(
            [b'data:{"choices":[{"delta":{"content":"Hello"},"finish_reason":"stop"}]}\n\n'],
            ("Hello", "", STOPPED),
            id="no space, no DONE",
        ),
        pytest.param(
            [
                content_chunk(
                    [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}]
                ),
                content_chunk([{"type": "text", "text": "Hello"}]),
                STOP,
                DONE,
            ],
            ("Hello", "Hm.", STOPPED),
            id="lists of parts",
        ),
        pytest.param(
            [chunk(reasoning={"content": "Hm."}), content_chunk("Hello"), STOP],
            ("Hello", "Hm.", STOPPED),
            id="an object as reasoning",
        ),
        pytest.param(
            [
                content_chunk("Hello"),
                STOP,
                event({"usage": {"input_tokens": 5, "output_tokens": 2}}),
                DONE,
            ],
            (
                "Hello",
                "",
                Completion(
                    "stop", Usage(input_tokens=5, output_tokens=2, total_tokens=7, estimated=False)
                ),
            ),
            id="other names of the counts",
        ),
        *[
            pytest.param(
                [
                    content_chunk("Hello"),
                    STOP,
                    event({"usage": {"prompt_tokens": 7, "completion_tokens": count}}),
                    DONE,
                ],
                ("Hello", "", STOPPED),
                id=f"a count of {count}",
            )
            for count in (None, -1, 1.5, "7", [1], 10**19)
        ],
        pytest.param(
            [content_chunk("Hello"), b"data: " + b"[" * 200_000 + b"\n\n", STOP, DONE],
            ("Hello", "", "model_interrupted"),
            id="nested too deeply",
        ),
        pytest.param(
            [
                content_chunk("\ud83d"),
                content_chunk("\ude00\ud83d"),
                content_chunk("!"),
                content_chunk("\ud83d"),
                STOP,
            ],
            ("\U0001f600\ufffd!\ufffd", "", STOPPED),
            id="halves of characters",
        ),
        pytest.param(
            [content_chunk("Half", "error"), DONE],
            ("Half", "", "model_error"),
            id="an error as the reason",
        ),
    ],
)
async def test_the_streams_of_real_servers_are_read(
    settings: Any, parts: list[bytes], expected: tuple[str, str, Completion | str]
) -> None:
    assert await heard_of(settings, *parts) == expected


async def test_a_finish_reason_on_every_chunk_does_not_cut_the_reply(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reply_stream, "LAST_WORDS", 0.05)
    parts = [content_chunk("The answer is ", "stop"), 0.5, content_chunk("42.", "stop"), DONE]
    assert await heard_of(settings, *parts) == ("The answer is 42.", "", STOPPED)


async def test_replies_whose_lines_never_end_do_not_hold_up_another(settings: Any) -> None:
    flood, sent = b"x" * 65536, []

    async def speak(writer: asyncio.StreamWriter, request: str) -> None:
        if "calm" in request:
            for n in range(50):
                writer.write(content_chunk(f"{n} "))
                await writer.drain()
                await asyncio.sleep(0)
            writer.write(STOP + DONE)
            return
        writer.write(b'data: {"choices":[{"delta":{"content":"')
        sent.append(0)
        mine = len(sent) - 1
        while True:  # until the client closes
            writer.write(flood)
            await writer.drain()
            sent[mine] += len(flood)
            assert sent[mine] < 15_000_000, "the client takes a line of any length"

    async with server(speak) as settings.OPENAI_BASE_URL:
        floods = [asyncio.ensure_future(hear(f"flood {n}")) for n in range(20)]
        text, _, end = await asyncio.wait_for(hear("calm"), 30)
        assert (text, end) == ("".join(f"{n} " for n in range(50)), STOPPED)
        ends = await asyncio.wait_for(asyncio.gather(*floods), 30)
    assert ends == [("", "", "model_interrupted")] * 20
