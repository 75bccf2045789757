"""A stop ends an agent's reply, whatever the agent does."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from asgiref.sync import sync_to_async

from workers.agents import Turn, current_turn, reply
from workers.agents.reply import reply_of
from workers.agents.testing import turn_of

pytestmark = pytest.mark.usefixtures("agent_limits")


class TestStopping:
    """A stop reaches the agent at once, and the reply does not wait for one that ignores it."""

    async def test_the_agent_is_cancelled_and_cleans_up(self) -> None:
        ends: list[str] = []

        async def agent(turn: Turn) -> AsyncIterator[str]:
            try:
                yield "a"
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                ends.append("cleaned up")

        turn = turn_of("Go")
        async with aclosing(reply_of(agent, turn)) as items:
            assert await anext(items) == "a"
        assert ends == ["cleaned up"]
        assert turn.control.returned.is_set()

    async def test_one_that_swallows_cancellation_is_abandoned_and_unheard(self) -> None:
        release = asyncio.Event()

        async def agent(turn: Turn) -> AsyncIterator[str]:
            yield "a"
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    assert not turn.alive()
            yield "unheard"

        turn = turn_of("Go")
        items = reply_of(agent, turn)
        assert await anext(items) == "a"
        began = asyncio.get_running_loop().time()
        await items.aclose()  # though the agent goes on
        assert 0.9 < asyncio.get_running_loop().time() - began < 1.5
        assert not turn.control.returned.is_set()
        release.set()
        assert await asyncio.to_thread(turn.control.returned.wait, 5)

    async def test_a_thread_that_blocks_keeps_the_place_and_not_the_run(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reply, "PATIENCE", 60.0)
        release, running = threading.Event(), threading.Event()

        def block() -> None:
            assert current_turn() is turn
            running.set()
            assert release.wait(60)

        async def agent(_: Turn) -> AsyncIterator[str]:
            yield "a"
            await sync_to_async(block)()

        turn = turn_of("Go")
        items = reply_of(agent, turn)
        assert await anext(items) == "a"
        assert await asyncio.to_thread(running.wait, 5)
        await asyncio.wait_for(items.aclose(), 1)
        assert not turn.control.returned.is_set()
        release.set()
        assert await asyncio.to_thread(turn.control.returned.wait, 5)
