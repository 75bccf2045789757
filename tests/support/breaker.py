"""Faults of every process and of Redis, one after another at random."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator

from tests.support.outages import LOSSES, OUTAGES
from tests.support.ports import HOST
from tests.support.stack import Stack

FREEZE = 8.0  # seconds at most, twice the lease in the test's settings
Fault = Callable[[], Awaitable[None]]


class Breaker:
    """Causes one fault after another; `repair()` ends them all."""

    def __init__(self, stack: Stack, chance: random.Random, *, lossy: bool) -> None:
        self.stack = stack
        self.chance = chance
        self.lossy = lossy
        self.faults: list[Fault] = [
            self._web_killed,
            self._web_replaced,
            self._worker_killed,
            self._worker_replaced,
            self._worker_frozen,
            self._redis_away,
            self._redis_away,
            self._connections_cut,
            self.stack.valkey.cut_subscriptions,
        ]
        if stack.agents:
            self.faults += [self._agents_killed, self._agents_replaced, self._agents_frozen]
        if stack.holders:
            self.faults += [self._holder_killed] * 2
        self.done: list[str] = []

    async def break_until(self, end: float) -> None:
        for fault in self._shuffled():
            self.done.append(fault.__name__.strip("_"))
            await fault()
            await asyncio.sleep(self.chance.uniform(0, 2))
            if time.monotonic() > end:
                return

    def _shuffled(self) -> Iterator[Fault]:
        """All faults in a random order, repeatedly; with `lossy`, the log is lost before each."""
        while True:
            for fault in self.chance.sample(self.faults, len(self.faults)):
                if self.lossy:
                    yield self._history_lost
                yield fault

    async def repair(self) -> None:
        """Thaw all workers, and wait until the web processes are ready."""
        for worker in (*self.stack.workers, *self.stack.agents):
            worker.thaw()
        for web in self.stack.webs:
            await self.stack.ready(web)

    async def _web_killed(self) -> None:
        web = self.chance.choice(self.stack.webs)
        web.kill()
        web.start()

    async def _web_replaced(self) -> None:
        old = self.stack.webs[0]
        await self.stack.add_web()
        self.stack.webs.remove(old)
        old.terminate()
        await old.ended(within=10)
        self.stack.front.upstreams.remove((HOST, self.stack.ports[old.name]))

    async def _worker_killed(self) -> None:
        self.stack.workers.pop(0).kill()
        await self.stack.add_worker(ready=False)

    async def _worker_replaced(self) -> None:
        await self.stack.add_worker(ready=False)
        old = self.stack.workers.pop(0)
        old.terminate()
        await old.ended(within=30)

    async def _worker_frozen(self) -> None:
        worker = self.chance.choice(self.stack.workers)
        worker.freeze()
        await asyncio.sleep(self.chance.uniform(1, FREEZE))
        worker.thaw()

    async def _agents_killed(self) -> None:
        self.stack.agents.pop(0).kill()
        await self.stack.add_agents(ready=False)

    async def _agents_replaced(self) -> None:
        await self.stack.add_agents(ready=False)
        old = self.stack.agents.pop(0)
        old.terminate()
        await old.ended(within=30)

    async def _agents_frozen(self) -> None:
        sleeper = self.chance.choice(self.stack.agents)
        sleeper.freeze()
        await asyncio.sleep(self.chance.uniform(1, FREEZE))
        sleeper.thaw()

    async def _holder_killed(self) -> None:
        """Kill a bridge or a Pushpin, and start it again."""
        holder = self.chance.choice(self.stack.holders)
        self.done[-1] += f" {holder.name}"
        holder.kill()
        await asyncio.sleep(self.chance.uniform(0, 2))
        holder.start()

    async def _redis_away(self) -> None:
        outage = self.chance.choice(OUTAGES)
        self.done[-1] += f" {outage.__name__}"
        await outage(self.stack, self.chance.uniform(0.2, 6))

    async def _connections_cut(self) -> None:
        self.stack.entrance.reset()
        self.stack.front.reset()
        self.stack.worker_redis.reset()

    async def _history_lost(self) -> None:
        loss = self.chance.choice(LOSSES)
        self.done[-1] += f" {loss.__name__}"
        await loss(self.stack, self.chance)
