"""The difference between two states of a run's reply: the state that a reader has, and the newest.

A dialect's wire tells a reader which parts open, grow and close. `changes` finds these changes by
comparing two folds of one run, so no old event is needed. The same function serves a reader that
reconnects, because its position says which reply it has.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from streams.protocol.events import Ending
from streams.protocol.fold import Reply
from streams.protocol.parts import AnyPart, DataPart, ReasoningPart, TextPart


@dataclass(frozen=True, kw_only=True, slots=True)
class Opened:
    """A part begins at this place. A whole part is complete; a text or reasoning is still empty."""

    place: int
    part: AnyPart


@dataclass(frozen=True, kw_only=True, slots=True)
class Grown:
    """More text of the part at this place; `offset` counts the characters that it had before."""

    place: int
    part: TextPart | ReasoningPart
    offset: int

    @property
    def text(self) -> str:
        return self.part.text[self.offset :]


@dataclass(frozen=True, kw_only=True, slots=True)
class Closed:
    """The text or reasoning at this place is complete."""

    place: int
    part: TextPart | ReasoningPart


@dataclass(frozen=True, kw_only=True, slots=True)
class Replaced:
    """The data at this place has other content now."""

    place: int
    part: AnyPart


@dataclass(frozen=True, kw_only=True, slots=True)
class TakenBack:
    """All parts of `attempt` that the reader has are void. The next changes begin anew."""

    attempt: int
    parts: tuple[AnyPart, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """The run has ended. No change follows."""

    ending: Ending


Change = Opened | Grown | Closed | Replaced | TakenBack | Ended


def changes(before: Reply, now: Reply) -> Iterator[Change]:
    """Yield the changes from `before` to `now`; none if they are equal or `before` has an ending.

    If the last part of `before` is text or reasoning, it counts as open.
    """
    if before.ending:
        return
    had = before.parts
    if not _continues(had, now.parts):
        yield TakenBack(attempt=before.attempt, parts=had)
        had = ()
    last = len(had) - 1
    for place, part in enumerate(now.parts):
        if place < last and part is had[place]:
            continue
        open_before = place == last and isinstance(part, TextPart | ReasoningPart)
        if place > last or open_before:
            yield from _new(place, part, had[place] if open_before else None)
        elif part != had[place]:
            yield Replaced(place=place, part=part)
        is_open = place == len(now.parts) - 1 and now.ending is None
        if place >= last and not is_open and isinstance(part, TextPart | ReasoningPart):
            yield Closed(place=place, part=part)
    if now.ending:
        yield Ended(ending=now.ending)


def _new(place: int, part: AnyPart, had: AnyPart | None) -> Iterator[Change]:
    if not isinstance(part, TextPart | ReasoningPart):
        yield Opened(place=place, part=part)
        return
    offset = len(had.text) if isinstance(had, TextPart | ReasoningPart) else 0
    if had is None:
        yield Opened(place=place, part=type(part)(text=""))
    if len(part.text) > offset:
        yield Grown(place=place, part=part, offset=offset)


def _continues(had: tuple[AnyPart, ...], now: tuple[AnyPart, ...]) -> bool:
    """Whether every part that the reader has is still there, perhaps longer or replaced."""
    if len(had) > len(now):
        return False
    last = len(had) - 1
    return all(
        part is other or _follows(part, other, may_grow=place == last)
        for place, (part, other) in enumerate(zip(had, now, strict=False))
    )


def _follows(had: AnyPart, now: AnyPart, *, may_grow: bool) -> bool:
    match had, now:
        case (TextPart(text=old), TextPart(text=new)) | (
            ReasoningPart(text=old),
            ReasoningPart(text=new),
        ):
            return new.startswith(old) if may_grow else new == old
        case DataPart(id=str()), DataPart():  # the one may replace the other
            return (had.name, had.id) == (now.name, now.id)
        case _:
            return had == now
