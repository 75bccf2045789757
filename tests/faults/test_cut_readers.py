"""Readers of the npm registry whose connection is cut, at every byte, over two events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio
from yarl import URL

from tests.faults.conftest import Size, Stacks
from tests.support.many_followers import following
from tests.support.npm import Event, events_read_by
from tests.support.ports import HOST
from tests.support.stack import Stack
from tests.support.stack_fixtures import shared_stack
from tests.support.tcp_proxy import Proxy
from tests.support.visitor import Visitor, script
from tests.unit.support.fake_stream import HEAD, OVER, chunk, event_block, fake_stream

pytestmark = pytest.mark.asyncio(loop_scope="module")

READ_WITHIN = 250.0  # seconds for all of one reader's cuts, on a busy machine
CARELESS = "fetch-event-source"  # it does not wait for the end of the block: WHATWG HTML §9.2.6
READERS = ("eventsource", "event-source-polyfill", "undici", CARELESS)
EVENTS = 2


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(stacks: Stacks) -> AsyncIterator[Stack]:
    also = {"STREAM_RETRY": "10,20"}
    async with shared_stack(stacks, also=also) as stack:
        yield stack


@pytest.mark.parametrize("reader", READERS)
async def test_a_client_library_cut_at_any_byte_delivers_every_event_once(
    npm_project: Path, reader: str
) -> None:
    def answer_to(cursor: int | None) -> bytes:
        if cursor == EVENTS:
            return OVER
        blocks = [chunk(event_block(number)) for number in range((cursor or 0) + 1, EVENTS + 1)]
        return b"".join([HEAD, chunk(b"retry: 1\n"), *blocks, b"0\r\n\r\n"])

    answer = answer_to(None)
    sent = [event(event_block(number).decode()) for number in range(1, EVENTS + 1)]
    async with fake_stream(EVENTS, answer=answer_to) as (port, _):
        cuts = range(len(HEAD), len(answer))
        await hears_all(reader, f"http://{HOST}:{port}/", "", answer, cuts, sent, npm_project)


@pytest.mark.parametrize("reader", READERS)
async def test_a_client_library_cut_at_the_service_delivers_every_event_once(
    service: Stack, npm_project: Path, size: Size[int], reader: str
) -> None:
    visitor = await service.visitor()
    url, sent = await last_events(visitor)
    cookies = visitor.credentials()["Cookie"]
    answer = await whole_answer(url, cookies)
    ends = after_ids(answer, sent)
    begin = answer.index(b"\r\n\r\n") + 4
    cuts = {*range(begin, len(answer), size(40, 1)), *ends, *(end + 1 for end in ends)}
    await hears_all(reader, url, cookies, answer, sorted(cuts), sent, npm_project)


async def hears_all(
    reader: str,
    url: str,
    cookies: str,
    answer: bytes,
    cuts: Sequence[int],
    sent: list[Event],
    project: Path,
) -> None:
    """Read each cut of the response over its own proxy, and compare the received events."""
    address = URL(url)
    async with AsyncExitStack() as proxies:
        urls = []
        for cut in cuts:
            proxy = await proxies.enter_async_context(Proxy((HOST, int(address.port or 0))))
            proxy.cut_next_answer_after(cut)
            urls.append(str(address.with_port(proxy.port)))
        heard = await events_read_by(reader, urls, cookies, project, within=READ_WITHIN)
    wrong = {cut: one for cut, one in zip(cuts, heard, strict=True) if one != sent}
    # It takes over an id as soon as it reads the line, one byte before the event is whole.
    careless = after_ids(answer, sent) if reader == CARELESS else []
    missing = [[event for event in sent if event is not lost] for lost in sent]
    assert wrong == dict(zip(careless, missing, strict=bool(careless)))


def after_ids(answer: bytes, sent: list[Event]) -> list[int]:
    """How many bytes of the answer come before the blank line that ends each event."""
    lines = [f"\nid: {id}\n".encode() for _, _, id in sent]
    return [answer.index(line) + len(line) for line in lines]


def event(block: str) -> Event:
    """What a block must be to every reader."""
    fields = dict(line.split(": ", 1) for line in block.strip("\n").split("\n"))
    return fields["event"], fields["data"], fields["id"]


async def last_events(visitor: Visitor) -> tuple[str, list[Event]]:
    """Where the last events of a reply are read, and which those are."""
    asked = await visitor.ask(script(text=["Γειά ", "σου 🙂"]))
    follower = visitor.follower(asked.conversation, cursor=asked.cursor)
    async with following([follower], within=60):
        pass
    blocks = [heard.block for heard in follower.recording.received() if heard.block.id is not None]
    place = blocks[-EVENTS - 1].id
    path = f"/api/conversations/{asked.conversation}/events/?until=idle&lastEventId={place}"
    sent = [event(block.raw.decode()) for block in blocks[-EVENTS:]]
    return f"http://{HOST}:{visitor.port}{path}", sent


async def whole_answer(url: str, cookies: str) -> bytes:
    """The bytes of the stream's answer, as a proxy counts them."""
    address = URL(url)
    reader, writer = await asyncio.open_connection(HOST, address.port)
    try:
        head = [f"GET {address.raw_path_qs} HTTP/1.1", f"Host: {HOST}", f"Cookie: {cookies}"]
        writer.write("\r\n".join([*head, "", ""]).encode())
        async with asyncio.timeout(60):
            return await reader.readuntil(b"\r\n0\r\n\r\n")
    finally:
        writer.close()
        await writer.wait_closed()
