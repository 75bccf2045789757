"""A visitor in many tabs that posts, cancels and reconnects at random."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import time
from pathlib import Path
from typing import Any

import httpx

from tests.support.follower import Follower
from tests.support.many_followers import following
from tests.support.visitor import AcceptedRun, Visitor, script

CONVERSATIONS = 12  # conversations of one visitor; after that it continues an old one
AGENTS_SHARE = 0.4  # the share of the conversations that are with the agent
RETRY_FOR = 60.0  # seconds for which a POST is retried
IDLE_WITHIN = 120.0  # seconds after the last fault until all runs have ended


class Crowd:
    """One visitor in many tabs: the accepted runs, and their followers.

    Some runs ask the agent of tests/support/agents.py, whose tools append their calls to `record`.
    """

    def __init__(self, visitor: Visitor, chance: random.Random, record: Path) -> None:
        self.visitor = visitor
        self.chance = chance
        self.record = record
        self.asked: list[AcceptedRun] = []
        self.followers: list[Follower] = []
        self._following: list[asyncio.Task[object]] = []
        self._of_agents: set[str] = set()  # conversations

    async def ask_until(self, end: float) -> None:
        while time.monotonic() < end:
            await self._ask()
            await asyncio.sleep(self.chance.uniform(0, 2))

    async def stop_until(self, end: float) -> None:
        """Cancel runs, also runs that ended long ago."""
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
        if len(talks) < CONVERSATIONS:
            agent = self.chance.random() < AGENTS_SHARE
            body = self._question(agent) | ({"model": "tools"} if agent else {})
            answer = await self._post("/api/conversations/", body)
        else:
            talk = self.chance.choice(talks)
            how = self.chance.choice(["reject", "queue", "interrupt"])
            body = self._question(talk in self._of_agents) | {"when_busy": how}
            answer = await self._post(f"/api/conversations/{talk}/messages/", body)
        message = body["message"]
        if answer.status_code == 409:
            return  # the conversation is busy, and `when_busy` is `reject`
        assert answer.status_code == 202, answer.text[:300]
        one = AcceptedRun.of(answer, message)
        self.asked.append(one)
        if "model" in body:
            self._of_agents.add(one.conversation)
        if self.chance.random() < 0.6 or one.conversation not in talks:
            self._follow(one)

    def _question(self, agent: bool) -> dict[str, Any]:
        if agent:
            steps = [self._step() for _ in range(self.chance.randrange(1, 20))]
            return {"message": json.dumps(steps), "metadata": {"record": str(self.record)}}
        message = script(
            tokens=self.chance.randrange(1, 150),
            rate=self.chance.choice([0, 10, 30, 100]),
            reasoning=self.chance.choice([0, 0, 3]),
            first=self.chance.choice([0, 0, 1.5]),
            seed=secrets.token_hex(4),
        )
        return {"message": message}

    def _step(self) -> dict[str, Any]:
        word, seconds = secrets.token_hex(4), self.chance.choice([0, 0.1, 0.5])
        # Each call has its own name, so that the record shows a repeated call.
        call = {"call": f"tool-{word}", "seconds": seconds, "repeat": self.chance.random() < 0.5}
        kinds = [{"say": word}, {"think": word}, {"source": word}, {"data": word}]
        return self.chance.choice([*kinds, {"say": word}, {"wait": seconds}, call])

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

    async def _post(self, path: str, body: dict[str, Any]) -> httpx.Response:
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
