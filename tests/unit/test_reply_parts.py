"""The parts of a reply in the worker: their bound, and what replaces what."""

import pytest

from streams.log.slots import payload_of
from streams.protocol.parts import DataPart, SourcePart, TextPart
from workers.reply_parts import PUBLISHED_PER_KEPT, ReplyParts, ReplyTooLong

SOURCE = SourcePart(source="s", title="é")
SIZE = len(payload_of(SOURCE).encode())


def test_a_whole_part_that_does_not_fit_is_not_added() -> None:
    reply = ReplyParts(SIZE + 2)
    reply.add_part(SOURCE)
    with pytest.raises(ReplyTooLong):
        reply.add_part(SOURCE)
    reply.add_text(TextPart, reply.fit("So it is"))
    assert reply.parts == (SOURCE, TextPart(text="So"))


def test_replaced_data_makes_room_for_its_successor() -> None:
    first, second = (DataPart(name="d", id="1", data=data) for data in ("a" * 50, "b" * 60))
    reply = ReplyParts(len(payload_of(second)))
    writes = [reply.add_part(part) for part in (first, second)]
    assert [write.slot for write in writes] == [0, 0]
    assert reply.parts == (second,)
    with pytest.raises(ReplyTooLong):
        reply.add_part(DataPart(name="d", id="2", data=""))


def test_an_attempt_may_not_replace_data_without_end() -> None:
    part = DataPart(name="d", id="1", data="a" * 50)
    reply = ReplyParts(len(payload_of(part)))
    for _ in range(PUBLISHED_PER_KEPT):
        reply.add_part(part)
    with pytest.raises(ReplyTooLong):
        reply.add_part(part)
