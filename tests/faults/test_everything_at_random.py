"""Everything at once, at random: whatever breaks, the checker finds nothing."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import RELEASE, Judge, Size, Stacks
from tests.support.agent_paths import noted
from tests.support.breaker import Breaker
from tests.support.crowd import Crowd

ASKERS = 3  # that post at the same time


def was_taken_over(run: dict[str, Any]) -> bool:
    """Whether another process than the run's own may have begun or ended it."""
    code = run["error"] and run["error"]["code"]
    is_ended = run["status"] == "cancelled" or code in ("tools_called", "worker_lost")
    return run["attempt"] > 1 or is_ended


@pytest.mark.long
@pytest.mark.timeout(3600 if RELEASE else 420)
@pytest.mark.parametrize("pushpin", [False, True], ids=["directly", "behind Pushpin"])
@pytest.mark.parametrize("lossy", [False, True], ids=["nothing lost", "history lost"])
async def test_random_faults_lose_and_repeat_nothing(
    stacks: Stacks,
    judge: Judge,
    size: Size[int],
    chance: random.Random,
    tmp_path: Path,
    lossy: bool,
    pushpin: bool,
) -> None:
    seconds = size(20, 200) if lossy else size(30, 600)
    record = tmp_path / "record"
    wishes: dict[str, Any] = {"webs": 2, "workers": 2, "agents": 2, "proxied": True}
    also = {"RUN_LEASE": "4", "AGENT_DRAIN": "2"}
    async with stacks(**wishes, pushpin=pushpin, also=also) as stack:
        visitor = await stack.visitor(port=stack.entrance.port)
        crowd = Crowd(visitor, chance, record)
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
        # claims, cancels or fails the run begins a new epoch.
        doubted = {
            one.conversation for one in crowd.asked if was_taken_over(await visitor.run(one.run))
        }
        report = await judge(
            visitor,
            crowd.asked,
            crowd.followers,
            resets_allowed=lossy,
            resets_in=doubted,
        )
        assert report.clean, report
        calls = Counter(name for _, _, name in noted(record))
        asked = [json.loads(one.script) for one in crowd.asked if one.script.startswith("[")]
        once = {step["call"] for steps in asked for step in steps if step.get("repeat") is False}
        print(f"{len(asked)} runs of agents, {calls.total()} calls")
        assert {name for name in once if calls[name] > 1} == set()
        assert all(part.running for part in (*stack.parts(), *stack.holders))
