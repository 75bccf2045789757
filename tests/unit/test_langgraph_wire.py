"""LangGraph's wire says a reply exactly, for every cut and every way back."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.dialects.langgraph import MODES, STATUS, LangGraphWire
from streams.dialects.langgraph_messages import reply_messages
from streams.http.disconnect import StreamBroken
from streams.models import Run
from streams.protocol.events import RunCancelled
from streams.protocol.fold import Reply
from streams.protocol.parts import (
    DataPart,
    ReasoningPart,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    add_part,
    part_json,
)
from tests.support.reply_histories import RUN, USAGE, any_histories, histories
from tests.unit.support.langgraph_reader import ASKED, THREAD, Reader, check, wire

MIXES = (MODES, ("messages-tuple",), ("values", "messages-tuple"))


@given(
    histories(paired=True),
    st.sampled_from([MODES, ("messages-tuple",), ("values", "messages-tuple")]),
)
def test_an_uninterrupted_reader_has_the_stored_messages(
    replies: list[Reply], modes: tuple[str, ...]
) -> None:
    reader, before = Reader(), None
    told = wire(reader, modes)
    for now in replies:
        for frame in told.frames(before, now):
            reader.read(frame)
        before = now
    check(reader, replies[-1], modes)
    assert reader.ids == sorted(reader.ids)


@given(any_histories(), st.data())
def test_a_reader_that_is_cut_anywhere_ends_as_one_that_is_not(
    replies: list[Reply], data: st.DataObject
) -> None:
    modes = data.draw(st.sampled_from(MIXES))
    reader, at, cuts = Reader(), 0, 5
    while reader.status is None:
        told, before = wire(reader, modes), None
        while True:
            frames = [*told.frames(before, replies[at])]
            is_cut = cuts > 0 and data.draw(st.booleans())
            read = data.draw(st.integers(0, len(frames))) if is_cut else len(frames)
            for frame in frames[:read]:
                reader.read(frame)
            if is_cut or reader.status:
                cuts -= 1
                break
            before, at = replies[at], data.draw(st.integers(at + 1, len(replies) - 1))
    check(reader, replies[-1], modes)
    assert [*wire(reader, modes).frames(None, replies[-1])] == []


@given(histories(paired=True), st.data())
def test_sources_and_data_are_told_whole_in_custom_mode(
    replies: list[Reply], data: st.DataObject
) -> None:
    reader, before, modes = Reader(), None, ("custom",)
    attempt = [one for one in replies if one.attempt == replies[-1].attempt]  # the last one alone
    told = wire(reader, modes)
    for now in attempt:
        if data.draw(st.booleans()):
            told, before = wire(reader, modes), None
        for frame in told.frames(before, now):
            reader.read(frame)
        before = now
    whole = [part for part in replies[-1].parts if isinstance(part, SourcePart | DataPart)]
    order = {json.dumps(one, sort_keys=True) for one in reader.custom}
    assert order == {json.dumps(part_json(part), sort_keys=True) for part in whole}
    assert len(reader.custom) == len(whole)


@given(any_histories(), st.integers(0, 2**53 - 1))
def test_any_position_ends_with_the_stored_state(replies: list[Reply], number: int) -> None:
    reader = Reader()
    reader.last = number
    for frame in wire(reader).frames(None, replies[-1]):
        reader.read(frame)
    assert reader.status in (None, STATUS[type(replies[-1].ending)])


def agents_reply() -> list[Reply]:
    """The states of a reply with every kind of part, replaced data, and a second attempt."""
    pieces = (
        ReasoningPart(text="Hm."),
        TextPart(text="Let me see."),
        DataPart(name="n", data=1, id="1"),
        ToolCallPart(call="c1", name="look", input={"at": 1}),
        ToolCallPart(call="c2", name="find", input={}),
        ToolResultPart(call="c1", output={"found": 2}),
        ToolResultPart(call="c2", error="It broke."),
        TextPart(text="Tw"),
        SourcePart(source="s", title="A source"),
        DataPart(name="n", data=2, id="1"),
        TextPart(text="o."),
        DataPart(name="n", data=3, id="1"),
    )
    reply = Reply(run=RUN)
    made = [reply]
    for attempt in (1, 2):
        reply = Reply(run=RUN, attempt=attempt)
        made.append(reply)
        for piece in pieces:
            reply = replace(reply, parts=add_part(reply.parts, piece))
            made.append(reply)
    ending = RunCancelled(run=RUN, attempt=2, reply=None, usage=USAGE)
    return [*made, replace(reply, ending=ending)]


def test_an_agents_reply_survives_each_cut_and_each_way_back() -> None:
    replies, tried = agents_reply(), 0
    told, before = LangGraphWire(Run(id=RUN), THREAD), None
    heard: list[tuple[int, bytes]] = []  # each frame, and the state that it belongs to
    for at, now in enumerate(replies):
        heard += [(at, frame) for frame in told.frames(before, now)]
        before = now
    for cut in range(len(heard) + 1):
        for back in range(heard[max(0, cut - 1)][0], len(replies)):
            reader, last = Reader(), None
            for _, frame in heard[:cut]:
                reader.read(frame)
            again = wire(reader)
            for now in replies[back:]:
                for frame in again.frames(last, now):
                    reader.read(frame)
                last = now
            check(reader, replies[-1], MODES)
            assert {"type": "data", "name": "n", "data": 3, "id": "1"} in reader.custom
            tried += 1
    assert tried > 400


def test_a_reader_that_is_cut_while_messages_are_removed_gets_the_stored_ones() -> None:
    parts = (
        TextPart(text="One."),
        ToolCallPart(call="c", name="look", input={}),
        ToolResultPart(call="c", output="Found."),
        TextPart(text="Two."),
    )
    long, short = (Reply(run=RUN, attempt=1, parts=one) for one in (parts, (TextPart(text="x"),)))
    ended = replace(short, ending=RunCancelled(run=RUN, attempt=1, reply=None, usage=USAGE))
    for read in range(4):
        reader = Reader()
        told = wire(reader)
        for frame in [*told.frames(None, long), *[*told.frames(long, short)][:read]]:
            reader.read(frame)
        for frame in wire(reader).frames(None, ended):
            reader.read(frame)
        check(reader, ended, MODES)


def test_text_that_became_shorter_is_removed_and_said_anew() -> None:
    long = Reply(run=RUN, attempt=1, parts=(TextPart(text="abc"),))
    short = replace(long, parts=(TextPart(text="x"),))
    for cut in range(3):
        reader = Reader()
        for frame in wire(reader).frames(None, long):
            reader.read(frame)
        if cut == 0:
            told, before = wire(reader), None
        else:
            told, before = wire(reader), long
        frames = [*told.frames(before, short)]
        for frame in frames if cut < 2 else frames[:1]:
            reader.read(frame)
        for frame in wire(reader).frames(None, short):
            reader.read(frame)
        assert [one["content"] for one in reader.messages.values()] == ["x"]


def test_the_messages_of_an_agent_are_those_of_a_graph() -> None:
    parts = (
        TextPart(text="Let me see."),
        ToolCallPart(call="c1", name="look", input={"at": 1}),
        ToolCallPart(call="c2", name="find", input={}),
        ToolResultPart(call="c1", output={"found": 2}),
        ToolResultPart(call="c2", error="It broke.", truncated=True),
        TextPart(text="Two."),
    )
    asks, found, broke, says = reply_messages(RUN, 1, parts)
    assert (asks["id"], asks["type"], asks["content"]) == (f"{RUN}-1-0", "ai", "Let me see.")
    assert asks["tool_calls"] == [
        {"type": "tool_call", "name": "look", "args": {"at": 1}, "id": "c1"},
        {"type": "tool_call", "name": "find", "args": {}, "id": "c2"},
    ]
    assert (found["content"], found["status"], found["name"]) == ('{"found":2}', "success", "look")
    assert (broke["content"], broke["status"]) == ("It broke.", "error")
    assert broke["additional_kwargs"] == {"truncated": True}
    assert (says["id"], says["content"]) == (f"{RUN}-1-5", "Two.")


def test_a_run_that_was_cancelled_before_it_began_has_an_end() -> None:
    ending = RunCancelled(run=RUN, attempt=0, reply=None, usage=USAGE)
    queued, ended = Reply(run=RUN), Reply(run=RUN, ending=ending)
    reader = Reader()
    for frame in wire(reader).frames(None, queued):
        reader.read(frame)
    frames = [*wire(reader).frames(None, ended)]
    for frame in frames:
        reader.read(frame)
        assert len([*wire(reader).frames(None, ended)]) == len(frames) - 1
        frames = frames[1:]
    assert (reader.status, reader.state) == ("interrupted", [ASKED])


def test_a_state_that_another_run_may_change_breaks_the_stream_when_the_run_begins() -> None:
    queued, begun = Reply(run=RUN), Reply(run=RUN, attempt=1)
    behind = replace(THREAD, is_behind=True)
    told = LangGraphWire(Run(id=RUN), behind)
    assert len([*told.frames(None, queued)]) == 2
    with pytest.raises(StreamBroken):
        [*told.frames(queued, begun)]
    told = LangGraphWire(Run(id=RUN), behind, modes=("messages-tuple",))
    assert [*told.frames(queued, begun)] == []
