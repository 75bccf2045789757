"""A model's stream is read by the rules of Server-Sent Events, within bounds."""

import json
from itertools import pairwise
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from streams.protocol.events import Usage
from tests.unit.support.model_response import (
    DONE,
    HELLO,
    STOP,
    WHOLE,
    Reply,
    chunk,
    content_chunk,
    read,
)
from workers.generators import sse_lines
from workers.generators.sse_events import EventJoiner, Signal


def usage(read: int, written: int) -> Usage:
    return Usage(
        input_tokens=read, output_tokens=written, total_tokens=read + written, estimated=False
    )


ODD = (
    b"\xef\xbb\xbf: a comment\r\n\r\n"
    b"event: message\r\nid: 1\r\nretry: 5\r\n"
    b'data:{"choices":[{"index":0,\rdata: "delta":{"content":"H\xc3\xa9"}}]}\r\r'
    b'data: {"choices":[{"delta":{"content":"l"}}]}\n'
    b'data: {"choices":[{"delta":{"content":"l"}}]}\n\n\r\n'
    b'data:  {"choices":[{"delta":{"content":"\\ud83d"}}]} \r\n\r\n'
    b'data: {"choices":[{"delta":{"content":"\\ude00","reasoning":{"text":"Hm."}}}]}\r\n\r\n'
    b'data: {"choices":[{"delta":{},"finish_reason":"stop"}],\r\n'
    b'data: "usage":{"input_tokens":5,"output_tokens":2}}\r\n\r\ndata: [DONE] \r\n\r\n'
)
WHAT_ODD_SAYS = Reply("H\u00e9ll\U0001f600", "Hm.", "stop", usage(5, 2))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(
            b'data:{"choices":[{"index":0,"delta":{"content":"Hello"},"finish_reason":"stop"}]}'
            b"\n\ndata:[DONE]\n\n",
            id="no space",
        ),
        pytest.param(WHOLE + b"data:  [DONE]\n\n", id="two spaces before DONE"),
        pytest.param(WHOLE + b"data: [DONE] \n\n", id="a space after DONE"),
        pytest.param(
            b'data: {"choices":[{"index":0,\ndata: "delta":{"content":"Hello"},'
            b'"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n',
            id="one object in two lines",
        ),
        pytest.param(
            (HELLO + STOP + DONE).replace(b"\n\n", b"\n"), id="no empty line between the objects"
        ),
        pytest.param(b"\xef\xbb\xbf" + WHOLE + DONE, id="byte order mark"),
        pytest.param((WHOLE + DONE).replace(b"\n", b"\r"), id="CR"),
        pytest.param((WHOLE + DONE).replace(b"\n", b"\r\n"), id="CR LF"),
        pytest.param(WHOLE + DONE.rstrip(), id="no line end after DONE"),
        pytest.param(b": ping\n\ndata\n\ndata:\n\n" + WHOLE + DONE, id="nothing said"),
        pytest.param(
            b"\n".join(
                b"data: " + line
                for line in json.dumps(
                    {"choices": [{"delta": {"content": "Hello"}, "finish_reason": "stop"}]},
                    indent=1,
                )
                .encode()
                .split(b"\n")
            )
            + b"\n\n"
            + DONE,
            id="indented JSON",
        ),
    ],
)
async def test_a_stream_is_parsed_by_the_rules_of_sse(body: bytes) -> None:
    assert await read(body) == Reply("Hello", finish_reason="stop")
    assert await read(*[bytes([byte]) for byte in body]) == Reply("Hello", finish_reason="stop")


async def test_a_stream_is_read_the_same_when_split_at_any_byte() -> None:
    assert await read(ODD) == WHAT_ODD_SAYS
    for cut in range(len(ODD) + 1):
        assert await read(ODD[:cut], ODD[cut:]) == WHAT_ODD_SAYS, cut


@given(cuts=st.sets(st.integers(0, len(ODD))))
async def test_a_stream_is_read_the_same_when_split_into_any_parts(cuts: set[int]) -> None:
    assert await read(*[ODD[a:b] for a, b in pairwise([0, *sorted(cuts), len(ODD)])]) == (
        WHAT_ODD_SAYS
    )


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 200_000,
        b'{"choices":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        b'{"choices":[{"delta":{"content":42}}]}',
        b'{"choices":[{"delta":[1]}]}',
        b'{"choices":{"0":{}}}',
        b'{"choices":[null]}',
        b"null",
        b"17",
    ],
)
async def test_data_that_is_not_a_chunk_is_an_interruption(data: bytes) -> None:
    body = b"data: " + data + b"\n\n"
    assert await read(HELLO, body, STOP) == Reply("Hello", code="model_interrupted")
    assert await read(WHOLE, body, DONE) == Reply("Hello", finish_reason="stop")


async def test_a_line_or_an_event_can_be_as_long_as_the_bound(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.DELTA_WINDOW = 0  # otherwise the reader rests between reads of single bytes
    long = content_chunk("x" * 2000)
    monkeypatch.setattr(sse_lines, "LONGEST_LINE", len(long.rstrip()))
    assert (await read(long, STOP)).text == "x" * 2000
    for body in (b": " + long, b"data: x\n" + b"data: y\n" * 400):
        for parts in ([body], [body[:-9], body[-9:]], [bytes([byte]) for byte in body]):
            assert await read(HELLO, *parts, STOP) == Reply("Hello", code="model_interrupted")
            assert await read(WHOLE, *parts) == Reply("Hello", finish_reason="stop")


def test_an_event_of_many_lines_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse_lines, "LONGEST_LINE", 100)
    events = EventJoiner()
    taken = [events.take(b"data: x") for _ in range(50)]
    assert taken == [Signal.NOTHING] * 50
    with pytest.raises(sse_lines.LineTooLong):
        events.take(b"data: x")


async def test_halves_of_a_surrogate_pair_are_joined_over_chunks() -> None:
    grin = [content_chunk("\ud83d"), chunk(reasoning_content="\ud83d"), content_chunk("\ude00")]
    assert (await read(*grin, STOP)).text == "\U0001f600"
    assert (await read(content_chunk("a\ud83d"), content_chunk("b"), STOP)).text == "a\ud83db"
    assert (await read(content_chunk("a\ud83d"), STOP)).text == "a\ud83d"
    assert (await read(content_chunk("a\ud83d"), STOP, chunk(reasoning_content="\ud83d"))) == Reply(
        "a\ud83d", "\ud83d", "stop"
    )
