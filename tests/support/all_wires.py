"""Runs in all wires at once: reads the streams, and checks that each reader has the whole reply."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tests.support.dialect_stream import UNREADABLE, WIRES, StreamRead, Wire, read_stream
from tests.support.process import Process
from tests.support.visitor import Visitor, script

LONG = script(tokens=2000, rate=50)
SHORT = script(tokens=60, rate=40)


async def asked(visitor: Visitor, wire: Wire, text: str, **also: Any) -> StreamRead:
    """Ask, and read the POST's stream to its end."""
    return await read_stream(visitor, "POST", wire.path, body=wire.body(text), **also)


async def stored_text(visitor: Visitor, read: StreamRead) -> str:
    return str((await visitor.run(read.run))["text"])


async def check_whole(visitor: Visitor, wire: Wire, begun: StreamRead) -> None:
    """Reconnect until the run has ended, and compare the text with the stored text."""
    for _ in range(100):
        read = await read_stream(visitor, "GET", wire.back.format(run=begun.run))
        if read.complete:
            assert read.text == await stored_text(visitor, begun)
            return
    raise AssertionError("the run did not end")


async def asked_in_all(
    visitor: Visitor, text: str, act: Callable[[list[StreamRead]], Awaitable[object]]
) -> dict[str, StreamRead]:
    """Ask in all wires, and call `act` once each has some text. Returns the streams by wire."""
    begun: list[StreamRead] = []

    async def begin(read: StreamRead) -> None:
        begun.append(read)
        if len(begun) == len(WIRES):
            await act(begun)

    reads = await asyncio.gather(*(asked(visitor, wire, text, after_text=begin) for wire in WIRES))
    return {wire.name: read for wire, read in zip(WIRES, reads, strict=True)}


def complete(reads: dict[str, StreamRead]) -> list[str]:
    """The wires whose streams came to an orderly end."""
    return [name for name, read in reads.items() if read.complete]


async def check_complete(visitor: Visitor, reads: dict[str, StreamRead]) -> None:
    """Check that each stream came to its orderly end, with the stored text."""
    assert complete(reads) == list(reads)
    assert {read.status for read in reads.values()} == {200}
    stored = {name: await stored_text(visitor, read) for name, read in reads.items()}
    assert {name: read.text for name, read in reads.items()} == stored


async def check_cancelled(visitor: Visitor, reads: dict[str, StreamRead]) -> None:
    """Cancel these runs, reconnect to each, and compare its text with the stored text."""
    for wire in WIRES:
        await visitor.cancel(reads[wire.name].run)
        await check_whole(visitor, wire, reads[wire.name])


async def breaks_with(web: Process, through: Visitor) -> dict[str, StreamRead]:
    """Check whole streams of all wires, then return streams that break with their web process."""
    whole = {wire.name: await asked(through, wire, SHORT) for wire in WIRES}
    await check_complete(through, whole)

    async def terminate(_: list[StreamRead]) -> None:
        web.terminate()

    reads = await asked_in_all(through, LONG, terminate)
    assert [name for name in complete(reads) if reads[name].data[-1] != UNREADABLE] == []
    return reads
