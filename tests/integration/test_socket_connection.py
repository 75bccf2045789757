"""The bounds of a WebSocket's connection, with a small application behind it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.frames import Frame, Opcode

from config.socket_connection import FRAGMENTS, WAITING, SocketConnection
from tests.integration.support.serving import serving

END = "end"  # the message at which the application closes the socket, as it does at WITHIN
WITHIN = 5.0  # seconds


async def application(_: Any, receive: Any, send: Any) -> None:
    """Sends each message back."""
    await receive()
    await send({"type": "websocket.accept"})
    with suppress(TimeoutError):
        async with asyncio.timeout(WITHIN):
            while (text := (await receive()).get("text", END)) != END:
                await send({"type": "websocket.send", "text": text})
    await send({"type": "websocket.close", "code": 1000, "reason": "left open"})


@asynccontextmanager
async def connected(**options: Any) -> AsyncIterator[ClientConnection]:
    async with serving(application, ws=SocketConnection, **options) as port:
        url = f"ws://127.0.0.1:{port}/api/conversations/x/socket/"
        async with connect(url, proxy=None, compression=None, max_queue=None) as client:
            yield client


def frame(opcode: Opcode, data: bytes, *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin=fin).serialize(mask=True)


async def closed(client: ClientConnection) -> tuple[int | None, str | None]:
    """Wait for the close; its code and reason."""
    await client.wait_closed()
    return client.close_code, client.close_reason


async def test_text_that_is_not_utf8_closes_the_socket() -> None:
    async with connected() as client:
        client.transport.write(frame(Opcode.TEXT, b"\xff"))
        assert await closed(client) == (1007, "not UTF-8")


async def test_a_character_may_be_in_two_fragments() -> None:
    first, second = "é".encode()[:1], "é".encode()[1:]
    async with connected() as client:
        client.transport.write(frame(Opcode.TEXT, first, fin=False) + frame(Opcode.CONT, second))
        assert await client.recv() == "é"


async def test_a_message_has_a_bounded_number_of_fragments() -> None:
    part = frame(Opcode.CONT, b"", fin=False)
    async with connected() as client:
        client.transport.write(
            frame(Opcode.TEXT, b"", fin=False) + part * FRAGMENTS + frame(Opcode.CONT, END.encode())
        )
        assert await closed(client) == (1009, "too many fragments")


async def test_a_bounded_number_of_messages_waits() -> None:
    async with connected() as client:
        client.transport.write(
            frame(Opcode.TEXT, b"{}") * WAITING + frame(Opcode.TEXT, END.encode())
        )
        assert await closed(client) == (4429, "wait for the responses")


async def test_a_message_whose_fragments_do_not_arrive_closes_the_socket(settings: Any) -> None:
    settings.CONNECTION_TIMEOUT = 0.1
    async with connected() as client:
        client.transport.write(frame(Opcode.TEXT, b"{", fin=False))
        assert await closed(client) == (4408, "the rest of a message did not arrive")


async def test_a_frame_whose_rest_does_not_arrive_closes_the_socket(settings: Any) -> None:
    settings.CONNECTION_TIMEOUT = 0.1
    async with connected() as client:
        client.transport.write(frame(Opcode.TEXT, b"{}")[:-1])
        assert await closed(client) == (4408, "the rest of a message did not arrive")


async def test_a_client_that_answers_no_ping_is_disconnected() -> None:
    async with connected(ws_ping_interval=0.05, ws_ping_timeout=0.1) as client:
        send = client.protocol.send_frame

        def send_no_pong(one: Frame) -> None:
            if one.opcode is not Opcode.PONG:
                send(one)

        client.protocol.send_frame = send_no_pong  # type: ignore[method-assign]
        assert await closed(client) == (4408, "no pong")


async def test_a_message_has_a_bounded_size() -> None:
    async with connected(ws_max_size=100) as client:
        client.transport.write(frame(Opcode.TEXT, b"x" * 101))
        assert (await closed(client))[0] == 1009
