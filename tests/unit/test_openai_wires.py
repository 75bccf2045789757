"""OpenAI's wires say a reply exactly, for every cut and every way back."""

import json
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from streams.dialects.chat_completions import ChatCompletionWire, completion
from streams.dialects.editions import edition_of
from streams.dialects.responses import ResponseWire
from streams.dialects.responses_body import response_body
from streams.dialects.wire import LastFrames
from streams.protocol.events import RunCancelled, RunCompleted, RunFailed
from streams.protocol.fold import Reply
from streams.protocol.parts import ReasoningPart, TextPart, ToolCallPart, ToolResultPart
from tests.support.reply_histories import RUN, USAGE, histories, shortened
from tests.unit.support.openai_readers import ChatReader, ResponseReader, run

CLOSERS = (
    TextPart(text="abc"),
    ReasoningPart(text="abc"),
    ToolResultPart(call="c", output="found"),
    ToolResultPart(call="c", error="lost"),
)


def whole(reply: Reply) -> dict[str, Any]:
    """The response as `GET` shows it."""
    return response_body(run(), replace(reply, attempt=edition_of(reply.attempt)))


def read_with_cuts(replies: list[Reply], data: st.DataObject) -> ResponseReader:
    """What a reader has in the end that misses some states, and is cut up to six times."""
    reader, at, cuts = ResponseReader(), 0, data.draw(st.integers(0, 6))
    while reader.final is None:
        at = data.draw(st.integers(at, len(replies) - 1))
        wire, before = ResponseWire(run(), after=reader.last), None
        while True:
            frames = [*wire.frames(before, replies[at])]
            is_cut = cuts > 0 and data.draw(st.booleans())
            read = data.draw(st.integers(0, len(frames))) if is_cut else len(frames)
            for frame in frames[:read]:
                reader.read(frame)
            if is_cut or reader.final:
                cuts -= 1
                break
            before, at = replies[at], data.draw(st.integers(at + 1, len(replies) - 1))
    return reader


@given(st.data())
def test_a_response_that_is_cut_anywhere_ends_like_an_uncut_one(data: st.DataObject) -> None:
    replies = data.draw(histories(paired=True))
    reader = read_with_cuts(replies, data)
    last = replies[-1]
    assert reader.final == json.loads(json.dumps(whole(last)))
    assert reader.valid_items(without_voided_calls=True) == reader.final["output"]
    told = ResponseWire(run(), after=reader.last)
    assert [*told.frames(None, last)] == []


@given(histories(paired=True))
def test_a_response_that_is_read_late_has_no_void_item(replies: list[Reply]) -> None:
    reader = ResponseReader()
    for frame in ResponseWire(run()).frames(None, replies[-1]):
        reader.read(frame)
    assert reader.final
    assert reader.valid_items() == reader.final["output"]


@given(st.data())
def test_a_reply_that_ends_with_less_than_was_sent_ends_like_any_other(
    data: st.DataObject,
) -> None:
    replies = data.draw(shortened())
    reader = read_with_cuts(replies, data)
    assert reader.valid_items(without_voided_calls=True) == reader.final["output"]
    texts = [item["content"][0]["text"] for item in reader.final["output"] if item.get("content")]
    parts = [one for one in replies[-1].parts if isinstance(one, TextPart | ReasoningPart)]
    assert texts == [part.text for part in parts]


def test_a_closing_result_in_the_place_of_lost_text_is_told() -> None:
    """The log lost the text, and the run's end gave the call a result at the text's place."""
    call = ToolCallPart(call="c", name="look", input={})
    states = [Reply(run=RUN, attempt=1, parts=(call, one)) for one in CLOSERS[:-1]]
    ending = RunCompleted(run=RUN, attempt=1, reply=RUN, finish_reason="stop", usage=USAGE)
    last = Reply(run=RUN, attempt=1, parts=(call, CLOSERS[-1]), ending=ending)
    for state in states:
        reader = ResponseReader()
        for frame in ResponseWire(run()).frames(None, state):
            reader.read(frame)
        for frame in ResponseWire(run(), after=reader.last).frames(None, last):
            reader.read(frame)
        assert reader.final
        assert reader.valid_items(without_voided_calls=True) == reader.final["output"]


