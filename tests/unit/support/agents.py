"""Agents of a test."""

from collections.abc import AsyncIterator
from typing import Any

from workers.agents import Agent, Turn


def saying(*items: Any) -> Agent:
    """An agent that yields these items."""

    async def agent(turn: Turn) -> AsyncIterator[Any]:
        for item in items:
            yield item

    return agent
