"""Visitors that post, cancel and reconnect at random, while random faults happen."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator

import httpx

from tests.support.follower import Follower
from tests.support.many_followers import following
from tests.support.outages import LOSSES, OUTAGES
from tests.support.ports import HOST
from tests.support.stack import Stack
from tests.support.visitor import AcceptedRun, Visitor, script

CONVERSATIONS = 12  # conversations of one visitor; after that it continues an old one
RETRY_FOR = 60.0  # seconds for which a POST is retried
FREEZE = 8.0  # seconds at most: twice the lease that the test gives
IDLE_WITHIN = 120.0  # seconds after the last fault until all runs have ended
Fault = Callable[[], Awaitable[None]]


class Crowd:
    """One visitor in many tabs: the accepted runs, and their followers."""

    def __init__(self, visitor: Visitor, chance: random.Random) -> None:
        self.visitor = visitor
        self.chance = chance
        self.asked: list[AcceptedRun] = []
        self.followers: list[Follower] = []
        self._following: list[asyncio.Task[object]] = []

    async def ask_until(self, end: float) -> None:
        while time.monotonic() < end:
            await self._ask()
            await asyncio.sleep(self.chance.uniform(0, 2))

    async def stop_until(self, end: float) -> None:
        """Cancel what is live, and what has long ended."""
        while time.monotonic() < end:
            await asyncio.sleep(self.chance.uniform(0, 3))
            if self.asked:
                one = self.chance.choice(self.asked[-8:])
                await self._post(f"/api/runs/{one.run}/cancel/", {})

    async def drop_until(self, end: float) -> None:
        while time.monotonic() < end:
            await asyncio.sleep(self.chance.uniform(0, 0.3))
            if self.followers:
                self.chance.choice(self.followers).drop()

    async def finish(self) -> None:
        """Let every follower read until 204."""
        for follower in self.followers:
            follower.until_idle = True
            follower.drop()
        async with asyncio.timeout(IDLE_WITHIN):
            await asyncio.gather(*self._following)
        late = [self.visitor.follower(talk, cursor=0) for talk in self._conversations()]
        async with following(late, within=IDLE_WITHIN):
            pass
        self.followers += late

    def _conversations(self) -> list[str]:
        return list(dict.fromkeys(one.conversation for one in self.asked))

    async def _ask(self) -> None:
        talks = self._conversations()
        message = script(
            tokens=self.chance.randrange(1, 150),
            rate=self.chance.choice([0, 10, 30, 100]),
            reasoning=self.chance.choice([0, 0, 3]),
            first=self.chance.choice([0, 0, 1.5]),
            seed=secrets.token_hex(4),
        )
        if len(talks) < CONVERSATIONS:
            answer = await self._post("/api/conversations/", {"message": message})
        else:
            how = self.chance.choice(["reject", "queue", "interrupt"])
            path = f"/api/conversations/{self.chance.choice(talks)}/messages/"
            answer = await self._post(path, {"message": message, "when_busy": how})
        if answer.status_code == 409:
            return  # it is busy, and the message was not to interrupt
        assert answer.status_code == 202, answer.text[:300]
        one = AcceptedRun.of(answer, message)
        self.asked.append(one)
        if self.chance.random() < 0.6 or one.conversation not in talks:
            self._follow(one)

    def _follow(self, one: AcceptedRun) -> None:
        cursor = self.chance.choice([None, one.cursor, 0])
        follower = self.visitor.follower(
            one.conversation,
            cursor=cursor,
            until_idle=False,
            retry_at_most=self.chance.choice([0.05, 0.5, 3]),
        )
        self.followers.append(follower)
        self._following.append(asyncio.create_task(follower.follow()))

    async def _post(self, path: str, body: dict[str, str]) -> httpx.Response:
        """Repeat the POST with one key until it is answered: a web process may die during it."""
        headers = {"Idempotency-Key": secrets.token_hex()}
        async with asyncio.timeout(RETRY_FOR):
            while True:
                try:
                    answer = await self.visitor.http.post(path, json=body, headers=headers)
                    if answer.status_code not in (429, 502, 503):
                        return answer
                except httpx.HTTPError:
                    pass
                await asyncio.sleep(0.2)


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
        for worker in self.stack.workers:
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

    async def _holder_killed(self) -> None:
        """A bridge or a Pushpin."""
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
