"""Everything at once, at random: whatever breaks, the checker finds nothing."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import pytest

from tests.faults.conftest import RELEASE, Judge, Size, Stacks
from tests.support.chaos import Breaker, Crowd

ASKERS = 3  # that post at the same time


@pytest.mark.timeout(3600 if RELEASE else 420)
@pytest.mark.parametrize("pushpin", [False, True], ids=["directly", "behind Pushpin"])
@pytest.mark.parametrize("lossy", [False, True], ids=["nothing lost", "history lost"])
async def test_random_faults_lose_and_repeat_nothing(
    stacks: Stacks, judge: Judge, size: Size[int], chance: random.Random, lossy: bool, pushpin: bool
) -> None:
    seconds = size(20, 200) if lossy else size(45, 600)
    wishes: dict[str, Any] = {"webs": 2, "workers": 2, "proxied": True, "pushpin": pushpin}
    async with stacks(**wishes, also={"RUN_LEASE": "4"}) as stack:
        visitor = await stack.visitor(port=stack.entrance.port)
        crowd = Crowd(visitor, chance)
        breaker = Breaker(stack, chance, lossy=lossy)
        end = time.monotonic() + seconds
        async with asyncio.TaskGroup() as everything:
            for _ in range(ASKERS):
                everything.create_task(crowd.ask_until(end))
            everything.create_task(crowd.stop_until(end))
            everything.create_task(crowd.drop_until(end))
            everything.create_task(breaker.break_until(end))
        print(f"{len(crowd.asked)} runs; broken: {', '.join(breaker.done)}")
        await breaker.repair()
        await crowd.finish()
        # If a worker and Redis died together, a lost tail cannot be detected: the process that
        # claims the run, or cancels it, begins a new epoch.
        doubted = {
            one.conversation
            for one in crowd.asked
            if (run := await visitor.run(one.run))["attempt"] > 1 or run["status"] == "cancelled"
        }
        report = await judge(
            visitor,
            crowd.asked,
            crowd.followers,
            resets_allowed=lossy,
            resets_in=doubted,
        )
        assert report.clean, report
        assert all(part.running for part in (*stack.parts(), *stack.holders))
