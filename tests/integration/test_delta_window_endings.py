"""What becomes of text in the delta window when its attempt stops or its log is lost."""

import pytest
import redis

from streams.chat import finish
from streams.chat.message_view import parts_of
from streams.models import Run
from streams.protocol.parts import TextPart
from tests.integration.support.stepped_reply import SteppedReplies, SteppedReply
from tests.integration.support.window_events import WINDOW, events, folded, heard
from workers import reply_writer
from workers.lease import still_held

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


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
