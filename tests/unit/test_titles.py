"""A conversation's title, cut from its first message where a reader sees a character end."""

from __future__ import annotations

import pytest

from streams.chat.titles import title_of

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466"
FLAG = "\U0001f1e9\U0001f1ea"


@pytest.mark.parametrize(
    ("sign", "kept"),
    [
        ("x", 60),
        (FLAG, 60),
        ("e\u0301", 60),
        ("हि", 60),
        ("\U0001f44d\U0001f3fd", 60),
        (FAMILY, 28),
    ],
)
def test_a_title_is_cut_between_grapheme_clusters(sign: str, kept: int) -> None:
    assert title_of(sign * 70) == sign * kept + "…"


@pytest.mark.parametrize("text", ["Hello", FLAG * 60, "  two \n words  ", "x" * 60])
def test_a_short_message_is_its_title(text: str) -> None:
    assert title_of(text) == " ".join(text.split())


def test_a_title_ends_with_a_whole_word() -> None:
    assert title_of("What is the meaning of these words, " * 3) == (
        "What is the meaning of these words, What is the meaning of…"
    )


def test_a_grapheme_of_thousands_of_accents_fits_the_column() -> None:
    assert len(title_of("x" + "\u0301" * 5000)) == 200
