"""How two stores stay one truth: a process is stopped between two of its steps, another goes on.

Each test is about one rule of docs/design.md §3.3.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import redis
from django.db.models import F
from django.db.models.functions import Now

from streams.chat import ask, conversations, finish, limits, publisher, sweep
from streams.chat.snapshot import snapshot
from streams.log.channel_log import ChannelLog
from streams.log.channels import channel_of
from streams.log.errors import LogUnavailable, Superseded
from streams.log.event_log import log_of, the_log
from streams.log.values import Append, CursorGap, Page, Watermark
from streams.models import Conversation, DeletedConversation, Message, Run
from streams.protocol.events import LiveRun, TextDelta
from streams.protocol.parts import text_parts
from tests.integration.support.broker import QUEUE
from workers.lease import claim, release

pytestmark = pytest.mark.django_db


class Killed(BaseException):
    """The process is no more."""


@contextmanager
def killed(
    monkeypatch: pytest.MonkeyPatch, owner: Any, step: str, *, after: bool = False
) -> Iterator[None]:
    """The process dies at this step: before it, or after it."""
    real: Callable[..., Any] = getattr(owner, step)

    def die(*args: Any, **kwargs: Any) -> None:
        if after:
            real(*args, **kwargs)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(owner, step, die)
        with pytest.raises(Killed):
            yield


def away(*_: Any, **__: Any) -> None:
    raise LogUnavailable


def begun(text: str = "Why?") -> Run:
    accepted = ask.begin(owner="visitor:a", text=text)
    return Run.objects.select_related("conversation", "message").get(pk=accepted.run)


def claimed(run: Run) -> Run:
    taken = claim(run.id, uuid4())
    assert taken
    taken.conversation.refresh_from_db()
    publisher.publish_start(taken)
    return taken


def speak(run: Run, *texts: str, index: int = 0) -> list[int | Exception]:
    channel = channel_of(run.conversation_id)
    events = [
        TextDelta(run=run.id, attempt=run.attempt, index=index + at, text=text)
        for at, text in enumerate(texts)
    ]
    return publisher.append([Append(channel=channel, event=event, min_head=0) for event in events])


def said(conversation: UUID) -> list[str]:
    page = log_of(conversation).read_after(0)
    assert isinstance(page, Page)
    assert [id for id, _, _ in page.entries] == list(
        range(page.head - len(page.entries) + 1, page.head + 1)
    )
    return [type for _, type, _ in page.entries]


def somebody_else_goes_on() -> None:
    """The sweep of another process, some seconds later."""
    Run.objects.update(created_at=Now() - timedelta(seconds=9))
    Run.objects.exclude(ended_at=None).update(ended_at=F("ended_at") - timedelta(seconds=9))
    sweep.sweep()


ASKED = ["message.created", "run.queued"]


@pytest.mark.usefixtures("valkey")
class TestAskingIsNeverLost:
    """Rule 6."""

    def test_killed_between_the_commit_and_the_announcement(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with killed(monkeypatch, ask, "publish_pending"):
            begun()
        run = Run.objects.get()
        somebody_else_goes_on()
        somebody_else_goes_on()
        assert said(run.conversation_id) == ASKED

    def test_killed_between_the_saying_and_its_note(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with killed(monkeypatch, ChannelLog, "append_once", after=True):
            begun()
        run = Run.objects.get()
        somebody_else_goes_on()
        assert said(run.conversation_id) == ASKED
        run.refresh_from_db()
        assert run.message.event
        assert run.queued_event_id == run.message.event + 1

    def test_killed_between_the_question_and_its_run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Both go in one trip; a connection that breaks may carry the first alone."""
        tell = ChannelLog.append_once

        def half(log: ChannelLog, *events: Any, **named: Any) -> None:
            tell(log, events[0], **named)
            raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(ChannelLog, "append_once", half)
            with pytest.raises(Killed):
                begun()
        somebody_else_goes_on()
        assert said(Run.objects.get().conversation_id) == ASKED

    def test_redis_is_away_at_the_post(
        self, monkeypatch: pytest.MonkeyPatch, valkey: "redis.Redis"
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(ChannelLog, "repair", away)
            patch.setattr(ChannelLog, "append_once", away)
            accepted = ask.begin(owner="visitor:a", text="Why?")
        assert accepted.cursor is None
        assert valkey.llen(QUEUE) == 0
        somebody_else_goes_on()
        assert said(accepted.conversation) == ASKED
        assert valkey.llen(QUEUE) == 1

    def test_a_title_that_was_given_while_redis_was_away_is_told_later(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = begun()
        with monkeypatch.context() as patch:
            patch.setattr(ChannelLog, "append_once", away)
            conversations.rename(run.conversation, "Another")
        Conversation.objects.update(title_pending_since=Now() - timedelta(seconds=9))
        somebody_else_goes_on()
        somebody_else_goes_on()
        assert said(run.conversation_id) == [*ASKED, "conversation.updated"]

    def test_a_log_that_could_not_be_deleted_is_deleted_later(
        self, monkeypatch: pytest.MonkeyPatch, valkey: "redis.Redis"
    ) -> None:
        run = begun()
        with monkeypatch.context() as patch:
            patch.setattr(ChannelLog, "delete", away)
            conversations.delete(run.conversation)
        assert not Conversation.objects.exists()
        DeletedConversation.objects.update(created_at=Now() - timedelta(seconds=9))
        somebody_else_goes_on()
        state = f"{{{channel_of(run.conversation_id)}}}:state"
        assert [key for key in valkey.keys("{*") if key != state] == []
        assert valkey.hgetall(state) == {"deleted": "1"}
        assert not DeletedConversation.objects.exists()

    def test_a_question_with_two_runs_is_said_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with killed(monkeypatch, ask, "publish_pending"):
            begun()
        run = Run.objects.get()
        with killed(monkeypatch, ask, "publish_pending"):
            ask.retry(run, when_busy="queue")
        somebody_else_goes_on()
        assert said(run.conversation_id) == [*ASKED, "run.queued"]

    def test_a_question_that_is_refused_leaves_nothing_behind(
        self, valkey: "redis.Redis", settings: Any
    ) -> None:
        settings.MAX_LIVE_RUNS = 0
        with pytest.raises(limits.ActiveRunLimit):
            begun()
        assert valkey.keys("*") == []

    def test_what_was_not_announced_is_said_before_the_run_starts(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with killed(monkeypatch, ask, "publish_pending"):
            begun()
        run = claimed(Run.objects.get())
        assert said(run.conversation_id) == [*ASKED, "run.started"]


TOLD = [*ASKED, "run.started", "text.delta", "run.cancelled", *ASKED]  # of an interruption


@pytest.mark.usefixtures("valkey")
class TestInterrupting:
    """Rule 7: what is live ends before what is asked instead, and nobody sees an idle moment."""

    def test_what_is_asked_instead_is_said_after_the_ending(self) -> None:
        run = claimed(begun())
        speak(run, "So ")
        ask.ask(run.conversation, "Rather this.", when_busy="interrupt")
        assert said(run.conversation_id) == TOLD

    @pytest.mark.parametrize("step", ["cancel_unheld", "publish_pending"])
    def test_killed_before_what_was_live_has_ended(
        self, monkeypatch: pytest.MonkeyPatch, step: str
    ) -> None:
        run = claimed(begun())
        speak(run, "So ")
        with killed(monkeypatch, ask, step):
            ask.ask(run.conversation, "Rather this.", when_busy="interrupt")
        assert Run.active().filter(cancel_asked=False).count() == 1
        Run.objects.filter(pk=run.pk).update(lease_until=Now() - timedelta(seconds=1))
        somebody_else_goes_on()
        assert said(run.conversation_id) == TOLD

    def test_another_process_does_not_say_the_question_before_the_ending(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = claimed(begun())
        speak(run, "So ")
        with killed(monkeypatch, ask, "cancel_unheld"):
            ask.ask(run.conversation, "Rather this.", when_busy="interrupt")
        somebody_else_goes_on()  # the worker still holds it
        assert said(run.conversation_id) == TOLD[:-3]


@pytest.mark.usefixtures("valkey")
class TestAnotherRedis:
    """Rule 2, where a failover may have lost what only the attempt knows of."""

    @pytest.fixture
    def run(self, valkey: "redis.Redis") -> Run:
        run = claimed(begun())
        speak(run, "So ")
        state = f"{{{channel_of(run.conversation_id)}}}:state"
        valkey.hset(state, "server", "0123456789abcdef")
        return run

    def test_a_question_is_accepted_and_said_once_the_attempt_has_confirmed(self, run: Run) -> None:
        ask.ask(run.conversation, "And?", when_busy="queue")
        somebody_else_goes_on()
        before = [*ASKED, "run.started", "text.delta"]
        assert said(run.conversation_id) == before
        channel = channel_of(run.conversation_id)
        known = the_log().channel(channel).repair()
        reach = Watermark(channel=channel, run=run.id, attempt=run.attempt, head=known)
        the_log().verify([reach])
        somebody_else_goes_on()
        assert said(run.conversation_id) == [*before, *ASKED]

    def test_a_cancel_is_left_to_the_worker(self, run: Run) -> None:
        finish.cancel(run.id)
        run.refresh_from_db()
        assert (run.status, run.cancel_asked) == (Run.Status.RUNNING, True)
        finish.finish_cancelled(run, "So ")  # which holds more than anybody else knows
        assert said(run.conversation_id)[-1] == "run.cancelled"

    def test_where_no_worker_is_left_a_cancel_begins_a_new_life(self, run: Run) -> None:
        heard = log_of(run.conversation_id).repair()
        Run.objects.filter(pk=run.pk).update(lease_until=Now() - timedelta(seconds=1))
        finish.cancel(run.id)
        run.refresh_from_db()
        assert run.status == Run.Status.CANCELLED
        assert run.reply
        assert run.reply.content == "So "
        assert log_of(run.conversation_id).read_after(heard) == CursorGap(reason="lost")

    def test_a_queued_runs_ending_waits_for_the_one_that_is_written(self, run: Run) -> None:
        waiting = ask.ask(run.conversation, "And?", when_busy="queue")
        finish.cancel(waiting.run)
        assert not Run.active().filter(pk=waiting.run).exists()
        channel = channel_of(run.conversation_id)
        known = the_log().channel(channel).repair()
        assert said(run.conversation_id)[4:] == []
        reach = Watermark(channel=channel, run=run.id, attempt=run.attempt, head=known)
        the_log().verify([reach])
        somebody_else_goes_on()
        assert said(run.conversation_id)[4:] == [*ASKED, "run.cancelled"]

    def test_an_ending_that_is_said_late_does_not_take_what_is_left_for_the_whole(
        self, run: Run, valkey: "redis.Redis", monkeypatch: pytest.MonkeyPatch
    ) -> None:
        channel = channel_of(run.conversation_id)
        publisher.verify([Watermark(channel=channel, run=run.id, attempt=1, head=0)])
        kept = {key: valkey.dump(key) for key in valkey.keys(f"{{{channel}}}*")}
        heard = speak(run, "it ", "is.", index=1)[-1]
        assert isinstance(heard, int)
        with killed(monkeypatch, ChannelLog, "append_final"):
            finish.complete(run, "So it is.", finish_reason="stop", usage=None)
        for key, value in kept.items():
            valkey.restore(key, 0, value, replace=True)
        somebody_else_goes_on()
        assert the_log().channel(channel).read_after(heard) == CursorGap(reason="lost")

    def test_the_next_attempt_begins_a_new_life(self, run: Run) -> None:
        ask.ask(run.conversation, "And?", when_busy="queue")
        heard = log_of(run.conversation_id).repair()
        Run.objects.filter(pk=run.pk).update(lease_until=Now() - timedelta(seconds=1))
        claimed(run)
        somebody_else_goes_on()
        last = log_of(run.conversation_id).last()
        assert last
        assert last[1] == "run.queued"
        assert log_of(run.conversation_id).read_after(heard) == CursorGap(reason="lost")


STEPS: list[tuple[Any, str, bool]] = [
    (ChannelLog, "seal", False),
    (ChannelLog, "seal", True),
    (finish, "store", True),
    (ChannelLog, "append_final", False),
    (ChannelLog, "append_final", True),
    (Conversation, "advance_head", False),
    (ChannelLog, "release_run", False),
]


@pytest.mark.usefixtures("valkey")
class TestAnEndingIsSaidOnce:
    """Rule 4: whoever ends a run may die after each of the steps."""

    @pytest.mark.parametrize(("owner", "step", "after"), STEPS)
    def test_cancelling(
        self, monkeypatch: pytest.MonkeyPatch, owner: Any, step: str, after: bool
    ) -> None:
        run = claimed(begun())
        speak(run, "Because ", "it ")
        with killed(monkeypatch, owner, step, after=after):
            finish.cancel(run.id)
        Run.objects.filter(status="running").update(lease_until=Now() - timedelta(seconds=1))
        somebody_else_goes_on()
        somebody_else_goes_on()
        run.refresh_from_db()
        assert run.reply
        assert (run.status, run.reply.content) == ("cancelled", "Because it ")
        assert said(run.conversation_id) == [
            *ASKED,
            "run.started",
            "text.delta",
            "text.delta",
            "run.cancelled",
        ]
        assert isinstance(speak(run, "never heard", index=2)[0], Exception)

    @pytest.mark.parametrize(("owner", "step", "after"), STEPS[2:])
    def test_completing(
        self, monkeypatch: pytest.MonkeyPatch, owner: Any, step: str, after: bool
    ) -> None:
        run = claimed(begun())
        speak(run, "So.")
        with killed(monkeypatch, owner, step, after=after):
            finish.complete(run, "So.", finish_reason="stop", usage=None)
        somebody_else_goes_on()
        run.refresh_from_db()
        assert run.reply
        assert (run.status, run.reply.content) == ("completed", "So.")
        assert said(run.conversation_id)[2:] == ["run.started", "text.delta", "run.completed"]

    def test_a_worker_that_was_cancelled_cannot_complete(self) -> None:
        run = claimed(begun())
        speak(run, "So.")
        finish.cancel(run.id)
        with pytest.raises(Superseded):
            finish.complete(run, "So. And more.", finish_reason="stop", usage=None)
        assert Message.objects.get(role="assistant").content == "So."

    def test_a_late_cancel_changes_nothing(self) -> None:
        run = claimed(begun())
        finish.complete(run, "So.", finish_reason="stop", usage=None)
        before = said(run.conversation_id)
        finish.cancel(run.id)
        assert said(run.conversation_id) == before
        run.refresh_from_db()
        assert (run.status, run.cancel_asked) == ("completed", False)

    def test_a_cancel_between_a_claim_and_its_start_ends_the_run_at_once(self) -> None:
        first = claimed(begun())
        speak(first, "half")
        Run.objects.update(lease_until=Now() - timedelta(seconds=1))
        assert claim(first.id, uuid4())
        finish.cancel(first.id)
        first.refresh_from_db()
        assert first.reply
        assert (first.status, first.reply.content) == ("cancelled", "half")
        assert said(first.conversation_id)[-2:] == ["text.snapshot", "run.cancelled"]

    def test_a_cancelled_run_ends_though_its_worker_and_its_log_are_gone(
        self, valkey: "redis.Redis"
    ) -> None:
        run = claimed(begun())
        speak(run, "half")
        run.conversation.refresh_from_db()
        valkey.flushall()
        finish.cancel(run.id)
        run.refresh_from_db()
        assert run.is_active  # its worker may still tell what it holds
        Run.objects.update(lease_until=Now() - timedelta(seconds=1))
        somebody_else_goes_on()
        run.refresh_from_db()
        assert (run.status, run.reply) == ("cancelled", None)

    def test_where_the_log_knows_of_a_later_attempt_than_the_row_nobody_asks_for_ever(self) -> None:
        run = claimed(begun())
        Run.objects.filter(pk=run.pk).update(attempt=0)  # a failover lost the claim
        finish.cancel(run.id)
        run.refresh_from_db()
        assert (run.status, run.cancel_asked) == (Run.Status.RUNNING, True)

    def test_a_row_whose_log_was_deleted_keeps_no_other_from_being_rung(
        self, monkeypatch: pytest.MonkeyPatch, valkey: "redis.Redis"
    ) -> None:
        lost, waiting = begun(), begun()
        valkey.delete(QUEUE)  # their tasks are lost
        log_of(lost.conversation_id).delete()
        Run.objects.filter(pk=lost.pk).update(queued_event_id=None)
        Run.objects.update(dispatched_at=None)
        rung = list[UUID]()
        monkeypatch.setattr(sweep, "dispatch", rung.append)
        somebody_else_goes_on()
        assert waiting.id in rung

    def test_a_run_that_was_cancelled_before_its_start_is_never_claimed(self) -> None:
        run = begun()
        finish.cancel(run.id)
        assert claim(run.id, uuid4()) is None
        assert said(run.conversation_id) == [*ASKED, "run.cancelled"]


@pytest.mark.usefixtures("valkey")
class TestTheFence:
    """Rules 1 and 3: one writer."""

    def test_an_older_attempt_is_not_heard_after_a_newer_one(self) -> None:
        first = claimed(begun())
        speak(first, "half a wo")
        Run.objects.update(lease_until=Now() - timedelta(seconds=1))
        second = claimed(first)
        assert isinstance(speak(first, "rd", index=1)[0], Superseded)
        speak(second, "whole")
        with pytest.raises(Superseded):
            finish.complete(first, "half a word", finish_reason="stop", usage=None)
        finish.complete(second, "whole", finish_reason="stop", usage=None)
        assert Message.objects.get(role="assistant").content == "whole"

    def test_killed_between_the_claim_and_the_start(self, monkeypatch: pytest.MonkeyPatch) -> None:
        run = begun()
        with killed(monkeypatch, ChannelLog, "append_start"):
            claimed(run)
        Run.objects.update(lease_until=Now() - timedelta(seconds=1))
        assert claimed(run).attempt == 2
        assert said(run.conversation_id) == [*ASKED, "run.started"]

    def test_a_run_is_one_workers(self) -> None:
        run = begun()
        assert claim(run.id, uuid4())
        assert claim(run.id, uuid4()) is None

    def test_what_a_deploy_hands_over_does_not_count(self, settings: Any) -> None:
        run = begun()
        for attempt in range(1, 2 * settings.RUN_ATTEMPTS):
            taken = claimed(run)
            assert taken.attempt == attempt
            release(taken)
        for _ in range(settings.RUN_ATTEMPTS):
            assert claim(run.id, uuid4())
            Run.objects.update(lease_until=Now() - timedelta(seconds=1))
        assert claim(run.id, uuid4()) is None
        somebody_else_goes_on()
        run.refresh_from_db()
        assert (run.status, run.code) == ("failed", "worker_lost")
        assert said(run.conversation_id)[-1] == "run.failed"

    def test_a_queued_run_waits_for_the_one_before_it(self) -> None:
        first = begun()
        accepted = ask.ask(first.conversation, "And?", when_busy="queue")
        assert claim(accepted.run, uuid4()) is None
        taken = claimed(first)
        assert claim(accepted.run, uuid4()) is None
        finish.complete(taken, "So.", finish_reason="stop", usage=None)
        assert claim(accepted.run, uuid4())


@pytest.mark.usefixtures("valkey")
class TestASnapshotIsTrueAtItsCursor:
    """Rule 5."""

    def live(self, run: Run, text: str, attempt: int = 1) -> tuple[LiveRun, ...]:
        return (
            LiveRun(
                id=run.id,
                status="running",
                attempt=attempt,
                message=run.message_id,
                text=text,
                reasoning="",
                parts=text_parts(text),
            ),
        )

    def test_a_question_that_was_said_but_not_noted_is_in_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with killed(monkeypatch, Conversation, "advance_head"):
            begun()
        run = Run.objects.get()
        now = snapshot(run.conversation)
        assert [message.id for message in now.messages] == [run.message_id]
        assert [live.id for live in now.runs] == [run.id]

    def test_an_attempt_is_in_it_once_its_beginning_was_said(self, valkey: "redis.Redis") -> None:
        run = begun()
        taken = claim(run.id, uuid4())
        assert taken
        valkey.flushall()
        live = LiveRun(
            id=run.id,
            status="queued",
            attempt=0,
            message=run.message_id,
            text="",
            reasoning="",
            parts=(),
        )
        assert snapshot(run.conversation).runs == (live,)
        publisher.publish_start(taken)
        valkey.flushall()
        run.conversation.refresh_from_db()
        assert [now.attempt for now in snapshot(run.conversation).runs] == [1]

    def test_a_question_that_cannot_be_said_yet_is_left_to_the_tail(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with killed(monkeypatch, ask, "publish_pending"):
            begun()
        run = Run.objects.get()
        with monkeypatch.context() as patch:
            patch.setattr(ChannelLog, "append_once", away)
            now = snapshot(run.conversation)
        assert (now.messages, now.runs) == ((), ())
        publisher.publish_pending(run.conversation)
        page = log_of(run.conversation_id).read_after(now.cursor or 0)
        assert isinstance(page, Page)
        assert [type for _, type, _ in page.entries] == ASKED

    def test_a_run_is_live_until_its_ending_is_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        run = claimed(begun())
        speak(run, "So.")
        with killed(monkeypatch, ChannelLog, "append_final"):
            finish.complete(run, "So.", finish_reason="stop", usage=None)
        with monkeypatch.context() as patch:
            patch.setattr(ChannelLog, "append_final", away)
            now = snapshot(run.conversation)
        assert now.runs == self.live(run, "So.")
        assert [message.role for message in now.messages] == ["user"]

    @pytest.mark.parametrize("step", ["advance_head", "release_run"])
    def test_an_ending_that_was_said_but_not_noted_is_in_it(
        self, monkeypatch: pytest.MonkeyPatch, step: str
    ) -> None:
        run = claimed(begun())
        speak(run, "So.")
        with killed(monkeypatch, Conversation if step == "advance_head" else ChannelLog, step):
            finish.complete(run, "So.", finish_reason="stop", usage=None)
        now = snapshot(run.conversation)
        assert now.runs == ()
        assert [message.content for message in now.messages] == ["Why?", "So."]

    def test_an_ending_between_the_look_and_the_rows_is_left_to_the_tail(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = claimed(begun())
        speak(run, "So.")
        look = ChannelLog.state

        def look_and_then_it_ends(*args: Any, **kwargs: Any) -> Any:
            seen = look(*args, **kwargs)
            monkeypatch.setattr(ChannelLog, "state", look)
            finish.complete(run, "So.", finish_reason="stop", usage=None)
            return seen

        monkeypatch.setattr(ChannelLog, "state", look_and_then_it_ends)
        now = snapshot(run.conversation)
        assert now.runs == self.live(run, "So.")
        assert [message.role for message in now.messages] == ["user"]

    def test_where_the_log_is_gone_the_database_decides(self, valkey: "redis.Redis") -> None:
        run = claimed(begun())
        speak(run, "So.")
        finish.complete(run, "So.", finish_reason="stop", usage=None)
        valkey.flushall()
        run.conversation.refresh_from_db()
        now = snapshot(run.conversation)
        assert [message.content for message in now.messages] == ["Why?", "So."]
        assert now.runs == ()
        assert now.cursor is not None
        assert now.cursor >= run.conversation.head

    def test_turns_are_in_order_and_not_the_clock(self) -> None:
        first = claimed(begun("One?"))
        ask.ask(first.conversation, "Two?", when_busy="queue")
        finish.complete(first, "One.", finish_reason="stop", usage=None)
        now = snapshot(first.conversation)
        assert [message.content for message in now.messages] == ["One?", "One.", "Two?"]


@pytest.mark.usefixtures("valkey")
class TestALifeOfTheLog:
    """Rule 2: whoever appends first after a loss begins a new life, above all that was said."""

    def test_the_next_question_after_a_loss(self, valkey: "redis.Redis") -> None:
        run = claimed(begun())
        finish.complete(run, "So.", finish_reason="stop", usage=None)
        run.conversation.refresh_from_db()
        before = run.conversation.head
        valkey.flushall()
        accepted = ask.ask(run.conversation, "And?")
        assert accepted.cursor is not None
        assert accepted.cursor >= before
        page = log_of(run.conversation_id).read_after(accepted.cursor)
        assert isinstance(page, Page)
        assert [type for _, type, _ in page.entries] == ASKED
