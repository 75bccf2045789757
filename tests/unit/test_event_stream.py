"""The response of an event stream, and what Django's middleware sees of it."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

from streams.http.event_stream import CONNECTION, EventStreamResponse, Write


class Pieces:
    """An iterator of one piece."""

    def __init__(self, piece: bytes) -> None:
        self.rest = [piece]
        self.write: Write | None = None
        self.closed = 0
        self.progress = 0

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self.rest:
            raise StopAsyncIteration
        return self.rest.pop()

    async def aclose(self) -> None:
        self.closed += 1

    def write_with(self, write: Write) -> None:
        self.write = write

    def note_progress(self) -> None:
        self.progress += 1


async def sent_by(response: EventStreamResponse) -> list[Mapping[str, Any]]:
    messages = list[Mapping[str, Any]]()

    async def send(message: Mapping[str, Any]) -> None:
        messages.append(message)

    await response.send(send)
    return messages


async def test_it_sends_its_head_and_each_piece_in_parts() -> None:
    pieces = Pieces(b"a" * 100_000)
    response = EventStreamResponse(pieces, headers={"X-A": "ä"})
    response.set_cookie("b", "c")
    head, *body = await sent_by(response)
    assert head == {
        "type": "http.response.start",
        "status": 200,
        "headers": [
            (b"X-A", "ä".encode("latin-1")),
            (b"Content-Type", b"text/event-stream"),
            (b"Set-Cookie", b"b=c; Path=/"),
        ],
    }
    assert [len(message.get("body", b"")) for message in body] == [65_536, 34_464, 0]
    assert [message.get("more_body", False) for message in body] == [True, True, False]
    assert pieces.progress == 2  # a client that reads slowly, but reads
    assert pieces.closed == 1
    assert not list(response.items())  # nothing of the head is kept


async def test_middleware_can_replace_what_it_sees() -> None:
    response = EventStreamResponse(Pieces(b"a"))
    assert response.is_async
    assert not response.is_replaced
    seen = response.streaming_content

    async def doubled() -> AsyncIterator[bytes]:
        async for piece in seen:
            yield piece * 2

    response.streaming_content = doubled()
    assert response.is_replaced
    assert [piece async for piece in response] == [b"aa"]


def test_pieces_are_written_at_once_only_by_a_server_that_can() -> None:
    def write(chunk: bytes) -> bool:
        return True

    async def send(message: Mapping[str, Any]) -> None: ...

    for extensions, expected in (
        ({}, None),
        ({CONNECTION: {"writer": lambda _: None}}, None),
        ({CONNECTION: {"writer": lambda _: write}}, write),
    ):
        pieces = Pieces(b"a")
        EventStreamResponse(pieces).connect({"extensions": extensions}, send)
        assert pieces.write is expected
