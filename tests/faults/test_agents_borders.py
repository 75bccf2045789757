"""An agents process that is lost between any two parts of a reply, and the turn after it."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import Judge, Size, Stacks
from tests.support import anthropic_server
from tests.support.agent_paths import THEN_ANTHROPIC, THEN_OPENAI, noted
from tests.support.follower import Follower
from tests.support.many_followers import final_event, following, started, wait_for_all
from tests.support.part_list import PartJson
from tests.support.recording import Received
from tests.support.script import expected
from tests.support.stack import Stack
from tests.support.visitor import AcceptedRun, Visitor, script
from tests.support.waiting import until

LEASE = 3.0  # seconds
ENDED_WITHIN = 60.0  # seconds, on a busy machine

STEPS: tuple[dict[str, Any], ...] = (
    {"think": "Hm."},
    {"say": "One. "},
    {"call": "refund"},
    {"source": "terms"},
    {"data": 1},
    {"say": "Two. "},
    {"data": 2},
    {"call": "mail"},
    {"say": "Three."},
)
# The pieces that the steps are, and the step and the kind of each.
PIECES = [
    (n, kind)
    for n, step in enumerate(STEPS)
    for kind in (("call", "result") if "call" in step else ("other",))
]
FIRST_CALL = 2  # the piece
PROVIDERS = ("openai", "anthropic")


@dataclass(frozen=True)
class Case:
    """A run whose agent holds before the piece `border`, in attempt 1."""

    border: int
    safe: bool
    provider: str

    @property
    def in_tool(self) -> bool:
        return self.border < len(PIECES) and PIECES[self.border][1] == "result"

    @property
    def called(self) -> bool:
        """Whether a tool was called by then that must not be called twice."""
        return not self.safe and self.border > FIRST_CALL

    def steps(self) -> list[dict[str, Any]]:
        steps = [{**step, "repeat": self.safe} if "call" in step else step for step in STEPS]
        at = PIECES[self.border][0] if self.border < len(PIECES) else len(steps)
        if self.in_tool:
            steps[at] = {**steps[at], "hold": True}
            return steps
        return [*steps[:at], {"hold": True}, *steps[at:]]

    def is_there(self) -> Callable[[Received], bool]:
        """True of the block after which the agent stands at the border."""
        if self.border == 0:
            return started(1)
        return lambda heard: heard.block.payload.get("index") == self.border - 1


Lost = Callable[[Stack, list[Follower]], Awaitable[None]]


async def killed(stack: Stack, followers: list[Follower]) -> None:
    stack.agents.pop(0).kill()
    await stack.add_agents()


async def frozen(stack: Stack, followers: list[Follower]) -> None:
    """It wakes up once every run is taken over, and goes on with what it was doing.

    If it woke up earlier, it would renew the leases of its other runs, which hold for ever.
    """
    sleeper = stack.agents[0]
    sleeper.freeze()
    await stack.add_agents()
    await wait_for_all(followers, is_taken_over, within=ENDED_WITHIN)
    sleeper.thaw()


def is_taken_over(heard: Received) -> bool:
    """True of the start of attempt 2, and of the end of a run that has no other attempt."""
    return started(2)(heard) or final_event()(heard)


async def drained(stack: Stack, followers: list[Follower]) -> None:
    leaver = stack.agents.pop(0)
    leaver.terminate()
    await asyncio.gather(leaver.ended(within=30), stack.add_agents())


@pytest.mark.long
@pytest.mark.parametrize("lost", [killed, frozen, drained], ids=lambda lost: lost.__name__)
async def test_a_process_lost_at_any_border_leaves_whole_parts_and_a_history_that_is_accepted(
    stacks: Stacks,
    judge: Judge,
    size: Size[bool],
    chance: random.Random,
    tmp_path: Path,
    lost: Lost,
) -> None:
    record = tmp_path / "record"
    cases = [Case(*those) for those in product(range(len(PIECES) + 1), (True, False), PROVIDERS)]
    if size(True, False):  # one provider for each, in turn
        cases = [
            case for case in cases if PROVIDERS[(case.border + case.safe) % 2] == case.provider
        ]
    with anthropic_server.serving() as other:
        also = {
            "AGENTS": f"openai={THEN_OPENAI},anthropic={THEN_ANTHROPIC}",
            "ANTHROPIC_BASE_URL": other.url,
            "AGENT_CONCURRENCY": "64",
            "RUN_LEASE": str(LEASE),
            "AGENT_DRAIN": "1",
        }
        async with stacks(workers=0, agents=1, also=also) as stack:
            visitor = await stack.visitor()
            asked = [await ask(visitor, case, record) for case in cases]
            followers = [visitor.follower(one.conversation, cursor=one.cursor) for one in asked]
            async with following(followers, within=ENDED_WITHIN):
                await all_at_their_borders(cases, asked, followers, record)
                await lost(stack, followers)
            for case, one in zip(cases, asked, strict=True):
                await check_reply(visitor, case, one)
            report = await judge(visitor, asked, followers)
            assert report.clean, report
            assert {run for run, _, _ in noted(record)} <= {one.run for one in asked}
            await asyncio.gather(*(next_turn(visitor, one) for one in asked))
            assert any("tool_use" in json.dumps(request["messages"]) for request in other.requests)


async def ask(visitor: Visitor, case: Case, record: Path) -> AcceptedRun:
    metadata = {"record": str(record)}
    return await visitor.ask(json.dumps(case.steps()), model=case.provider, metadata=metadata)


async def all_at_their_borders(
    cases: list[Case], asked: list[AcceptedRun], followers: list[Follower], record: Path
) -> None:
    for case, follower in zip(cases, followers, strict=True):
        await follower.wait_for(case.is_there(), within=ENDED_WITHIN)
    for case, one in zip(cases, asked, strict=True):
        if case.in_tool:
            name = STEPS[PIECES[case.border][0]]["call"]
            call = (one.run, 1, name)
            await until(
                partial(_is_noted, record, call),
                within=ENDED_WITHIN,
                what=f"the tool {name} of {case}",
            )


async def check_reply(visitor: Visitor, case: Case, one: AcceptedRun) -> None:
    """The run's one ending, and the parts that it left."""
    run = await visitor.run(one.run)
    ending = run["status"], run["error"] and run["error"]["code"], run["attempt"]
    snapshot = await visitor.conversation(one.conversation)
    parts = snapshot["messages"][-1]["parts"]
    whole = list(reply_until(len(PIECES)))
    if case.called:
        assert ending == ("failed", "tools_called", 1), case
        assert named(parts) == [*reply_until(case.border), *closure(case)], case
    else:
        assert ending == ("completed", None, 2), case
        assert named(parts) == whole, case


