"""Parts: their JSON, and that each reader folds the same parts wherever it was cut off."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, get_args
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streams.protocol.events import (
    EVENTS,
    Event,
    LiveRun,
    PartAdded,
    ReasoningDelta,
    RunCompleted,
    RunQueued,
    RunStarted,
    Snapshot,
    TextDelta,
    TextSnapshot,
    Usage,
)
from streams.protocol.fold import Reply
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
    add_part,
    part_json,
    part_of,
    reasoning_of,
    text_of,
    text_parts,
)
from streams.protocol.sse import clean, decode, encode
from tests.support.fold import ConversationState, fold

RUN, MESSAGE, REPLY = UUID(int=1), UUID(int=2), UUID(int=3)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
USAGE = Usage(input_tokens=1, output_tokens=2, total_tokens=3, estimated=True)

texts = st.text(st.characters(exclude_categories=[]), max_size=6).map(clean)
names = st.sampled_from(["a", "b"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
results = st.builds(ToolResultPart, call=names, output=json_values, truncated=st.booleans())
errors = st.builds(ToolResultPart, call=names, error=texts)
whole_parts: st.SearchStrategy[WholePart] = st.one_of(
    st.builds(
        ToolCallPart,
        call=names,
        name=texts,
        input=st.dictionaries(texts, json_values, max_size=3),
        executed=st.sampled_from(["provider", None]),
    ),
    results,
    errors,
    st.builds(SourcePart, source=texts, title=texts, url=st.none() | texts),
    st.builds(DataPart, name=names, data=json_values, id=st.none() | names),
)
parts: st.SearchStrategy[Part] = st.one_of(
    st.builds(TextPart, text=texts), st.builds(ReasoningPart, text=texts), whole_parts
)


def joined(*added: Part) -> tuple[Part, ...]:
    reply: tuple[Part, ...] = ()
    for part in added:
        reply = add_part(reply, part)
    return reply


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
    assert text_parts("So.", "Hm.") == (ReasoningPart(text="Hm."), TextPart(text="So."))
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


@st.composite
def stories(draw: st.DrawFn) -> tuple[list[Event], tuple[Part, ...]]:
    """The events of one run as its log has them, and the parts of its last attempt."""
    events: list[Event] = [RunQueued(run=RUN, message=MESSAGE)]
    reply: tuple[Part, ...] = ()
    attempts = draw(st.integers(1, 3))
    for attempt in range(1, attempts + 1):
        events.append(RunStarted(run=RUN, attempt=attempt, model="m"))
        reply = ()
        for index, part in enumerate(draw(st.lists(parts, max_size=8))):
            reply = add_part(reply, part)
            where = {"run": RUN, "attempt": attempt, "index": index}
            match part:
                case _ if draw(st.integers(0, 9)) == 9:
                    events.append(TextSnapshot(**where, text=text_of(reply), parts=reply))
                case TextPart():
                    events.append(TextDelta(**where, text=part.text))
                case ReasoningPart():
                    events.append(ReasoningDelta(**where, text=part.text))
                case _:
                    events.append(PartAdded(**where, part=part))
    if draw(st.booleans()):
        events.append(
            RunCompleted(run=RUN, attempt=attempts, reply=REPLY, finish_reason="stop", usage=USAGE)
        )
    return events, reply


def folded(state: ConversationState, events: list[Event]) -> ConversationState:
    for event in events:
        received = decode(event.type, encode(event))
        state = fold(state, received)
    return state


def snapshot_of(state: ConversationState) -> Snapshot:
    def live(reply: Reply) -> LiveRun:
        return LiveRun(
            id=reply.run,
            status="running" if reply.attempt else "queued",
            attempt=reply.attempt,
            message=reply.message or MESSAGE,
            text=reply.text,
            reasoning=reply.reasoning,
            parts=reply.parts,
        )

    runs = tuple(live(reply) for reply in state.replies.values())
    snapshot = Snapshot(
        id=UUID(int=9),
        title="",
        model="",
        created_at=NOW,
        messages=(),
        earlier=None,
        runs=runs,
        unanswered=(),
        cursor=5,
    )
    decoded = decode(snapshot.type, encode(snapshot))
    assert decoded == snapshot
    return snapshot


@given(stories(), st.data())
def test_a_reader_that_gets_a_snapshot_at_any_point_folds_the_same_parts(
    story: tuple[list[Event], tuple[Part, ...]], data: st.DataObject
) -> None:
    events, reply = story
    whole = folded(ConversationState(), events)
    assert whole.replies[RUN].parts == reply
    before_the_end = len(events) - isinstance(events[-1], RunCompleted)
    cut = data.draw(st.integers(0, before_the_end))
    heard = data.draw(st.integers(0, cut))
    current = folded(ConversationState(), events[:cut])
    for known in (ConversationState(), folded(ConversationState(), events[:heard])):
        resumed = folded(fold(known, snapshot_of(current)), events[cut:])
        assert resumed.replies == whole.replies


@given(stories(), st.data())
def test_a_reader_that_resumes_at_any_cut_folds_the_same_parts(
    story: tuple[list[Event], tuple[Part, ...]], data: st.DataObject
) -> None:
    events, _ = story
    cut = data.draw(st.integers(0, len(events)))
    resumed = folded(folded(ConversationState(), events[:cut]), events[cut:])
    assert resumed == folded(ConversationState(), events)
