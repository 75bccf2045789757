"""A reader's position in a run's reply: how much was sent, as one ascending integer.

It consists of the attempt, the part and the sent amount of the part. It names no event, so it needs
no state, and stays valid after the log has expired. It has 53 bits, because JavaScript's numbers
have no more.

The offset in a text or reasoning is eight times the number of its characters, plus 1 to 7 for its
closing frames; offsets below eight stand for its opening frames. The offset in any other part is a
checksum of the part, followed by the number of the frame. So the server notices if the part is not
the part that was sent.
"""

from dataclasses import dataclass, replace
from zlib import crc32

import orjson

from streams.protocol.fold import Reply
from streams.protocol.parts import AnyPart, DataPart, ReasoningPart, TextPart, part_json

PART_BITS, OFFSET_BITS, FRAME_BITS = 11, 25, 3
HEAD, END = 0, 2**PART_BITS - 1  # the part numbers of the frames before and after all parts
FRAMES = 2**FRAME_BITS
CHECKSUMS = 2 ** (OFFSET_BITS - FRAME_BITS - 1)


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Position:
    """The position after frame number `offset` of the part at `place`, in this attempt.

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
        """Read a position. Raises `ValueError` if the number is not a position."""
        if not 0 <= number < 2**53:
            raise ValueError("this is no position")
        return cls(
            attempt=(number >> (PART_BITS + OFFSET_BITS)) + 1,
            place=(number >> OFFSET_BITS & END) - 1,
            offset=number & (2**OFFSET_BITS - 1),
        )

    @classmethod
    def within(cls, reply: Reply, place: int, frame: int = 0) -> "Position":
        """The position after frame 0 to 7 of a part, or after an opening frame of a text."""
        part, offset = reply.parts[place], frame
        if not isinstance(part, TextPart | ReasoningPart):
            offset += (CHECKSUMS + _checksum(part)) * FRAMES
        return cls(attempt=max(1, reply.attempt), place=place, offset=offset)

    @classmethod
    def after_text(cls, reply: Reply, place: int, closing: int = 0) -> "Position":
        """The position after all characters of a text or reasoning, and 0 to 7 closing frames."""
        part = reply.parts[place]
        assert isinstance(part, TextPart | ReasoningPart)
        offset = len(part.text) * FRAMES + closing
        return cls(attempt=max(1, reply.attempt), place=place, offset=offset)

    @property
    def is_end(self) -> bool:
        return bool(self.place == END - 1)


def reply_at(position: Position, now: Reply) -> Reply | None:
    """The reply that a reader at this position has, or None if `now` no longer contains it.

    A data part that was replaced after it was sent counts as sent in its present form.
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
    part, (sent, closing) = now.parts[position.place], divmod(position.offset, FRAMES)
    if not isinstance(part, TextPart | ReasoningPart):
        if sent != CHECKSUMS + _checksum(part):
            return None
    elif sent > len(part.text) or (sent and closing and sent != len(part.text)):
        return None
    else:
        part = replace(part, text=part.text[:sent])
    return replace(before, parts=(*now.parts[: position.place], part))


def _checksum(part: AnyPart) -> int:
    """The checksum of the part, without data that may be replaced.

    The keys are sorted, because a database may change their order.
    """
    if isinstance(part, DataPart) and part.id is not None:
        part = replace(part, data=None)
    encoded = orjson.dumps(part_json(part), option=orjson.OPT_SORT_KEYS)
    return int(crc32(encoded) % CHECKSUMS)
