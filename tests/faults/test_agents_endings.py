"""Agents that end in every wrong way: a clear ending, in time, and no text of an exception."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.faults.conftest import Judge, Stacks
from tests.support.agent_paths import THREE_TOOLS, TOOLS
from tests.support.follower import Follower
from tests.support.many_followers import delta, final_event, following, started, wait_for_all
from tests.support.part_list import PartJson
from tests.support.ports import HOST, free_port
from tests.support.stack import Stack
from tests.support.visitor import AcceptedRun, Visitor, script
from tests.support.waiting import until

SECRET = "swordfish"
BACKWARDS = SECRET[::-1]  # as a question has it, since readers see their questions
ENDS_WITHIN = 2.0  # seconds after the start, or after the bound that ends the run
WAIT = 60.0  # seconds, on a busy machine
PLACES = 4
SILENCE = 3.0  # seconds
MEGABYTES = 5_000_000
CALLS, MOST_CALLS = 2000, 200
MAX_PART_BYTES = 64 * 1024

TEXT: list[PartJson] = [{"type": "text", "text": "a"}]
FAILED: list[PartJson] = [
    {"type": "tool_call", "name": "search", "input": {"step": 1}},
    {"type": "tool_result", "error": "failed"},
]
DIVISION: list[PartJson] = [
    {"type": "tool_call", "name": "divide", "input": {"by": 0}},
    {"type": "tool_result", "error": "failed"},
]


@dataclass(frozen=True)
class Case:
    """A question, how its run ends, and the stored parts without the ids of calls."""

    question: str
    code: str | None
    parts: list[PartJson] = field(default_factory=list)
    agent: str = "tools"
    bound: float = 0.0


def steps(*those: dict[str, Any]) -> str:
    return json.dumps(those)


CASES = {
    "an exception in the agent": Case(
        steps({"say": "a"}, {"fail": BACKWARDS}), "agent_error", TEXT
    ),
    "an exception in a tool": Case(
        steps({"call": "search", "fail": BACKWARDS}), "agent_error", FAILED
    ),
    "an exception in a tool of a graph": Case(
        script(calls=[[["divide", {"by": 0}]]]), "agent_error", DIVISION, "three"
    ),
    "a list": Case(steps({"say": "a"}, {"yield": ["b"]}), "agent_error", TEXT),
    "nothing at all in place of a part": Case(
        steps({"say": "a"}, {"yield": None}), "agent_error", TEXT
    ),
    "no word": Case(steps(), None),
    "a silent tool": Case(
        steps({"call": "search", "seconds": 600}), "tool_silent", FAILED, bound=SILENCE
    ),
}


@asynccontextmanager
async def misbehaving(stacks: Stacks, **for_agents: str) -> AsyncIterator[tuple[Stack, Visitor]]:
    """A stack with one agents process, which alone gets the settings `for_agents`."""
    settings = {
        "AGENTS": f"tools={TOOLS},three={THREE_TOOLS}",
        "AGENT_CONCURRENCY": str(PLACES),
        "TOOL_TIMEOUT": str(SILENCE),
    }
    async with stacks(workers=0, also=settings) as stack:
        stack.also |= for_agents
        await stack.add_agents()
        yield stack, await stack.visitor()


async def followed(visitor: Visitor, question: str, agent: str) -> tuple[AcceptedRun, Follower]:
    """Ask, and read to the end, from the beginning of the conversation."""
    one = await visitor.ask(question, model=agent)
    follower = visitor.follower(one.conversation, cursor=0)
    async with following([follower], within=WAIT):
        pass
    return one, follower


async def seconds_of(follower: Follower) -> float:
    """From the run's start to its ending, as the reader heard them."""
    begun = await follower.wait_for(started(1), within=WAIT)
    ended = await follower.wait_for(final_event(), within=WAIT)
    return ended.at - begun.at


async def ended_as(visitor: Visitor, one: AcceptedRun) -> tuple[str | None, list[PartJson]]:
    """The code, and the stored parts without the ids of calls."""
    run = await visitor.run(one.run)
    code = run["error"]["code"] if run["error"] else None
    assert run["status"] == ("failed" if code else "completed")
    messages = (await visitor.conversation(one.conversation))["messages"]
    parts = messages[-1]["parts"] if messages[-1]["run"] == one.run else []
    return code, [{k: v for k, v in part.items() if k != "call"} for part in parts]


