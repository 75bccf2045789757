"""How many chunks of a reply may wait for the log: few while it answers, more while it is down."""

import asyncio

import pytest

from workers import backpressure
from workers.backpressure import WAITING, WAITING_AWAY, WAITING_BYTES, Backpressure


async def has_room(reply: Backpressure) -> bool:
    """Whether another piece may be added without waiting for anything."""
    waiting = asyncio.ensure_future(reply.wait_for_room())
    await asyncio.sleep(0)
    if waiting.done():
        return True
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    return False


async def test_few_chunks_wait_while_redis_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backpressure, "LOOK", 0.01)
    reply = Backpressure(lambda: False)
    for _ in range(WAITING + 1):
        assert await has_room(reply)
        reply.add(5)
    with pytest.raises(TimeoutError):  # also where an answer takes long
        await asyncio.wait_for(reply.wait_for_room(), 0.1)
    reply.confirmed(5)
    assert await has_room(reply)


async def test_more_chunks_wait_while_redis_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backpressure, "LOOK", 0.01)
    reply = Backpressure(lambda: True)
    for _ in range(WAITING_AWAY + 1):
        await asyncio.wait_for(reply.wait_for_room(), 20)
        reply.add(5)
    assert not await has_room(reply)
    for _ in range(WAITING_AWAY - WAITING):
        reply.confirmed(5)
    assert not await has_room(reply)  # it answers again, so the small limit counts again
    reply.confirmed(5)
    assert await has_room(reply)


async def test_the_waiting_chunks_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backpressure, "LOOK", 0.01)
    reply = Backpressure(lambda: True)
    reply.add(WAITING_BYTES + 1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reply.wait_for_room(), 0.1)
    reply.confirmed(WAITING_BYTES + 1)
    assert await has_room(reply)