def reply_until(border: int) -> list[PartJson]:
    """The parts of the pieces before the border; a call is known by the name of its tool."""
    parts: list[PartJson] = []
    for place, kind in PIECES[:border]:
        match STEPS[place], kind:
            case {"think": text}, _:
                parts.append({"type": "reasoning", "text": text})
            case {"say": text}, _:
                parts.append({"type": "text", "text": text})
            case {"source": title}, _:
                url = f"https://example.org/{title}"
                parts.append({"type": "source", "source": url, "title": title, "url": url})
            case {"data": value}, _:
                part = {"type": "data", "name": "data", "data": value, "id": "1"}
                if value == 1:
                    parts.append(part)
                else:
                    parts = [part if old["type"] == "data" else old for old in parts]
            case {"call": name}, "call":
                parts.append(
                    {"type": "tool_call", "call": name, "name": name, "input": {"step": 1}}
                )
            case {"call": name}, _:
                parts.append({"type": "tool_result", "call": name, "output": f"{name} is done"})
    return parts


def closure(case: Case) -> list[PartJson]:
    if not case.in_tool:
        return []
    name = STEPS[PIECES[case.border][0]]["call"]
    return [{"type": "tool_result", "call": name, "error": "worker_lost"}]


def named(parts: list[PartJson]) -> list[PartJson]:
    """The parts with the name of the tool in place of each call's random id."""
    names = {part["call"]: part["name"] for part in parts if part["type"] == "tool_call"}
    return [{**part, "call": names[part["call"]]} if "call" in part else part for part in parts]


async def next_turn(visitor: Visitor, one: AcceptedRun) -> None:
    """A provider that refuses calls without results accepts the conversation."""
    question = script(tokens=3, seed=one.run, calls=[[["clock", {"zone": "UTC"}]]])
    sent = await visitor.send(one.conversation, question)
    await visitor.follower(one.conversation, cursor=sent.cursor).follow()
    run = await visitor.run(sent.run)
    assert (run["status"], run["text"]) == ("completed", expected(question)), run["error"]


def _is_noted(record: Path, call: tuple[str, int, str]) -> bool:
    """Whether the tool has noted this call: run, attempt and tool."""
    return call in noted(record)
