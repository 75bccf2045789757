"""Agents in their own process: no tool is called twice in silence, and a stop always ends the run.

Each tool notes its call in a file before anything else, so that the calls are counted outside of
the service.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import Size, Stacks
from tests.support.agent_faults import BLOWS, ENDS_WITHIN, PAID, PAYING, QUICK, ask, ended
from tests.support.agent_paths import noted
from tests.support.follower import Follower
from tests.support.many_followers import (
    delta,
    final_event,
    following,
    lateness,
    quantile,
    started,
    wait_for_all,
)
from tests.support.visitor import Visitor, script
from tests.support.waiting import until

RUNS = 6  # at once, so that one blow meets several moments of a run
STOPPED_WITHIN = 2.0  # seconds after the POST
CHATS, RATE = 8, 20  # replies at once, and their tokens a second
NOISE = 0.1  # seconds that a busy machine of two cores adds to each lateness


@pytest.mark.long
@pytest.mark.timeout(7200)
async def test_an_unrepeatable_tool_is_called_at_most_once_in_a_run_whatever_happens(
    stacks: Stacks, size: Size[int], chance: random.Random, tmp_path: Path
) -> None:
    record = tmp_path / "record"
    codes: Counter[str] = Counter()
    async with stacks(workers=0, agents=2, also=QUICK) as stack:
        visitor = await stack.visitor()
        for wave in range(size(len(BLOWS), 100)):
            blow = BLOWS[wave % len(BLOWS)]
            asked = [await ask(visitor, record, *PAYING) for _ in range(RUNS)]
            await asyncio.sleep(chance.uniform(0.0, 1.5))
            await blow(stack, chance)
            for run in await ended(visitor, asked):
                code = run["error"]["code"] if run["error"] else run["status"]
                assert code in ("completed", "tools_called"), run
                assert code != "completed" or run["text"] == PAID
                codes[f"{blow.__name__} {code}"] += 1
            await asyncio.sleep(1.0)  # a process that woke up has stopped what it went on with
        calls = Counter((run, name) for run, _, name in noted(record))
        print(dict(codes), sum(calls.values()), "calls")
        assert calls
        assert {call for call, times in calls.items() if times > 1} == set()
        retried = await visitor.retry(asked[0].run, asked[0].script)
        assert (await ended(visitor, [retried]))[0]["text"] == PAID


async def test_a_killed_agent_whose_tools_are_safe_begins_anew(
    stacks: Stacks, chance: random.Random, tmp_path: Path
) -> None:
    record = tmp_path / "record"
    safe = {"repeat": True, "seconds": 0.6}
    steps: list[dict[str, Any]] = [{**step, **safe} if "call" in step else step for step in PAYING]
    steps.insert(-1, {"hold": True})  # so that no run ends before the process is killed
    async with stacks(workers=0, agents=1, also=QUICK) as stack:
        visitor = await stack.visitor()
        asked = [await ask(visitor, record, *steps) for _ in range(RUNS)]
        followers = [visitor.follower(one.conversation, cursor=one.cursor) for one in asked]
        async with following(followers, within=ENDS_WITHIN):
            await wait_for_all(followers, delta(0), within=30)
            await until(lambda: noted(record), within=30, what="a tool's call")
            await asyncio.sleep(chance.uniform(0, 0.6))
            stack.agents.pop().kill()
            await stack.add_agents(ready=False)
            await wait_for_all(followers, started(2), within=ENDS_WITHIN)
        runs = await ended(visitor, asked)
        assert {(run["status"], run["attempt"], run["text"]) for run in runs} == {
            ("completed", 2, PAID)
        }
        assert {attempt for _, attempt, _ in noted(record)} == {1, 2}


async def test_a_deploy_waits_for_a_tool_that_must_not_be_called_twice(
    stacks: Stacks, tmp_path: Path
) -> None:
    record = tmp_path / "record"
    async with stacks(workers=0, agents=1, also={**QUICK, "AGENT_DRAIN": "20"}) as stack:
        visitor = await stack.visitor()
        asked = await ask(visitor, record, {"call": "refund", "seconds": 4}, {"say": "Done."})
        other = await ask(visitor, record, {"wait": 600})
        follower = visitor.follower(other.conversation, cursor=other.cursor)
        async with following([follower], within=ENDS_WITHIN):
            await wait_for_all([follower], started(1), within=30)
            while not noted(record):
                await asyncio.sleep(0.05)
            stack.agents[0].terminate()
            leaver = stack.agents.pop()
            await stack.add_agents()
            (run,) = await ended(visitor, [asked])
            assert (run["status"], run["attempt"], run["text"]) == ("completed", 1, "Done.")
            await wait_for_all([follower], started(2), within=30)
            await visitor.cancel(other.run)
        await leaver.ended(within=20)
        assert noted(record) == [(asked.run, 1, "refund")]


BAD_AGENTS: dict[str, tuple[list[dict[str, Any]], str]] = {
    "a silent tool": ([{"call": "search", "seconds": 600}], "tool_silent"),
    "a tool that blocks its thread": (
        [{"call": "search", "seconds": 20, "thread": True}],
        "tool_silent",
    ),
    "a silent agent": ([{"wait": 600}], "model_silent"),
    "an agent that swallows its cancellation": ([{"swallow": 12}], "model_silent"),
    "an exception": ([{"fail": "hsifdrows"}], "agent_error"),
}
SILENCE = {"TOOL_TIMEOUT": "4", "MODEL_READ_TIMEOUT": "4"}


async def test_agents_that_misbehave_end_clearly_and_a_stop_ends_each(
    stacks: Stacks, tmp_path: Path
) -> None:
    """One stack for all of them: nothing breaks it."""
    record = tmp_path / "record"
    async with stacks(workers=0, agents=1, also={**QUICK, **SILENCE}) as stack:
        visitor = await stack.visitor()
        begun = time.monotonic()
        scripts = [steps for steps, _ in BAD_AGENTS.values()]
        asked = [await ask(visitor, record, {"say": "a"}, *steps) for steps in scripts]
        runs = await ended(visitor, asked)
        assert time.monotonic() - begun < 4 + 2 + 4  # the bound, the bar, the POSTs and polls
        found = {
            name: (run["status"], run["error"]["code"], run["text"])
            for name, run in zip(BAD_AGENTS, runs, strict=True)
        }
        assert found == {name: ("failed", code, "a") for name, (_, code) in BAD_AGENTS.items()}
        assert "swordfish" not in json.dumps(runs)
        followers = await stopped(visitor, record)
        for follower in followers:
            assert "swordfish" not in str(follower.recording)


async def stopped(visitor: Visitor, record: Path) -> list[Follower]:
    """Each agent that would not end by itself is stopped. Returns those who followed."""
    waiting = [steps for steps, code in BAD_AGENTS.values() if code != "agent_error"]
    asked = [await ask(visitor, record, {"say": "a"}, *steps) for steps in waiting]
    followers = [visitor.follower(one.conversation, cursor=one.cursor) for one in asked]
    async with following(followers, within=ENDS_WITHIN):
        await wait_for_all(followers, delta(0), within=30)
        begun = time.monotonic()
        await asyncio.gather(*(visitor.cancel(one.run) for one in asked))
        heard = await wait_for_all(followers, final_event(), within=30)
    assert max(one.at for one in heard) - begun <= STOPPED_WITHIN
    assert {one.block.event for one in heard} == {"run.cancelled"}
    return followers


@pytest.mark.alone
async def test_chats_are_as_punctual_while_agents_block_their_loop(
    stacks: Stacks, tmp_path: Path
) -> None:
    also = {**QUICK, "AGENT_CONCURRENCY": "16"}
    async with stacks(agents=1, also=also) as stack:
        visitor = await stack.visitor()
        await stack.warm()
        alone = await late_chats(visitor)
        blocking = [await ask(visitor, tmp_path / "record", {"block": 1}) for _ in range(16)]
        beside = await late_chats(visitor)
        print(f"p99 lateness: {alone:.3f} s alone, {beside:.3f} s beside 16 agents that block")
        assert beside <= 2 * alone + NOISE
        assert {run["status"] for run in await ended(visitor, blocking)} == {"completed"}


async def late_chats(visitor: Visitor) -> float:
    """The p99 of the lateness of some chats, in seconds, each measured by its own clock."""
    asked = [await visitor.ask(script(tokens=120, rate=RATE, seed=n)) for n in range(CHATS)]
    followers = [visitor.follower(one.conversation, cursor=one.cursor) for one in asked]
    async with following(followers, within=60):
        await wait_for_all(followers, delta(0), within=30)
    late = [lateness([follower.recording], RATE) for follower in followers]
    return quantile([seconds for those in late for seconds in those], 0.99)


async def test_a_bad_path_ends_the_start_with_a_sentence(stacks: Stacks) -> None:
    also = {"AGENTS": "broken=tests.support.agents.no_generator"}
    async with stacks(workers=0, also=also) as stack:
        process = await stack.add_agents(ready=False)
        await process.ended(within=60)
        assert "broken must be an asynchronous generator function" in process.tail(3)
        assert "Traceback" not in process.tail()
