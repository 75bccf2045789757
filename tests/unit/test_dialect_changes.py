"""A reader that is told only the changes between states of a reply has the whole reply."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from streams.dialects.changes import (
    Change,
    Closed,
    Ended,
    Grown,
    Opened,
    Replaced,
    Started,
    TakenBack,
    changes,
)
from streams.dialects.position import CLOSING, OPENING, Position, reply_at
from streams.protocol.fold import Reply
from streams.protocol.parts import (
    AnyPart,
    ReasoningPart,
    TextPart,
)
from tests.support.reply_histories import RUN, histories


class Reader:
    """Applies changes as a client of any wire would."""

    def __init__(self, parts: tuple[AnyPart, ...] = (), attempt: int = 0) -> None:
        self.parts = list(parts)
        self.open: set[int] = {
            place
            for place, part in enumerate(parts)
            if place == len(parts) - 1 and isinstance(part, TextPart | ReasoningPart)
        }
        self.attempt, self.ended = attempt, False

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
            case Started(attempt=attempt):
                assert attempt > self.attempt
                self.attempt = attempt
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
    assert (reader.attempt, reader.ended, reader.open) == (states[-1].attempt, True, set())


@given(histories(), st.data())
def test_a_reader_at_any_position_of_the_last_attempt_gets_the_rest(
    states: list[Reply], data: st.DataObject
) -> None:
    last = states[-1]
    place = data.draw(st.integers(-1, len(last.parts) - 1))
    part = last.parts[place] if place >= 0 else None
    length = len(part.text) if isinstance(part, TextPart | ReasoningPart) else 0
    offset = OPENING + data.draw(st.integers(0, length)) if part else 0
    position = Position(attempt=last.attempt, place=place, offset=offset)
    assert Position.of(int(position)) == position
    before = reply_at(position, last)
    assert before
    reader = Reader(before.parts, before.attempt)
    for change in changes(before, last):
        reader.apply(change)
    assert (tuple(reader.parts), reader.ended, reader.open) == (last.parts, True, set())


def test_a_position_that_the_reply_does_not_reach_is_none() -> None:
    now = Reply(run=RUN, attempt=2, parts=(TextPart(text="ab"),))
    for attempt, place, offset in ((1, 0, 2), (3, 0, 2), (2, 1, 0), (2, 0, 5), (2, 2046, 0)):
        assert reply_at(Position(attempt=attempt, place=place, offset=offset), now) is None
    closed = reply_at(Position(attempt=2, place=0, offset=CLOSING), now)
    assert closed
    assert closed.parts == now.parts


def test_positions_ascend_and_fit_a_number_of_javascript() -> None:
    largest = Position(attempt=2**20, place=2046, offset=2**22 - 1)
    assert int(largest) < 2**53
    order = [(1, -1, 0), (1, 0, 0), (1, 0, 7), (1, 1, 0), (1, 2046, 0), (2, -1, 0)]
    numbers = [int(Position(attempt=a, place=p, offset=o)) for a, p, o in order]
    assert numbers == sorted(set(numbers))