async def test_every_wrong_ending_is_clear_and_no_text_of_an_exception_leaves_the_process(
    stacks: Stacks, judge: Judge
) -> None:
    async with misbehaving(stacks) as (stack, visitor):
        asked, followers = [], []
        for name, case in CASES.items():
            one, follower = await followed(visitor, case.question, case.agent)
            asked.append(one)
            followers.append(follower)
            assert await ended_as(visitor, one) == (case.code, case.parts), name
            assert await seconds_of(follower) <= case.bound + ENDS_WITHIN, name
        report = await judge(visitor, asked, followers)
        assert report.faults == [], report
        assert SECRET.encode() in stack.agents[0].log.read_bytes()  # the operator sees it
        await search(stack, visitor, asked, followers)


async def search(
    stack: Stack, visitor: Visitor, asked: list[AcceptedRun], followers: list[Follower]
) -> None:
    """The exception's text is in no byte that was sent, in no row and in no command to Redis."""
    late = [visitor.follower(one.conversation) for one in asked]  # they begin with a snapshot
    async with following(late, within=WAIT):
        pass
    wire = b"".join(
        heard.block.raw for one in (*followers, *late) for heard in one.recording.received()
    )
    answers = [await visitor.run(one.run) for one in asked]
    answers += [await visitor.conversation(one.conversation) for one in asked]
    rows = await stack.manage("dumpdata", "unspool")
    redis = b"".join(file.read_bytes() for file in files_of(stack.valkey.data))
    for place in (wire, json.dumps(answers).encode(), rows.encode(), redis):
        assert BACKWARDS.encode() in place or place is redis
        assert SECRET.encode() not in place


def files_of(folder: Path) -> list[Path]:
    """The append-only file: all commands that wrote."""
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_a_large_output_is_cut_and_2000_calls_are_too_many(
    stacks: Stacks, judge: Judge
) -> None:
    async with misbehaving(stacks) as (_, visitor):
        large = steps({"call": "search", "bytes": MEGABYTES}, {"say": "a"})
        one, reader = await followed(visitor, large, "tools")
        code, parts = await ended_as(visitor, one)
        assert (code, parts[1]["truncated"], parts[2:]) == (None, True, TEXT)
        assert 0.9 * MAX_PART_BYTES < len(parts[1]["output"]) <= MAX_PART_BYTES
        assert await seconds_of(reader) <= ENDS_WITHIN
        two, other = await followed(visitor, steps({"call": "search", "times": CALLS}), "tools")
        code, parts = await ended_as(visitor, two)
        kinds = [part["type"] for part in parts]
        assert (code, kinds) == ("too_many_tool_calls", ["tool_call", "tool_result"] * MOST_CALLS)
        assert await seconds_of(other) <= ENDS_WITHIN
        report = await judge(visitor, [one, two], [reader, other])
        assert report.faults == [], report


async def test_an_agent_that_does_not_return_keeps_one_place_and_is_counted(
    stacks: Stacks,
) -> None:
    port = free_port()
    async with misbehaving(stacks, METRICS_PORT=str(port), HOST=HOST) as (_, visitor):
        stubborn = await visitor.ask(steps({"say": "a"}, {"swallow": 600}), model="tools")
        reader = visitor.follower(stubborn.conversation, cursor=stubborn.cursor)
        async with following([reader], within=WAIT):
            await reader.wait_for(delta(0), within=WAIT)
            await visitor.cancel(stubborn.run)
            await reader.wait_for(final_event(), within=WAIT)
        await until(lambda: outliving(port) == 1, within=WAIT, what="one agent that outlives")
        others = [
            await visitor.ask(steps({"say": "b"}, {"hold": 1}), model="tools")
            for _ in range(PLACES - 1)
        ]
        readers = [visitor.follower(one.conversation, cursor=one.cursor) for one in others]
        async with following(readers, within=WAIT):
            await wait_for_all(readers, delta(0), within=WAIT)  # all at once: no place is lost
            for one in others:
                await visitor.cancel(one.run)
        assert outliving(port) == 1


def outliving(port: int) -> float:
    answer = httpx.get(f"http://{HOST}:{port}/metrics", trust_env=False)
    lines = [line for line in answer.text.splitlines() if "agents_outliving_run " in line]
    return float(next(line for line in lines if not line.startswith("#")).split()[-1])
