"""The blocks of an event stream, as the checker reads them."""

from __future__ import annotations

import pytest

from tests.support.sse_blocks import Block, Splitter, parse
from tests.unit.support.wire_recordings import RUN, STORY, wire

GOOD = wire("text.delta", 4, run=RUN, attempt=1, index=0, text="Hel")


@pytest.mark.parametrize(
    "raw",
    [
        GOOD.replace(b"\n", b"\r\n"),
        GOOD.replace(b"\nid: 4", b""),
        GOOD.replace(b"id: 4", b"id: conversation-1:4"),
        GOOD.replace(b"id: 4", b"id:4"),
        GOOD.replace(b"id: 4", b"id: 9007199254740992"),
        b"id: 4\n" + GOOD.replace(b"\nid: 4", b""),
        GOOD.replace(b"text.delta", b"text.epsilon"),
        GOOD.replace(b"event: text.delta\n", b""),
        GOOD + b"\ndata: {}",
        GOOD + b"\n: a comment",
        GOOD.replace(b"Hel", b"\xff"),
        b"\xef\xbb\xbf" + GOOD,
        b"event: keep-alive\ndata:",
        b"event: heartbeat\ndata: ",
        b'event: heartbeat\ndata: {"head": 4}\nid: 4',
        b": padding",
        b"",
    ],
)
def test_a_block_that_some_parsers_read_differently_is_a_fault(raw: bytes) -> None:
    assert parse(raw).faults


@pytest.mark.parametrize(
    "raw", [GOOD, b"retry: 1500", b'event: heartbeat\ndata: {"head": null}', b"retry: 5\n" + GOOD]
)
def test_a_block_of_the_allowed_form_has_no_fault(raw: bytes) -> None:
    assert parse(raw).faults == ()


def test_the_blocks_are_the_same_at_every_split() -> None:
    stream = b"\n\n".join([*STORY, b""])
    whole = [parse(raw) for raw in STORY]
    for size in (1, 2, 3, 7, 50, len(stream)):
        splitter, blocks = Splitter(), list[Block]()
        for at in range(0, len(stream), size):
            blocks += splitter.feed(stream[at : at + size])
        assert (blocks, splitter.rest) == (whole, b"")
