"""The delta window: text that arrives shortly after a reply's last event becomes one event.

Most tests write a reply step by step into a real log; the last ones let a whole worker write it.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from streams.chat import ask, finish
from streams.chat.message_view import parts_of
from streams.log.channels import channel_of
from streams.log.event_log import log_of, the_log
from streams.log.values import Page
from streams.models import Run
from streams.protocol.events import PartAdded, Piece, TextSnapshot
from streams.protocol.parts import Part, ReasoningPart, SourcePart, TextPart
from streams.protocol.sse import decode
from tests.integration.support.stepped_reply import SteppedReplies, SteppedReply
from tests.integration.support.written_runs import until, worker_process, write_in_thread
from tests.support.fold import ConversationState, fold
from tests.support.openai_server import expected
from workers import reply_writer
from workers.delta_window import LONGEST, TICKS
from workers.lease import still_held
from workers.run_attempt import generate
from workers.runtime import Runtime

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]
WINDOW = 0.02
LATEST = WINDOW + WINDOW / TICKS + 0.0001  # seconds that a piece may wait
SOURCE = SourcePart(source="s", title="A source")


@pytest.fixture
def replies(settings: Any) -> Iterator[SteppedReplies]:
    settings.DELTA_WINDOW = WINDOW
    with SteppedReplies() as made:
        yield made


def events(run: Run) -> list[Piece | TextSnapshot]:
    """The events of the run's pieces in the log."""
    read = [decode(type, data) for type, data in entries(run)]
    return [event for event in read if isinstance(event, Piece | TextSnapshot)]


def entries(run: Run) -> list[tuple[str, str]]:
    """The type and data of all that the log of the run's conversation holds."""
    read, last = list[tuple[int, str, str]](), False
    while not last:
        page = log_of(run.conversation_id).read_after(read[-1][0] if read else first_id(run))
        assert isinstance(page, Page)
        read += page.entries
        last = page.last
    return [(type, data) for _, type, data in read]


def first_id(run: Run) -> int:
    """The cursor before all events of the log's epoch."""
    state = f"{{{channel_of(run.conversation_id)}}}:state"
    return int(the_log()._servers.command(0, "HGET", state, "epoch_start")) - 1


def heard(reply: SteppedReply) -> list[str]:
    """What the log holds once all that was published is in it: a word for each event."""
    reply.trip()
    said = list[str]()
    for number, event in enumerate(events(reply.run)):
        assert event.index == number
        said.append(event.type if isinstance(event, PartAdded) else event.text)
    return said


def folded(run: Run) -> tuple[Part, ...]:
    """The parts that a reader of the whole log has."""
    known = ConversationState()
    for type, data in entries(run):
        known = fold(known, decode(type, data))
    return known.replies[run.id].parts


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


def stopped(replies: SteppedReplies, reply: SteppedReply) -> Run:
    """The run, after an attempt with a word that waits was stopped, and has resigned."""
    reply.append("b")
    reply.trip()
    reply.writer.stop()
    replies.time.step(1)
    assert reply.writer.parts == (TextPart(text="a"),)
    reply.attempt.resign()
    assert heard(reply) == ["a"]
    return Run.objects.select_related("reply").get(pk=reply.run.pk)


def test_a_cancelled_reply_drops_what_waits(replies: SteppedReplies) -> None:
    reply = replies.reply()
    reply.append("a")
    reply.trip()
    finish.cancel(reply.run.id)
    run = stopped(replies, reply)
    assert (run.status, parts_of(run.reply)) == ("cancelled", (TextPart(text="a"),))


def test_a_released_reply_drops_what_waits(replies: SteppedReplies) -> None:
    reply = replies.reply()
    reply.append("a")
    run = stopped(replies, reply)
    assert (run.status, parts_of(run.reply)) == ("queued", ())


def lost(replies: SteppedReplies, valkey: redis.Redis) -> SteppedReply:
    """A reply whose log was lost: the log has refused its second word, and the third waits."""
    reply = replies.reply()
    reply.append("a")
    reply.trip()
    valkey.flushall()
    replies.time.step(WINDOW)
    reply.append("b")
    reply.append("c")
    reply.trip()
    return reply