def test_a_completed_item_becomes_incomplete_where_its_run_ends_with_it() -> None:
    """The reader has the whole item, and then the log lost the part after it."""
    parts, reader = (TextPart(text="abc"), ReasoningPart(text="d")), ResponseReader()
    for frame in ResponseWire(run()).frames(None, Reply(run=RUN, attempt=1, parts=parts)):
        if b"reasoning" not in frame:
            reader.read(frame)
    assert [item["status"] for item in reader.items.values()] == ["completed"]
    ending = RunCancelled(run=RUN, attempt=1, reply=None, usage=USAGE)
    last = Reply(run=RUN, attempt=1, parts=parts[:1], ending=ending)
    for frame in ResponseWire(run(), after=reader.last).frames(None, last):
        reader.read(frame)
    assert reader.final
    assert reader.valid_items() == reader.final["output"]
    assert [item["status"] for item in reader.items.values()] == ["incomplete"]


def test_text_that_changes_within_an_attempt_is_said_by_new_items() -> None:
    wire, reader, before = ResponseWire(run()), ResponseReader(), None
    ending = RunCompleted(run=RUN, attempt=1, reply=RUN, finish_reason="stop", usage=USAGE)
    for text in ("ab", "xy", "z"):
        now = Reply(run=RUN, attempt=1, parts=(TextPart(text=text),))
        for frame in wire.frames(before, now):
            reader.read(frame)
        before = now
    for frame in wire.frames(before, replace(now, ending=ending)):
        reader.read(frame)
    assert [item["content"] for item in reader.items.values()][:2] == [[], []]
    assert reader.valid_items() == reader.final["output"]
    assert reader.final["output"][0]["content"][0]["text"] == "z"


def test_a_response_shows_a_tool_that_ran_here_as_a_call_of_the_server() -> None:
    call = ToolCallPart(call="c", name="look", input={"at": 1})
    parts = (call, ToolResultPart(call="c", output={"found": 2}), TextPart(text="Two."))
    ending = RunCompleted(run=RUN, attempt=1, reply=RUN, finish_reason="stop", usage=USAGE)
    body = response_body(run(), Reply(run=RUN, attempt=1, parts=parts, ending=ending))
    assert body["output"] == [
        {
            "type": "mcp_call",
            "id": f"mcp_{RUN}_1_0",
            "server_label": "unspool",
            "name": "look",
            "arguments": '{"at":1}',
            "output": '{"found":2}',
            "error": None,
            "status": "completed",
        },
        {
            "type": "message",
            "role": "assistant",
            "id": f"msg_{RUN}_1_2",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Two.", "annotations": [], "logprobs": []}],
        },
    ]


@given(histories(paired=True), st.data())
def test_chat_completions_say_the_text_once_or_an_error(
    replies: list[Reply], data: st.DataObject
) -> None:
    wire, before, reader = ChatCompletionWire(run(), usage=True), None, ChatReader()
    for now in replies:
        if before is not None and now is not replies[-1] and data.draw(st.booleans()):
            continue  # the reader is told of several events at once
        try:
            for frame in wire.frames(before, now):
                reader.read(frame)
        except LastFrames as last:
            for frame in last.frames:
                reader.read(frame)
            assert now.attempt > 1
            break
        before = now
    last_reply = replies[-1]
    if isinstance(last_reply.ending, RunFailed) or not reader.done:
        assert reader.error
        return
    assert (reader.text, reader.reasoning) == (last_reply.text, last_reply.reasoning)
    whole = completion(run(), last_reply)
    assert whole["choices"][0]["message"]["content"] == reader.text
    assert whole["choices"][0]["finish_reason"] == reader.finish_reason
    assert whole["usage"] == reader.usage


def test_a_cancelled_chat_completion_has_stopped() -> None:
    ending = RunCancelled(run=RUN, attempt=1, reply=None, usage=USAGE)
    reader = ChatReader()
    for frame in ChatCompletionWire(run(), usage=True).frames(None, Reply(run=RUN, ending=ending)):
        reader.read(frame)
    assert (reader.finish_reason, reader.done) == ("stop", True)
