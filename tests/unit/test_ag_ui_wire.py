"""A client of AG-UI ends with the thread and its reply, wherever its connections were cut."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.dialects.ag_ui import KEPT, AgUiWire, nothing
from streams.dialects.ag_ui_messages import Message, Thread, part_id, reply_messages, snapshots
from streams.http.disconnect import StreamBroken
from streams.protocol.events import Ending, RunCancelled, RunCompleted, RunFailed, Usage
from streams.protocol.fold import Reply
from streams.protocol.parts import (
    AnyPart,
    DataPart,
    ReasoningPart,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from tests.support.ag_ui_fold import AgUiClient
from tests.support.reply_histories import RUN, any_histories

NAMES = ("thread", "run")
EARLIER = UUID(int=7)
QUESTION: Message = {"id": "q", "role": "user", "content": "?"}
OWN: Message = {"id": "own", "role": "activity", "activityType": "page", "content": {}}
earlier_parts: st.SearchStrategy[list[AnyPart]] = st.lists(
    st.sampled_from(
        [
            TextPart(text="t"),
            ReasoningPart(text="r"),
            SourcePart(source="s", title="s"),
            ToolCallPart(call="c", name="n", input={}),
        ]
    ),
    max_size=3,
    unique_by=lambda part: part.type,
)
# After how many frames each connection is cut, and from how many states further the next one tells.
cuts = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3)), max_size=5)


def wire(thread: Thread | None, had: list[Message] | None) -> AgUiWire:
    return AgUiWire(names=NAMES, model="m", thread=thread, had=had)


def follow(
    client: AgUiClient,
    states: list[Reply],
    cuts: list[tuple[int, int]],
    thread: Thread,
    *,
    is_new: bool,
    kept: bool = True,
) -> None:
    """Let the client come back until the run has ended. `kept`: a new stream keeps the thread."""
    position = 0
    while not client.ended:
        left, further = cuts.pop() if cuts else (1000, 0)
        stream = wire(thread if kept or not is_new else None, None if is_new else client.sent)
        before, is_new = None, False
        client.connect()
        try:
            while left > 0 and not client.ended:
                now = states[position]
                for frame in list(stream.frames(before, now))[:left]:
                    client.take(frame)
                    left -= 1
                before, position = now, min(position + 1, len(states) - 1)
        except StreamBroken:
            pass  # the client comes back
        position = min(position + further, len(states) - 1)


@given(any_histories(), cuts, earlier_parts, st.booleans())
def test_the_messages_are_the_reply_however_its_streams_were_cut(
    states: list[Reply], cuts: list[tuple[int, int]], parts: list[AnyPart], kept: bool
) -> None:
    before = [*reply_messages(EARLIER, parts), QUESTION]
    thread = Thread.of(before)
    client = AgUiClient([*thread.with_reply([]), OWN])
    follow(client, states, cuts, thread, is_new=True, kept=kept)
    shown = [one for one in client.messages if one != OWN]
    assert shown == thread.with_reply(reply_messages(RUN, states[-1].parts))
    assert OWN in client.messages  # it is the page's own


@given(
    any_histories(),
    cuts,
    earlier_parts,
    st.integers(0, 3),
    st.booleans(),
)
def test_a_client_with_half_of_the_thread_ends_with_all_of_it(
    states: list[Reply],
    cuts: list[tuple[int, int]],
    parts: list[AnyPart],
    lost: int,
    is_ended: bool,
) -> None:
    """It lost its connection within the reply before, and then asked; or it comes late."""
    reply = reply_messages(EARLIER, parts)
    later = [{"id": "z", "role": "user", "content": "And?"}] if is_ended else []
    thread = Thread.of([*reply, QUESTION], later)
    had = [one for one in reply[: max(0, len(reply) - lost)] if one["role"] != "activity"]
    left = [{"id": "gone", "role": "reasoning", "content": "void"}]
    client = AgUiClient([*had, *left, QUESTION])
    follow(client, states[-1:] if is_ended else states, cuts, thread, is_new=False)
    whole = thread.with_reply(reply_messages(RUN, states[-1].parts))
    assert without_activities(client.messages) == without_activities(whole)
    assert sorted(one["id"] for one in client.messages) == sorted(one["id"] for one in whole)


def without_activities(messages: list[Message]) -> list[Message]:
    return [one for one in messages if one["role"] != "activity"]


def events(frames: list[bytes]) -> list[dict[str, Any]]:
    return [orjson.loads(one.removeprefix(b"data: ")) for one in frames]


def test_each_ending_has_its_own_last_event() -> None:
    before = Reply(run=RUN, attempt=1, parts=(ReasoningPart(text="r"), TextPart(text="t")))
    usage = Usage(input_tokens=1, output_tokens=2, total_tokens=3, estimated=False)
    facts = {"run": RUN, "attempt": 1, "reply": None, "usage": usage}
    counts = {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3}
    told = {"usage": [{"model": "m", **counts}], "metadata": {"usageEstimated": False}}
    finished = {"type": "RUN_FINISHED", "threadId": "thread", "runId": "run", **told}
    length = {"usageEstimated": False, "finishReason": "length"}
    endings: dict[Ending, dict[str, Any]] = {
        RunCompleted(finish_reason="length", **facts): {  # type: ignore[arg-type]
            **finished,
            "outcome": {"type": "success"},
            "metadata": length,
        },
        RunCancelled(**facts): {**finished, "outcome": {"type": "cancelled"}},  # type: ignore[arg-type]
        RunFailed(code="internal", reason="It failed.", **facts): {  # type: ignore[arg-type]
            "type": "RUN_ERROR",
            "message": "It failed.",
            "code": "internal",
            **told,
        },
    }
    for ending, last in endings.items():
        now = Reply(run=RUN, attempt=1, parts=before.parts, ending=ending)
        frames = list(wire(None, None).frames(before, now))
        assert events(frames) == [{"type": "TEXT_MESSAGE_END", "messageId": f"{RUN}-1"}, last]


def test_tools_sources_and_data_keep_what_they_say() -> None:
    parts = (
        ToolCallPart(call="c", name="find", input={"a": 1}),
        ToolResultPart(call="c", error="It is away.", truncated=True),
        ToolCallPart(call="d", name="find", input={}),
        ToolResultPart(call="d", output={"found": None}),
        SourcePart(source="s", title="S", url="https://example.org"),
        DataPart(name="n", data=None, id="1"),
    )
    now = Reply(run=RUN, attempt=1, parts=parts)
    client = AgUiClient([])
    for frame in wire(None, None).frames(None, now):
        client.take(frame)
    assert client.messages == reply_messages(RUN, parts)
    assert [one.get("content") for one in client.messages] == [
        None,
        "It is away.",
        None,
        '{"found":null}',
        {"source": "s", "title": "S", "url": "https://example.org"},
        {"name": "n", "data": None},
    ]
    assert client.messages[1]["metadata"] == {"error": True, "truncated": True}


def test_a_stream_does_not_keep_a_long_thread_and_breaks_when_words_are_taken_back() -> None:
    long = Thread.of([{**QUESTION, "content": "?" * KEPT}])
    before = Reply(run=RUN, attempt=1, parts=(TextPart(text="t"),))
    for thread, breaks in ((long, True), (Thread.of([QUESTION]), False)):
        stream = wire(thread, [])
        assert len(list(stream.frames(None, before))) == 3
        again = Reply(run=RUN, attempt=2)
        if breaks:
            with pytest.raises(StreamBroken):
                list(stream.frames(before, again))
        else:
            types = [one["type"] for one in events(list(stream.frames(before, again)))]
            assert types == ["MESSAGES_SNAPSHOT", "TEXT_MESSAGE_END"]


def test_a_thread_that_does_not_exist_leaves_the_clients_messages_alone() -> None:
    client = AgUiClient([QUESTION])
    for frame in nothing(NAMES).split(b"\n\n")[:-1]:
        client.take(frame + b"\n\n")
    assert (client.messages, client.ended) == ([QUESTION], True)


SOURCE = SourcePart(source="s", title="S", url=None)
CALL = ToolCallPart(call="c", name="n", input={})


@pytest.mark.parametrize(
    ("parts", "places"),
    [
        # The client may have the source as an activity, which its request does not tell.
        ((CALL, SOURCE, ToolResultPart(call="c", output="o")), [0]),
        # Before the log was lost, the result's id was a text's.
        ((CALL, SOURCE, ToolResultPart(call="c", output="o")), [0, 2]),
        ((CALL, TextPart(text="t"), ToolResultPart(call="c", output="o")), [0]),
        ((TextPart(text="t"), SOURCE, TextPart(text="u")), [2]),
        # It was cut after a list that made reasoning another kind of message.
        ((TextPart(text="t"), ReasoningPart(text="r"), SOURCE), [0, 2]),
    ],
)
def test_a_list_begins_anew_where_the_client_may_have_another_order(
    parts: tuple[AnyPart, ...], places: list[int]
) -> None:
    messages = reply_messages(RUN, parts)
    had = [{"id": part_id(RUN, place), "role": "assistant", "content": "t"} for place in places]
    assert list(snapshots(messages, had)) == [[], messages]
    assert list(snapshots(messages, [])) == [messages]


def test_a_client_with_a_part_has_the_activities_before_it() -> None:
    earlier = reply_messages(EARLIER, [SOURCE, TextPart(text="t")])
    messages = [*earlier, QUESTION, *reply_messages(RUN, [TextPart(text="u"), SOURCE])]
    text = earlier[1]
    assert list(snapshots(messages, [text, QUESTION])) == [messages]
    # Whether it has a source that came after all parts that it has, is not known.
    later = [*reply_messages(EARLIER, [TextPart(text="t"), SOURCE]), QUESTION]
    assert list(snapshots(later, [later[0], QUESTION])) == [[], later]
    # It was cut after a list with the reasoning alone, which was made another kind of message.
    void = {**text, "content": ""}
    assert list(snapshots(messages, [void, QUESTION])) == [[], messages]
