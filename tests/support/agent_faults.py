"""Runs of the scripted agent, and faults of its processes and of Redis."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tests.support import outages
from tests.support.stack import Stack
from tests.support.visitor import AcceptedRun, Visitor

LEASE = 3.0  # seconds
QUICK = {"RUN_LEASE": str(LEASE), "WORKER_DRAIN": "0.2", "AGENT_DRAIN": "0.4"}


ENDS_WITHIN = 60.0  # seconds; the machine starts processes meanwhile


PAYING = (
    {"say": "One. "},
    {"wait": 0.3},
    {"call": "refund", "seconds": 0.4},
    {"say": "Two. "},
    {"call": "mail", "seconds": 0.4},
    {"say": "Three."},
)
PAID = "One. Two. Three."


async def ask(visitor: Visitor, record: Path, *steps: dict[str, Any]) -> AcceptedRun:
    metadata = {"record": str(record)}
    return await visitor.ask(json.dumps(steps), model="tools", metadata=metadata)


async def ended(visitor: Visitor, asked: list[AcceptedRun]) -> list[dict[str, Any]]:
    """The runs once all have ended."""
    async with asyncio.timeout(ENDS_WITHIN):
        while True:
            runs = [await visitor.run(one.run) for one in asked]
            if all(run["status"] not in ("queued", "running") for run in runs):
                return runs
            await asyncio.sleep(0.2)


async def killed(stack: Stack, chance: random.Random) -> None:
    stack.agents.pop(chance.randrange(len(stack.agents))).kill()
    await stack.add_agents()


async def frozen(stack: Stack, chance: random.Random) -> None:
    """Freeze a process for longer than its leases last. Then it continues where it was."""
    sleeper = chance.choice(stack.agents)
    sleeper.freeze()
    await asyncio.sleep(2 * LEASE)
    sleeper.thaw()


async def drained(stack: Stack, chance: random.Random) -> None:
    leaver = stack.agents.pop(chance.randrange(len(stack.agents)))
    leaver.terminate()
    await asyncio.gather(leaver.ended(within=20), stack.add_agents())


async def emptied(stack: Stack, chance: random.Random) -> None:
    await outages.emptied(stack, chance)


async def away(stack: Stack, chance: random.Random) -> None:
    await outages.killed(stack, chance.uniform(0.5, 4.0))


async def frozen_and_emptied(stack: Stack, chance: random.Random) -> None:
    """Freeze a process and empty Redis, which then has neither its events nor its fence."""
    await asyncio.gather(frozen(stack, chance), emptied(stack, chance))


async def killed_and_away(stack: Stack, chance: random.Random) -> None:
    await asyncio.gather(killed(stack, chance), away(stack, chance))


Blow = Callable[[Stack, random.Random], Awaitable[None]]
SINGLE: tuple[Blow, ...] = (killed, frozen, drained, emptied, away)
BLOWS: tuple[Blow, ...] = (*SINGLE, frozen_and_emptied, killed_and_away)
