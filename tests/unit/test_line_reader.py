"""The reader of a model's lines rests while a fast model's packets gather."""

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from tests.unit.support.model_response import content_chunk, line_reader
from workers.generators import sse_lines
from workers.generators.sse_lines import LineReader
from workers.generators.waits import Waits


async def test_a_fast_stream_is_read_in_few_reads(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first reads of each half window are made at once; then the reader rests."""
    settings.DELTA_WINDOW = 0.25
    waits, done = Waits(asyncio.get_running_loop()), list[str | float]()
    now = 2.0**30  # later than the loop's time, so no wait ends
    waits.time = lambda: now  # only a rest takes time

    async def rest(_: LineReader, seconds: float) -> None:
        nonlocal now
        now += seconds
        done.append(seconds)

    monkeypatch.setattr(sse_lines, "waits_of", lambda _: waits)
    monkeypatch.setattr(LineReader, "_rest", rest)
    async with aclosing(line_reader([content_chunk("a")] * 7).read()) as batches:
        async for _ in batches:
            done.append("read")
    assert done[:9] == [*("read", "read", "read", 0.125), *("read", "read", "read", 0.125), "read"]
