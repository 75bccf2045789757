"""JSON that agents give: each value is stored and sent as JSON, or ends the run where it enters."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest

from streams.log.slots import parts_in, payload_of
from streams.protocol.events import PartAdded, TextSnapshot
from streams.protocol.parts import Part, TextPart, part_json, part_of
from streams.protocol.sse import decode, encode
from workers.agents import Data, Source, ToolCall, ToolResult, Turn
from workers.agents.json_values import MOST_LEVELS
from workers.agents.testing import Reply, run

RUN = UUID(int=1)


@dataclass
class Holder:
    value: Any


class Faulty:
    """As a model of pydantic whose values have no JSON."""

    def model_dump(self, *, mode: str) -> Any:
        raise RuntimeError(mode)


class Endless:
    def model_dump(self, *, mode: str) -> Any:
        return self


def nested(levels: int) -> Any:
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"x": value}
    return value


def cycle() -> list[Any]:
    made: list[Any] = ["\ud800"]
    made.append(made)
    return made


def cycle_of_dicts() -> dict[str, Any]:
    made: dict[str, Any] = {}
    made["again"] = made
    return made


CLEANED = [
    pytest.param("a\x00b", "a\ufffdb", id="NUL"),
    pytest.param("\ud800x", "\ufffdx", id="a lone surrogate"),
    pytest.param({"\ud800": ["\x00"]}, {"\ufffd": ["\ufffd"]}, id="unstorable keys"),
    pytest.param("\\u0000", "\\u0000", id="an escape that is text"),
    pytest.param(Holder("\x00"), {"value": "\ufffd"}, id="NUL in a dataclass"),
    pytest.param([float("nan"), float("inf"), -float("inf")], [None] * 3, id="not finite"),
    pytest.param({7: 1, None: 2, True: 3}, {"7": 1, "null": 2, "true": 3}, id="other keys"),
    pytest.param([2**64 - 1, -(2**63)], [2**64 - 1, -(2**63)], id="integers of 64 bits"),
    pytest.param(nested(MOST_LEVELS - 1), nested(MOST_LEVELS - 1), id="many levels"),
    pytest.param([[1]] * 99, [[1]] * 99, id="many lists"),
]
REFUSED = [
    pytest.param(2**64, id="an integer beyond 64 bits"),
    pytest.param(-(2**63) - 1, id="a negative integer beyond 64 bits"),
    pytest.param({2**64: 1}, id="a key beyond 64 bits"),
    pytest.param({(1, 2): 1}, id="a key without JSON"),
    pytest.param(cycle(), id="a cycle"),
    pytest.param(cycle_of_dicts(), id="a cycle of dicts"),
    pytest.param(nested(MOST_LEVELS + 1), id="too many levels"),
    pytest.param(nested(250), id="as many levels as orjson reads"),
    pytest.param(nested(100_000), id="levels beyond the stack"),
    pytest.param(Holder("\ud800"), id="a lone surrogate in a dataclass"),
    pytest.param(Faulty(), id="a model that cannot be dumped"),
    pytest.param(Endless(), id="a model that dumps itself"),
    pytest.param(b"bytes", id="bytes"),
]


async def replied(*items: Any) -> Reply:
    async def agent(turn: Turn) -> AsyncIterator[Any]:
        yield "before"
        for item in items:
            yield item

    return await run(agent, "Go")


def items_with(value: Any) -> list[list[Any]]:
    """The same value as input, output and data."""
    return [
        [ToolCall("a", {"x": value}, "c")],
        [ToolCall("a", {}, "c"), ToolResult("c", {"x": value})],
        [Data("a", {"x": value})],
    ]


def assert_is_json(part: Part) -> None:
    """The part survives the log, the wire and the database."""
    assert parts_in([], "0", payload_of(part)) == (part,)
    assert part_of(json.loads(json.dumps(part_json(part), allow_nan=False))) == part
    snapshot = TextSnapshot(run=RUN, attempt=1, index=1, text="", parts=(part,))
    assert decode("text.snapshot", encode(snapshot)) == snapshot
    assert not isinstance(part, TextPart)
    added: Any = PartAdded(run=RUN, attempt=1, index=1, part=part)  # type: ignore[arg-type]
    assert decode(added.type, encode(added)) == added


@pytest.mark.parametrize(("value", "cleaned"), CLEANED)
async def test_a_value_is_cleaned_wherever_it_enters(value: Any, cleaned: Any) -> None:
    for items in items_with(value):
        reply = await replied(*items)
        assert reply.code is None
        part: Any = reply.parts[-1]
        assert_is_json(part)
        found = [getattr(part, name, None) for name in ("input", "output", "data")]
        assert {"x": cleaned} in found


@pytest.mark.parametrize("value", REFUSED)
async def test_a_value_without_json_ends_the_run_wherever_it_enters(value: Any) -> None:
    for items in items_with(value):
        reply = await replied(*items)
        assert (reply.code, reply.text) == ("agent_error", "before")
        assert all(json.dumps(part_json(part)) for part in reply.parts)


@pytest.mark.parametrize("text", ["a\x00b", "a\ud800b"])
async def test_the_texts_of_parts_are_cleaned(text: str) -> None:
    reply = await replied(
        ToolCall(text, {}, text),
        ToolResult(text, error=text),
        Source(text, f"https://example.org/{text}"),
        Data(text, 1, text),
    )
    assert reply.code is None
    for part in reply.parts[1:]:
        assert_is_json(part)
        assert "a\ufffdb" in str(part_json(part))


@pytest.mark.parametrize("url", ["https://[", 7, "javascript:alert(1)"])
async def test_a_url_that_is_none_ends_the_run(url: Any) -> None:
    assert (await replied(Source("A", url))).code == "agent_error"
