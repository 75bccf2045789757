"""A reader that rests between reads leaves the model's packets in the kernel until it goes on."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from aiohttp.client_proto import ResponseHandler

from tests.unit.support.model_response import DONE, STOP, content_chunk
from workers.generators.base import generate
from workers.generators.openai import close_client
from workers.generators.sse_lines import READS
from workers.prompt.messages import PromptMessage

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
WITHIN = 20.0  # seconds, on a busy machine
PACKETS = 20  # that the model sends while the reader rests
Send = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def model(settings: Any, send: Send) -> AsyncIterator[None]:
    """A model server that answers one request by `send`."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        writer.write(HEAD)
        try:
            await send(reader, writer)
        finally:
            writer.close()

    listening = await asyncio.start_server(answer, "127.0.0.1", 0)
    settings.EMBEDDED_MODEL, settings.MODEL_MAX_TRIES = False, 1
    settings.OPENAI_BASE_URL = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
    async with listening:
        yield
        await close_client()


def words() -> Any:
    return generate([PromptMessage("user", "hello")], model="test")


async def tire(writer: asyncio.StreamWriter) -> None:
    """Send what makes the reader rest, as packets of their own."""
    for n in range(READS):
        writer.write(content_chunk(f"a{n} "))
        await writer.drain()
        await asyncio.sleep(0.02)


async def test_the_packets_of_a_rest_are_received_in_one_read(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DELTA_WINDOW = 3.0  # so a rest ends 1.5 s after the first read
    receive, sizes = ResponseHandler.data_received, list[int]()

    def counted(handler: ResponseHandler, data: bytes) -> None:
        sizes.append(len(data))
        receive(handler, data)

    async def send(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await tire(writer)
        for n in range(PACKETS):
            writer.write(content_chunk(f"b{n} "))
            await writer.drain()
            await asyncio.sleep(0.01)
        writer.write(STOP + DONE)

    monkeypatch.setattr(ResponseHandler, "data_received", counted)
    async with asyncio.timeout(WITHIN), model(settings, send):
        said = [item async for item in words() if isinstance(item, str)]
    first = [f"a{n} " for n in range(READS)]
    assert "".join(said) == "".join(first + [f"b{n} " for n in range(PACKETS)])
    arrived = [size for size in sizes if size]
    assert len(arrived) < READS + PACKETS / 2, "each packet was received when it arrived"


async def test_a_reply_that_is_cancelled_during_a_rest_closes_its_connection(settings: Any) -> None:
    settings.DELTA_WINDOW = 4 * WITHIN
    closed = asyncio.Event()

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await tire(writer)
        assert await reader.read() == b""
        closed.set()

    async def hear() -> None:
        async with aclosing(words()) as items:
            async for _ in items:
                heard.release()

    heard = asyncio.Semaphore(0)
    async with asyncio.timeout(WITHIN), model(settings, send):
        task = asyncio.create_task(hear())
        for _ in range(READS):
            await heard.acquire()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await closed.wait()
