"""Hostile cursors and wrong methods: a response in time, no 5xx, and no foreign event."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.faults.conftest import Size, Stacks
from tests.support.many_followers import following
from tests.support.ports import HOST
from tests.support.sse_blocks import Splitter
from tests.support.stack import Stack
from tests.support.stack_fixtures import shared_stack
from tests.support.visitor import AcceptedRun, Visitor, script

pytestmark = pytest.mark.asyncio(loop_scope="module")

ANSWER_WITHIN = 10.0  # seconds
AT_ONCE = 20  # requests
Answer = tuple[int, bytes]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(stacks: Stacks) -> AsyncIterator[Stack]:
    async with shared_stack(stacks) as stack:
        yield stack


async def raw(visitor: Visitor, request: bytes) -> Answer:
    """The status (0: closed without one) and what came of the body within the first second."""
    reader, writer = await asyncio.open_connection(HOST, visitor.port, limit=1_048_576)
    try:
        async with asyncio.timeout(ANSWER_WITHIN):
            try:
                writer.write(request)
                await writer.drain()
                head = await reader.readuntil(b"\r\n\r\n")
            except (ConnectionError, asyncio.IncompleteReadError):
                return 0, b""  # refused before it was read: a header of a megabyte
        found = re.match(rb"HTTP/1\.1 (\d{3})", head)
        assert found, head[:80]
        body = b""
        if found[1] == b"200":
            async with asyncio.timeout(ANSWER_WITHIN):
                while b"\n\n" not in body.partition(b"\n\n")[2]:
                    portion = await reader.read(65_536)
                    if not portion:
                        break
                    body += portion
        return int(found[1]), body
    finally:
        writer.transport.abort()


def request(visitor: Visitor, conversation: str, query: bytes, headers: list[bytes]) -> bytes:
    path = f"/api/conversations/{conversation}/events/?until=idle".encode() + query
    lines = [b"GET " + path + b" HTTP/1.1", b"Host: " + HOST.encode()]
    lines += [f"{name}: {value}".encode() for name, value in visitor.credentials().items()]
    return b"\r\n".join([*lines, *headers, b"Connection: close", b"", b""])


def hostile(chance: random.Random, other: AcceptedRun, tip: int) -> bytes:
    """One cursor of a kind that no friendly client would send."""
    kind = chance.randrange(10)
    number = chance.choice([tip + 1, tip + 10**6, 2**53, 2**63, 2**64, 10**30, -1, -tip])
    match kind:
        case 0:
            return bytes([chance.randrange(256)])
        case 1:
            return chance.randbytes(chance.randrange(1, 60))
        case 2:
            return str(number).encode()
        case 3:
            return f"conversation-{other.conversation}:{chance.choice([0, number, 5])}".encode()
        case 4:
            return chance.choice([b"x:abc", b":", b"::", b"1:2:3", b":5", b"5:", b"%3A", b"+5"])
        case 5:
            return chance.choice([b"0x10", b"1e3", b"1.5", b"NaN", b"inf", b"1_000", b" 5 ", b"00"])
        case 6:
            return "".join(chance.choices("٣५７²①", k=3)).encode()
        case 7:
            return f"{other.conversation}:{number}".encode()
        case 8:
            return chance.choice([b"9", b"a", b"\xff", b"%00", b":"]) * chance.choice([100, 8000])
        case _:
            return chance.choice([b"null", b"undefined", b"{}", b"'; --", b"../", b"\x00", b"*"])


def in_header(cursor: bytes) -> bytes:
    return b"Last-Event-ID: " + re.sub(rb"[\r\n\0]", b"", cursor)


def in_query(cursor: bytes) -> bytes:
    return b"&lastEventId=" + b"".join(b"%%%02X" % byte for byte in cursor)


async def test_no_cursor_breaks_the_stream_or_shows_foreign_events(
    service: Stack, size: Size[int], chance: random.Random
) -> None:
    visitor, stranger = await service.visitor(), await service.visitor()
    asked = await visitor.ask(script(tokens=5, seed="own"))
    other = await stranger.ask(script(tokens=5, seed="foreign"))
    for one, whose in ((asked, visitor), (other, stranger)):
        async with following([whose.follower(one.conversation)], within=30):
            pass
    snapshot = await visitor.conversation(asked.conversation)
    foreign = [other.conversation, other.run, other.message]

    async def attempts(count: int) -> None:
        for _ in range(count):
            headers, query = [], b""
            cursor = hostile(chance, other, snapshot["cursor"])
            if chance.random() < 0.5:
                query = in_query(cursor)
            else:
                headers.append(in_header(cursor))
            if chance.random() < 0.1:
                headers.append(in_header(hostile(chance, other, snapshot["cursor"])))
            status, body = await raw(visitor, request(visitor, asked.conversation, query, headers))
            told = (cursor[:80], status, body[:300])
            assert status in (0, 200, 204, 400, 414, 431), told
            assert not any(name.encode() in body for name in foreign), told

    await asyncio.gather(*(attempts(size(2_000, 10_000) // AT_ONCE) for _ in range(AT_ONCE)))
    huge = b"9" * 1_048_576
    for query, headers in ((b"", [in_header(huge)]), (b"&lastEventId=" + huge, [])):
        status, _ = await raw(visitor, request(visitor, asked.conversation, query, headers))
        # Read at all, it is a number from the future: a reset, which is a 200.
        assert status in (0, 200, 400, 413, 414, 431), status
    again = visitor.follower(asked.conversation)
    async with following([again], within=30):
        pass
    assert again.recording.whole, "the process did not survive"


@pytest.mark.parametrize("form", ["{cursor}", "conversation-{id}:{cursor}"])
async def test_a_valid_cursor_in_either_form_gets_the_events_after_it(
    service: Stack, form: str
) -> None:
    visitor = await service.visitor()
    asked = await visitor.ask(script(tokens=5, seed=1))
    async with following([visitor.follower(asked.conversation)], within=30):
        pass
    cursor = form.format(id=asked.conversation, cursor=asked.cursor)
    for query, headers in (
        (in_query(cursor.encode()), []),
        (b"", [in_header(cursor.encode())]),
    ):
        status, body = await raw(visitor, request(visitor, asked.conversation, query, headers))
        assert status == 200
        assert b"stream-reset" not in body
        assert f"id: {int(str(asked.cursor)) + 1}\n".encode() in body


async def test_every_method_on_the_stream_has_a_finite_and_correct_answer(service: Stack) -> None:
    visitor = await service.visitor()
    asked = await visitor.ask(script(tokens=2000, rate=20, seed=1))
    path = f"/api/conversations/{asked.conversation}/events/"
    for method in ("POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"):
        answer = await visitor.http.request(method, path, timeout=ANSWER_WITHIN)
        assert answer.status_code == 405, (method, answer.status_code)
        assert "GET" in answer.headers["allow"], method
    options = await visitor.http.options(path, timeout=ANSWER_WITHIN)
    assert options.status_code in (200, 204, 405)
    head = await visitor.http.head(path, timeout=ANSWER_WITHIN)
    assert head.status_code in (200, 405)
    assert head.content == b""
    status, body = await raw(visitor, request(visitor, asked.conversation, b"", []))
    assert status == 200
    assert Splitter().feed(body) or b"conversation.snapshot" in body
    await visitor.cancel(asked.run)
