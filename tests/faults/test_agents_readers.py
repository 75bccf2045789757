"""LangChain's own agent with three tools, read over connections that break again and again."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from tests.faults.conftest import Judge, Size, Stacks
from tests.support.agent_paths import THREE_TOOLS
from tests.support.many_followers import following
from tests.support.recording import Ended
from tests.support.visitor import Visitor, script

ROUNDS, TOKENS, EVENTS = 20, 1350, 1500
RATE = 150  # tokens a second
DROPS = 15  # of each reader
LARGEST_CUT = 16_000  # bytes; 15 of them are less than the reply's
READ_WITHIN = 120.0  # seconds


def question() -> str:
    rounds: list[list[list[Any]]] = [
        [
            ["clock", {"zone": f"zone {n}"}, f"clock-{n}"],
            ["search", {"words": f"word{n}"}, f"search-{n}"],
            ["divide", {"by": n + 1}, f"divide-{n}"],
        ]
        for n in range(ROUNDS)
    ]
    return script(tokens=TOKENS, rate=RATE, calls=rounds)


async def test_readers_of_a_graph_with_tools_lose_and_repeat_nothing_through_15_drops(
    stacks: Stacks, judge: Judge, size: Size[int], chance: random.Random, tmp_path: Path
) -> None:
    record = tmp_path / "record"
    # Each piece is an event, so that there are enough of them to drop at.
    also = {"AGENTS": f"three={THREE_TOOLS}", "DELTA_WINDOW": "0"}
    async with stacks(webs=2, workers=0, agents=1, also=also) as stack:
        visitor = await stack.visitor(port=stack.entrance.port)
        metadata = {"record": str(record)}
        one = await visitor.ask(question(), model="three", metadata=metadata)
        followers = [
            visitor.follower(
                one.conversation,
                cursor=chance.choice([None, 0, one.cursor]),
                cuts=[chance.randrange(1, LARGEST_CUT) for _ in range(DROPS)],
            )
            for _ in range(size(8, 60))
        ]
        async with following(followers, within=READ_WITHIN):
            pass
        drops = [
            sum(connection.ended is Ended.DROPPED for connection in follower.recording.connections)
            for follower in followers
        ]
        assert set(drops) == {DROPS}
        late = visitor.follower(one.conversation, cursor=0)
        async with following([late], within=READ_WITHIN):
            pass
        assert sum(1 for _ in late.recording.received()) >= EVENTS
        report = await judge(visitor, [one], [*followers, late])
        assert report.clean, report
        assert (report.lost, report.repeated, report.out_of_order) == (0, 0, 0)
        await compare_with_graph(visitor, one.conversation, record)


async def compare_with_graph(visitor: Visitor, conversation: str, record: Path) -> None:
    """The stored parts are the graph's own messages; only tools at once may end in any order."""
    (own,) = map(json.loads, record.read_text().splitlines())
    snapshot = await visitor.conversation(conversation)
    parts = snapshot["messages"][-1]["parts"]
    assert own["attempt"] == 1
    assert in_call_order(parts) == in_call_order(own["parts"])
    sources = [part["source"] for part in parts if part["type"] == "source"]
    assert sources == [f"https://example.org/word{n}" for n in range(ROUNDS)]
    data = [part for part in parts if part["type"] == "data"]
    assert data == [{"type": "data", "name": "found", "id": "found", "data": f"word{ROUNDS - 1}"}]


def in_call_order(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Text and calls in their order, each call with its result."""
    results = {part["call"]: part for part in parts if part["type"] == "tool_result"}
    kept: list[dict[str, Any]] = []
    for part in parts:
        if part["type"] == "text":
            kept.append(part)
        elif part["type"] == "tool_call":
            kept += [part, results.pop(part["call"])]
    assert results == {}
    return kept