def test_a_lost_log_gets_what_waits_with_all_parts(
    replies: SteppedReplies, valkey: redis.Redis
) -> None:
    reply = lost(replies, valkey)
    reply.confirm()
    assert reply.writer.parts == folded(reply.run) == (TextPart(text="abc"),)
    assert [(event.type, event.index) for event in events(reply.run)] == [("text.snapshot", 2)]


def test_text_that_becomes_due_before_a_lost_log_is_restored_comes_with_all_parts(
    replies: SteppedReplies, valkey: redis.Redis
) -> None:
    reply = lost(replies, valkey)
    replies.time.step(WINDOW * 2)
    reply.confirm()
    assert reply.writer.parts == folded(reply.run) == (TextPart(text="abc"),)
    assert [(event.type, event.index) for event in events(reply.run)] == [("text.snapshot", 2)]


def test_all_parts_come_before_text_that_becomes_due_meanwhile(
    replies: SteppedReplies, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    reply = lost(replies, valkey)

    def window_passes(run: Run) -> bool:
        replies.time.step(WINDOW * 2)
        return still_held(run)

    monkeypatch.setattr(reply_writer, "still_held", window_passes)
    reply.append("d")
    reply.confirm()
    assert reply.writer.parts == folded(reply.run) == (TextPart(text="abcd"),)
    assert [(event.type, event.index) for event in events(reply.run)] == [
        ("text.snapshot", 2),
        ("text.delta", 3),
    ]


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


@pytest.fixture
def process(settings: Any) -> Iterator[Runtime]:
    with worker_process(settings) as running:
        yield running


def asked(**script: Any) -> tuple[Run, str]:
    text = json.dumps(script)
    made = ask.begin(owner="visitor:a", text=text)
    return Run.objects.get(pk=made.run), expected(text)


def test_a_fast_model_is_written_in_few_events(process: Runtime) -> None:
    run, text = asked(tokens=2000, rate=1000, reasoning=500)
    generate(run.id, process)
    run.refresh_from_db()
    assert run.reply
    assert run.started_at
    assert run.ended_at
    assert (run.status, run.reply.content) == ("completed", text)
    assert folded(run) == parts_of(run.reply)
    seconds = (run.ended_at - run.started_at).total_seconds()
    assert len(events(run)) <= seconds / WINDOW + 3  # first, last, and the change of kind


def test_a_run_that_takes_too_long_keeps_what_waits(process: Runtime, settings: Any) -> None:
    settings.RUN_TIMEOUT = 3.0
    settings.DELTA_WINDOW = 60.0
    run, _ = asked(text=["a ", "b ", "c "], rate=5, pause_at=2, pause=60)
    generate(run.id, process)
    run.refresh_from_db()
    assert run.reply
    assert (run.code, run.reply.content) == ("run_too_long", "a b ")
    assert folded(run) == parts_of(run.reply)


def test_a_model_that_breaks_off_keeps_what_waits(process: Runtime, settings: Any) -> None:
    settings.DELTA_WINDOW = 4.0
    run, _ = asked(text=["a ", "b ", "c "], rate=5, fault="truncated", fault_at=2)
    generate(run.id, process)
    run.refresh_from_db()
    assert run.reply
    assert (run.code, run.reply.content) == ("model_interrupted", "a b ")
    assert folded(run) == parts_of(run.reply)


def test_a_cancelled_reply_is_what_was_received(process: Runtime, settings: Any) -> None:
    settings.DELTA_WINDOW = 60.0
    run, text = asked(tokens=100, rate=200)
    thread = write_in_thread(run, process)
    until(lambda: events(run))
    finish.cancel(run.id)
    thread.join(20)
    run.refresh_from_db()
    assert run.reply
    assert run.status == "cancelled"
    assert folded(run) == parts_of(run.reply)
    assert len(run.reply.content) < len(text) / 10  # the first piece, and none that waited
