"""Readers that come late or again fold the same parts from events and snapshots."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from streams.protocol.events import (
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
)
from streams.protocol.fold import Reply
from streams.protocol.parts import Part, ReasoningPart, TextPart, add_part, text_of
from streams.protocol.sse import decode, encode
from tests.support.fold import ConversationState, fold
from tests.unit.support.part_strategies import MESSAGE, NOW, REPLY, RUN, USAGE, parts


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
