"""The fold: the state of a reader after its events."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streams.protocol.events import (
    ConversationUpdated,
    EndedRun,
    Event,
    LiveRun,
    MessageCreated,
    MessageView,
    ReasoningDelta,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunQueued,
    RunStarted,
    Snapshot,
    TextDelta,
    TextSnapshot,
    Usage,
)
from streams.protocol.parts import TextPart, text_parts
from streams.protocol.sse import clean, decode, encode, encode_frame
from streams.protocol.stream_frames import Heartbeat
from tests.support.fold import ConversationState, fold

RUN, MESSAGE, REPLY = UUID(int=1), UUID(int=2), UUID(int=3)
USAGE = Usage(input_tokens=1, output_tokens=2, total_tokens=3, estimated=True)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ASKED = MessageView(
    id=MESSAGE,
    role="user",
    content="Why?",
    parts=text_parts("Why?"),
    reply_to=None,
    run=None,
    created_at=NOW,
)
ENDED = RunCompleted(run=RUN, attempt=1, reply=REPLY, finish_reason="stop", usage=USAGE)


def after(*events: Event | Snapshot) -> ConversationState:
    heard = ConversationState()
    for event in events:
        heard = fold(heard, event)
    return heard


def started(attempt: int = 1) -> RunStarted:
    return RunStarted(run=RUN, attempt=attempt, model="m")


def delta(index: int, text: str, attempt: int = 1) -> TextDelta:
    return TextDelta(run=RUN, attempt=attempt, index=index, text=text)


def whole(text: str, attempt: int = 1) -> TextSnapshot:
    return TextSnapshot(run=RUN, attempt=attempt, index=4, text=text, parts=text_parts(text))


def test_deltas_are_joined() -> None:
    assert after(started(), delta(0, "Hel"), delta(1, "lo")).replies[RUN].text == "Hello"


def test_reasoning_is_kept_apart_from_the_text() -> None:
    thought = ReasoningDelta(run=RUN, attempt=1, index=0, text="Hm.")
    reply = after(started(), thought, delta(1, "So")).replies[RUN]
    assert (reply.reasoning, reply.text) == ("Hm.", "So")


def test_a_higher_attempt_restarts_the_reply_and_an_older_one_is_ignored() -> None:
    heard = after(started(1), delta(0, "old"), started(2), delta(1, "late"), delta(0, "new", 2))
    assert heard.replies[RUN].text == "new"


def test_a_text_snapshot_replaces_the_deltas() -> None:
    heard = after(started(), delta(0, "all"), whole("all of it"), delta(8, "."))
    assert heard.replies[RUN].parts == (TextPart(text="all of it."),)


def test_nothing_follows_a_final_event() -> None:
    heard = after(started(), delta(0, "So."), ENDED, delta(1, "never"), started(2))
    assert (heard.replies[RUN].text, heard.replies[RUN].ending) == ("So.", ENDED)


def test_a_final_event_keeps_the_text_of_an_earlier_attempt() -> None:
    ending = RunCancelled(run=RUN, attempt=2, reply=REPLY, usage=USAGE)
    assert after(started(), delta(0, "half"), ending).replies[RUN].text == "half"


def test_a_snapshot_replaces_all_earlier_state() -> None:
    live = LiveRun(
        id=RUN,
        status="running",
        attempt=2,
        message=MESSAGE,
        text="He",
        reasoning="",
        parts=text_parts("He"),
    )
    now = Snapshot(
        id=UUID(int=9),
        title="t",
        model="m",
        created_at=NOW,
        messages=(ASKED,),
        earlier=None,
        runs=(live,),
        unanswered=(),
        cursor=5,
    )
    heard = after(started(9), delta(0, "other life", 9), now, delta(3, "llo", 2))
    assert heard.messages == {MESSAGE: ASKED}
    assert heard.replies[RUN].text == "Hello"
    assert decode(now.type, encode(now)) == now


@pytest.mark.parametrize(
    "ending",
    [
        RunCancelled(run=RUN, attempt=2, reply=None, usage=USAGE),
        RunFailed(
            run=RUN, attempt=2, reply=None, code="model_silent", reason="Silent.", usage=USAGE
        ),
    ],
)
def test_a_run_without_a_reply_is_the_same_from_a_snapshot_and_from_its_events(
    ending: RunCancelled | RunFailed,
) -> None:
    failed = isinstance(ending, RunFailed)
    ended = EndedRun(
        id=RUN,
        status="failed" if failed else "cancelled",
        attempt=2,
        message=MESSAGE,
        code=ending.code if failed else None,
        reason=ending.reason if failed else None,
        usage=USAGE,
    )
    now = Snapshot(
        id=UUID(int=9),
        title="",
        model="",
        created_at=NOW,
        messages=(ASKED,),
        earlier=None,
        runs=(),
        unanswered=(ended,),
        cursor=5,
    )
    asked = (MessageCreated(message=ASKED), RunQueued(run=RUN, message=MESSAGE))
    assert after(now) == after(*asked, started(2), ending)
    assert decode(now.type, encode(now)) == now


def test_a_title_change_is_folded() -> None:
    assert after(ConversationUpdated(title="New", model="m")).title == "New"


texts = st.text(st.characters(exclude_categories=[])).map(clean)
events: st.SearchStrategy[Event] = st.one_of(
    st.builds(delta, st.integers(0, 9), texts, st.integers(1, 3)),
    st.builds(started, st.integers(1, 3)),
    st.builds(whole, texts, st.integers(1, 3)),
    st.builds(MessageCreated, message=texts.map(lambda text: replace(ASKED, content=text))),
    st.just(RunQueued(run=RUN, message=MESSAGE)),
    st.just(ENDED),
)


@given(events)
@example(delta(0, "a\x85b\u2028c\u2029d\v\f\x1c\x1d\x1e"))
def test_an_encoded_event_is_one_line_and_decodes_to_the_same(event: Event) -> None:
    line = encode(event)
    assert line.splitlines() == [line]
    assert decode(event.type, line) == event


def test_a_block_has_its_event_its_data_and_then_its_id() -> None:
    event = RunQueued(run=RUN, message=MESSAGE)
    data = f'{{"run":"{RUN}","message":"{MESSAGE}"}}'
    assert encode_frame(event, 7) == f"event: run.queued\ndata: {data}\nid: 7\n\n".encode()
    assert encode_frame(Heartbeat(head=7)) == b'event: heartbeat\ndata: {"head":7}\n\n'


@given(st.lists(events, max_size=30), st.data())
def test_a_reader_that_resumes_ends_with_the_same_state(
    heard: list[Event], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(heard)))
    before = after(*heard[:cut])
    resumed = before
    for event in heard[cut:]:
        resumed = fold(resumed, event)
    assert resumed == after(*heard)
