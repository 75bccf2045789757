"""A reader's position in a run's reply: how much was sent, as one ascending integer.

It names the attempt, the part and the characters of the part, not an event. So it needs no state,
and stays valid after the log has expired. 53 bits, because JavaScript has no larger whole numbers.
"""

from dataclasses import dataclass, replace

from streams.protocol.fold import Reply
from streams.protocol.parts import ReasoningPart, TextPart

PART_BITS, OFFSET_BITS = 11, 22
ATTEMPT_BITS = 53 - PART_BITS - OFFSET_BITS
HEAD, END = 0, 2**PART_BITS - 1  # the numbers of what comes before and after all parts
OPENING = 2  # offsets 0 and 1 are those of a part's opening frames; n + 2 is after n characters
CLOSING = 2**OFFSET_BITS - 3  # the offset of a part's first closing frame of three


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Position:
    """After the frame number `offset` of the part at `place`, in this attempt.

    `place` is -1 before all parts and `END - 1` after them.
    """

    attempt: int
    place: int
    offset: int

    def __int__(self) -> int:
        part = self.place + 1
        return (self.attempt - 1) << (PART_BITS + OFFSET_BITS) | part << OFFSET_BITS | self.offset

    @classmethod
    def of(cls, number: int) -> "Position":
        """Read a position. Raises `ValueError` for a number that is none."""
        if not 0 <= number < 2**53:
            raise ValueError("this is no position")
        return cls(
            attempt=(number >> (PART_BITS + OFFSET_BITS)) + 1,
            place=(number >> OFFSET_BITS & END) - 1,
            offset=number & (2**OFFSET_BITS - 1),
        )

    @property
    def is_end(self) -> bool:
        return bool(self.place == END - 1)


def reply_at(position: Position, now: Reply) -> Reply | None:
    """The reply that a reader at this position has, or None if `now` no longer contains it.

    A data part that was replaced since the position counts as sent in its present form.
    """
    if position.attempt != now.attempt or (position.is_end and not now.ending):
        return None
    if position.is_end:
        return now
    before = replace(now, ending=None)
    if position.place < 0:
        return replace(before, parts=())
    if position.place >= len(now.parts):
        return None
    part, sent = now.parts[position.place], max(0, position.offset - OPENING)
    if isinstance(part, TextPart | ReasoningPart) and position.offset < CLOSING:
        if sent > len(part.text):
            return None
        part = replace(part, text=part.text[:sent])
    return replace(before, parts=(*now.parts[: position.place], part))
