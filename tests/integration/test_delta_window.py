"""The delta window: text that arrives shortly after a reply's last event becomes one event.

Most tests write a reply step by step into a real log; the last ones let a whole worker write it.
"""

from typing import Any

import pytest

from streams.protocol.parts import ReasoningPart, SourcePart, TextPart
from tests.integration.support.stepped_reply import SteppedReplies
from tests.integration.support.window_events import LATEST, WINDOW, folded, heard
from workers.delta_window import LONGEST, TICKS

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]
SOURCE = SourcePart(source="s", title="A source")


def test_the_first_piece_goes_at_once_and_others_become_one_event(
    replies: SteppedReplies,
) -> None:
    reply = replies.reply()
    reply.append("a ")
    assert heard(reply) == ["a "]
    for word in ("b ", "c ", "d "):
        replies.time.step(0.001)
        reply.append(word)
    assert heard(reply) == ["a "]
    assert reply.writer.parts == (TextPart(text="a "),)  # what waits is no part of it
    replies.time.step(LATEST)
    assert heard(reply) == ["a ", "b c d "]


def test_a_piece_after_a_longer_pause_goes_at_once(replies: SteppedReplies) -> None:
    reply = replies.reply()
    reply.append("a ")
    replies.time.step(WINDOW)
    reply.append("b ")
    assert heard(reply) == ["a ", "b "]
    assert replies.time.timers_set == 0


def test_a_model_whose_pace_is_the_windows_is_not_held_by_a_late_timer(
    replies: SteppedReplies,
) -> None:
    """Its first token was a little early, and the timer late. Those after it do not wait."""
    reply, time = replies.reply(), replies.time
    reply.append("a ")
    time.step(0.9 * WINDOW)
    reply.append("b ")
    time.step(0.3 * WINDOW)  # the timer sends it within a tick after the window's end
    assert heard(reply) == ["a ", "b "]
    for number in range(2, 8):
        time.step(WINDOW if number > 2 else 0.8 * WINDOW)
        reply.append(f"{number} ")
        assert heard(reply)[-1] == f"{number} "


def test_no_piece_waits_longer_than_the_window_and_one_tick(replies: SteppedReplies) -> None:
    """Whenever it arrives, also in the window of an event that was itself held."""
    reply, arrived = replies.reply(), dict[str, float]()
    for number in range(200):
        for _ in range(number % 3 + 1):
            word = f"{len(arrived)} "
            arrived[word] = replies.time.now
            reply.append(word)
        replies.time.step(0.0007 * (number % 11))
        published = "".join(part.text for part in reply.writer.parts if isinstance(part, TextPart))
        waiting = list(arrived)[published.count(" ") :]
        assert all(replies.time.now - arrived[word] <= LATEST for word in waiting)
    assert len(arrived) - len(waiting) > 300


def test_a_fast_reply_has_at_most_as_many_events_as_windows(replies: SteppedReplies) -> None:
    reply = replies.reply()
    for number in range(1000):
        reply.append(f"{number} ")
        replies.time.step(0.001)
    assert 40 <= reply.writer.events <= 51
    reply.confirm()
    assert "".join(heard(reply)) == "".join(f"{number} " for number in range(1000))


def test_a_long_text_does_not_wait(replies: SteppedReplies) -> None:
    reply = replies.reply()
    reply.append("a")
    reply.append("b" * (LONGEST - 1))
    assert reply.writer.events == 1
    reply.append("c" * 10)  # together they are too long for one event
    assert heard(reply) == ["a", "b" * (LONGEST - 1)]
    reply.append("d" * LONGEST)
    assert heard(reply) == ["a", "b" * (LONGEST - 1), "c" * 10, "d" * LONGEST]


def test_another_kind_of_part_comes_after_what_waits(replies: SteppedReplies) -> None:
    reply = replies.reply()
    for item in ("a", "b", ReasoningPart(text="c"), ReasoningPart(text="d"), SOURCE, "e", SOURCE):
        reply.append(item)
    assert heard(reply) == ["a", "b", "cd", "source.added", "e", "source.added"]
    assert [part.type for part in folded(reply.run)] == [
        "text",
        "reasoning",
        "source",
        "text",
        "source",
    ]


def test_the_end_of_the_reply_comes_after_what_waits(replies: SteppedReplies) -> None:
    reply = replies.reply()
    reply.append("a")
    reply.append("b")
    reply.confirm()
    assert heard(reply) == ["a", "b"]
    assert folded(reply.run) == reply.writer.parts == (TextPart(text="ab"),)


def test_all_replies_share_one_timer(replies: SteppedReplies) -> None:
    made = [replies.reply() for _ in range(3)]
    for _ in range(2):
        for reply in made:
            reply.append("a")
    assert replies.time.timers_set == 1
    replies.time.step(LATEST)
    assert [heard(reply) for reply in made] == [["a", "a"]] * 3
    assert replies.time.timers_set <= TICKS + 1
    before = replies.time.timers_set
    replies.time.step(1)  # nothing waits, so no timer runs
    assert replies.time.timers_set == before


def test_without_a_window_each_piece_is_an_event(replies: SteppedReplies, settings: Any) -> None:
    settings.DELTA_WINDOW = 0
    reply = replies.reply()
    for word in "abcdef":
        reply.append(word)
    assert heard(reply) == list("abcdef")
    assert replies.time.timers_set == 0


# A whole worker.
