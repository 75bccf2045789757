"""A reader that is told only the changes between states of a reply has the whole reply."""

from dataclasses import replace

from annotated_types import Le
from hypothesis import given
from hypothesis import strategies as st

from streams.conf import StreamSettings
from streams.dialects.changes import (
    Change,
    Closed,
    Ended,
    Grown,
    Opened,
    Replaced,
    TakenBack,
    changes,
)
from streams.dialects.position import END, Position, reply_at
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
from tests.support.reply_histories import RUN, histories


class Reader:
    """Applies changes as a client of any wire would."""

    def __init__(self, parts: tuple[AnyPart, ...] = ()) -> None:
        self.parts = list(parts)
        self.open: set[int] = {
            place
            for place, part in enumerate(parts)
            if place == len(parts) - 1 and isinstance(part, TextPart | ReasoningPart)
        }
        self.ended = False

    def apply(self, change: Change) -> None:
        assert not self.ended
        match change:
            case Opened(place=place, part=part):
                assert place == len(self.parts)
                assert not self.open
                self.parts.append(part)
                if isinstance(part, TextPart | ReasoningPart):
                    self.open.add(place)
            case Grown(place=place, part=part, offset=offset):
                assert self.open == {place}
                had = self.parts[place]
                assert isinstance(had, TextPart | ReasoningPart)
                assert len(had.text) == offset
                self.parts[place] = replace(had, text=had.text + change.text)
                assert self.parts[place] == part
            case Closed(place=place, part=part):
                self.open.remove(place)
                assert self.parts[place] == part
            case Replaced(place=place, part=part):
                self.parts[place] = part
            case TakenBack(parts=parts):
                assert tuple(self.parts) == parts
                self.parts, self.open = [], set()
            case Ended():
                self.ended = True


@given(histories(), st.data())
def test_changes_between_any_states_lead_to_the_last_one(
    states: list[Reply], data: st.DataObject
) -> None:
    seen = sorted(data.draw(st.sets(st.integers(0, len(states) - 2))))
    reader, before = Reader(), Reply(run=RUN)
    for now in [states[place] for place in seen] + [states[-1]]:
        for change in changes(before, now):
            reader.apply(change)
        assert list(changes(now, now)) == []
        before = now
    assert tuple(reader.parts) == states[-1].parts
    assert (reader.ended, reader.open) == (True, set())


@given(histories(), st.data())
def test_a_reader_at_any_position_of_the_last_attempt_gets_the_rest(
    states: list[Reply], data: st.DataObject
) -> None:
    last = states[-1]
    place = data.draw(st.integers(-1, len(last.parts) - 1))
    part = last.parts[place] if place >= 0 else None
    if isinstance(part, TextPart | ReasoningPart):
        shown = replace(part, text=part.text[: data.draw(st.integers(1, len(part.text)))])
        had = replace(last, parts=(*last.parts[:place], shown))
        position = Position.after_text(had, place)
    elif part:
        position = Position.within(last, place, data.draw(st.integers(0, 3)))
    else:
        position = Position(attempt=last.attempt, place=place, offset=0)
    assert Position.of(int(position)) == position
    before = reply_at(position, last)
    assert before
    reader = Reader(before.parts)
    for change in changes(before, last):
        reader.apply(change)
    assert (tuple(reader.parts), reader.ended, reader.open) == (last.parts, True, set())


def test_a_position_that_the_reply_does_not_reach_is_none() -> None:
    now = Reply(run=RUN, attempt=2, parts=(TextPart(text="ab"),))
    for attempt, place, offset in ((1, 0, 2), (3, 0, 2), (2, 1, 0), (2, 0, 12), (2, 2046, 0)):
        assert reply_at(Position(attempt=attempt, place=place, offset=offset), now) is None
    closed = Position.after_text(now, 0, 1)
    assert reply_at(closed, now) == now
    for text in ("a", "abc"):
        assert reply_at(closed, replace(now, parts=(TextPart(text=text),))) is None


def test_a_position_in_another_part_of_the_same_place_is_none() -> None:
    parts = [
        TextPart(text="ab"),
        ToolCallPart(call="c", name="a", input={"a": 1, "b": 2}),
        ToolCallPart(call="d", name="a", input={"a": 1, "b": 2}),
        ToolResultPart(call="c", output="found"),
        ToolResultPart(call="c", error="lost"),
        SourcePart(source="a", title="a"),
        DataPart(name="n", data=1, id="1"),
        DataPart(name="n", data=1, id="2"),
    ]
    for part in parts:
        position = Position.within(Reply(run=RUN, attempt=1, parts=(part,)), 0, 3)
        for other in parts:
            there = reply_at(position, Reply(run=RUN, attempt=1, parts=(other,)))
            assert (there is None) == (part is not other)


def test_a_part_that_is_read_from_the_database_is_the_same_at_its_position() -> None:
    part = ToolCallPart(call="c", name="a", input={"bb": 1, "a": 2})
    stored = replace(part, input={"a": 2, "bb": 1})
    position = Position.within(Reply(run=RUN, attempt=1, parts=(part,)), 0)
    assert reply_at(position, Reply(run=RUN, attempt=1, parts=(stored,)))


def most(setting: str) -> int:
    metadata = StreamSettings.model_fields[setting].metadata
    return next(int(str(bound.le)) for bound in metadata if isinstance(bound, Le))


def test_the_longest_reply_that_the_settings_allow_has_positions() -> None:
    # A run that ends adds a result for each call that has none.
    whole = most("MAX_PARTS") + most("MAX_TOOL_CALLS")
    text = TextPart(text="a" * most("MAX_REPLY_BYTES"))
    reply = Reply(run=RUN, attempt=1, parts=(*[SourcePart(source="s", title="t")] * whole, text))
    position = Position.after_text(reply, whole, 3)
    assert Position.of(int(position)) == position
    assert position < Position(attempt=1, place=END - 1, offset=0)


def test_positions_ascend_and_fit_a_number_of_javascript() -> None:
    largest = Position(attempt=2**17, place=2046, offset=2**25 - 1)
    assert int(largest) < 2**53
    order = [(1, -1, 0), (1, 0, 0), (1, 0, 7), (1, 1, 0), (1, 2046, 0), (2, -1, 0)]
    numbers = [int(Position(attempt=a, place=p, offset=o)) for a, p, o in order]
    assert numbers == sorted(set(numbers))
