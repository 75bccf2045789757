"""Long pieces are split so that each event's data is bounded, and a reply holds so much."""

from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.protocol.events import ReasoningDelta, TextDelta
from streams.protocol.parts import ReasoningPart, TextPart, text_of
from streams.protocol.sse import clean, encode
from workers import reply_text as module
from workers.reply_parts import ReplyParts, ReplyTooLong
from workers.reply_text import split_text

ALPHABETS = ["a", '"', "\x01", "\u2028", "\x85", "é", "漢", "\U0001f600", 'a\u2028"\U0001f600\n']


def data(text: str) -> bytes:
    event = TextDelta(run=uuid4(), attempt=2**31 - 1, index=2**31 - 1, text=text)
    thought = ReasoningDelta(run=uuid4(), attempt=1, index=1, text=text)
    return max(encode(event).encode(), encode(thought).encode(), key=len)


@pytest.mark.parametrize("alphabet", ALPHABETS)
@pytest.mark.parametrize("length", [0, 1, 5_460, 5_461, 65_000, 65_536, 300_000])
def test_each_part_fits_into_an_event_and_they_join_to_the_text(alphabet: str, length: int) -> None:
    text = (alphabet * length)[:length]
    pieces = list(split_text(text))
    assert "".join(pieces) == text
    assert all(0 < len(data(piece)) <= 64 * 1024 for piece in pieces)
    assert len(pieces) <= 1 + len(data(text)) * 2 // (64 * 1024)


@given(text=st.text(), most=st.integers(300, 2_000))
def test_any_text_is_split_without_loss(text: str, most: int) -> None:
    text = clean(text) * 20
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LARGEST_DATA", most)
        pieces = list(split_text(text))
    assert "".join(pieces) == text
    assert all(len(data(piece)) <= most for piece in pieces)


@given(texts=st.lists(st.text(), max_size=5), most=st.integers(1, 20))
def test_a_reply_is_cut_between_characters(texts: list[str], most: int) -> None:
    reply, texts = ReplyParts(most), [clean(text) for text in texts]
    for text in texts:
        if fitting := reply.fit(text):
            reply.add_text(TextPart, fitting)
    whole = "".join(texts)
    kept = text_of(reply.parts)
    assert whole.startswith(kept)
    if len(whole.encode()) <= most:
        reply.check()
        assert kept == whole
    else:
        assert most - 4 < len(kept.encode()) <= most
        with pytest.raises(ReplyTooLong):
            reply.check()


def test_text_and_reasoning_share_the_bound_of_a_reply() -> None:
    reply = ReplyParts(5)
    reply.add_text(ReasoningPart, reply.fit("Hm."))
    reply.add_text(TextPart, reply.fit("Hello"))
    assert reply.parts == (ReasoningPart(text="Hm."), TextPart(text="He"))
