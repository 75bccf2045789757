"""Waits for events that open streams send."""

import asyncio
from contextlib import aclosing

from streams.delivery.follower import Follower
from streams.delivery.open_streams import OpenStream, OpenStreams


def caught_up(follower: Follower) -> bool:
    return bool(follower._events and follower._events.caught_up)


async def connected(crowd: OpenStreams) -> None:
    """Wait until there is a stream, and every stream has sent all events of the log."""
    async with asyncio.timeout(10):
        while not (crowd._open and all(map(caught_up, crowd._open))):
            await asyncio.sleep(0.01)


async def ids(pieces: OpenStream, until: int) -> list[int]:
    """The ids received, up to and including `until`."""
    heard: list[int] = []
    async with asyncio.timeout(20), aclosing(pieces) as said:
        async for piece in said:
            lines = piece.decode().splitlines()
            heard += [int(line[4:]) for line in lines if line.startswith("id: ")]
            if heard and heard[-1] >= until:
                return heard
    raise AssertionError(f"the stream ended after {heard[-3:]}")


async def whole(pieces: OpenStream) -> list[str]:
    """The types of all events until the stream ends by itself."""
    names: list[str] = []
    async with asyncio.timeout(20), aclosing(pieces) as said:
        async for piece in said:
            lines = piece.decode().splitlines()
            names += [line[7:] for line in lines if line.startswith("event: ")]
    return names
