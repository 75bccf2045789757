"""Parts: their JSON, and that each reader folds the same parts wherever it was cut off."""

import json
from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streams.protocol.events import EVENTS, PartAdded, TextSnapshot
from streams.protocol.parts import (
    AnyPart,
    DataPart,
    Part,
    ReasoningPart,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    WholePart,
    part_json,
    part_of,
    reasoning_of,
    text_of,
    text_parts,
)
from streams.protocol.sse import decode, encode
from tests.unit.support.part_strategies import RUN, joined, parts, whole_parts


def test_a_part_is_one_json_object_without_the_fields_that_have_no_value() -> None:
    cases: list[tuple[Part, dict[str, Any]]] = [
        (TextPart(text="Hi"), {"type": "text", "text": "Hi"}),
        (ReasoningPart(text="Hm."), {"type": "reasoning", "text": "Hm."}),
        (
            ToolCallPart(call="1", name="clock", input={}),
            {"type": "tool_call", "call": "1", "name": "clock", "input": {}},
        ),
        (
            ToolCallPart(call="1", name="web", input={"q": None}, executed="provider"),
            {
                "type": "tool_call",
                "call": "1",
                "name": "web",
                "input": {"q": None},
                "executed": "provider",
            },
        ),
        (ToolResultPart(call="1"), {"type": "tool_result", "call": "1", "output": None}),
        (
            ToolResultPart(call="1", output="12", truncated=True),
            {"type": "tool_result", "call": "1", "output": "12", "truncated": True},
        ),
        (
            ToolResultPart(call="1", error="failed"),
            {"type": "tool_result", "call": "1", "error": "failed"},
        ),
        (SourcePart(source="1", title="T"), {"type": "source", "source": "1", "title": "T"}),
        (
            DataPart(name="plan", data=None, id="p"),
            {"type": "data", "name": "plan", "data": None, "id": "p"},
        ),
    ]
    for part, data in cases:
        assert part_json(part) == data
        assert part_of(data) == part


@given(parts)
def test_a_part_that_is_stored_comes_back_as_it_was(part: Part) -> None:
    assert part_of(json.loads(json.dumps(part_json(part)))) == part


@pytest.mark.parametrize("value", [{"type": "video"}, {}, {"type": ["text"]}, "text", None])
def test_what_is_no_part_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="no part of a known type"):
        part_of(value)


def test_a_part_with_a_wrong_field_is_refused() -> None:
    for value in ({"type": "text"}, {"type": "tool_call", "call": "1", "name": "n", "input": [1]}):
        with pytest.raises(ValueError, match="1 validation error"):
            part_of(value)


def test_text_joins_the_text_that_stands_last_and_no_other() -> None:
    call = ToolCallPart(call="1", name="clock", input={})
    assert joined(
        *(TextPart(text=text) for text in ("It ", "is", "")),
        ReasoningPart(text="Hm"),
        ReasoningPart(text="."),
        call,
        TextPart(text=""),
        TextPart(text=" noon."),
    ) == (
        TextPart(text="It is"),
        ReasoningPart(text="Hm."),
        call,
        TextPart(text=" noon."),
    )


def test_data_with_an_id_takes_the_place_of_the_data_with_its_name_and_id() -> None:
    old, other = DataPart(name="plan", data=1, id="a"), DataPart(name="list", data=2, id="a")
    loose = DataPart(name="plan", data=3)
    new = replace(old, data=[4])
    assert joined(old, other, loose, TextPart(text="x"), new, loose) == (
        new,
        other,
        loose,
        TextPart(text="x"),
        loose,
    )


@given(st.lists(parts, max_size=12))
def test_the_text_is_the_text_parts_joined_by_nothing(added: list[Part]) -> None:
    reply = joined(*added)
    assert text_of(reply) == "".join(part.text for part in added if isinstance(part, TextPart))
    assert reasoning_of(reply) == "".join(p.text for p in added if isinstance(p, ReasoningPart))


def test_a_reply_of_text_alone_is_one_part_and_an_empty_one_none() -> None:
    assert text_parts("So.") == (TextPart(text="So."),)
    assert text_parts("") == ()


def test_an_event_has_the_fields_of_its_part_beside_its_own() -> None:
    place = {"run": str(RUN), "attempt": 1, "index": 4}
    added = PartAdded(run=RUN, attempt=1, index=4, part=ToolResultPart(call="1", output=[1]))
    assert added.type == "tool.returned"
    assert json.loads(encode(added)) == {**place, "call": "1", "output": [1]}


def test_each_kind_of_whole_part_has_an_event() -> None:
    kinds = {kind.event for kind in get_args(WholePart)}
    assert kinds == {"tool.called", "tool.returned", "source.added", "data.updated"}
    assert {type for type, kind in EVENTS.items() if kind is PartAdded} == kinds
    assert len({kind.type for kind in get_args(AnyPart)}) == len(get_args(AnyPart))


@given(whole_parts)
@example(SourcePart(source="\u2028", title="\x85\u2029\x1c"))
def test_an_event_of_a_part_is_one_line_and_decodes_to_the_same(part: WholePart) -> None:
    event = PartAdded(run=RUN, attempt=2, index=7, part=part)
    line = encode(event)
    assert line.splitlines() == [line]
    assert decode(event.type, line) == event


@given(st.lists(parts, max_size=8))
def test_a_snapshot_of_the_parts_is_one_line_and_decodes_to_the_same(added: list[Part]) -> None:
    reply = joined(*added)
    event = TextSnapshot(run=RUN, attempt=1, index=3, text=text_of(reply), parts=reply)
    line = encode(event)
    assert line.splitlines() == [line]
    assert decode(event.type, line) == event
