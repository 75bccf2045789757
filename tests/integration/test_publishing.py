"""Database and log stay consistent: a process is killed between two steps, and another continues.

Each test is about one rule of docs/design.md §3.3.
"""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import redis
from django.db.models.functions import Now

from streams.chat import ask, conversations, finish, limits, publisher, sweep
from streams.chat.snapshot import snapshot
from streams.log.channel_log import ChannelLog
from streams.log.channels import channel_of
from streams.log.errors import Superseded
from streams.log.event_log import log_of, the_log
from streams.log.values import CursorGap, Page, Watermark
from streams.models import Conversation, DeletedConversation, Message, Run
from streams.protocol.events import LiveRun
from streams.protocol.parts import text_parts
from tests.integration.support.broker import QUEUE
from tests.integration.support.killed_processes import (
    ProcessKilled,
    append_deltas,
    killed_at,
    published_types,
    queued_run,
    raise_log_unavailable,
    started,
    sweep_by_another_process,
)
from workers.lease import claim, release

pytestmark = pytest.mark.django_db


ASKED = ["message.created", "run.queued"]


@pytest.mark.usefixtures("valkey")
class TestAcceptedMessages:
    """Rule 6."""

    def test_killed_between_commit_and_publishing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with killed_at(monkeypatch, ask, "publish_pending"):
            queued_run()
        run = Run.objects.get()
        sweep_by_another_process()
        sweep_by_another_process()
        assert published_types(run.conversation_id) == ASKED

    def test_killed_between_append_and_the_rows_update(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with killed_at(monkeypatch, ChannelLog, "append_once", after=True):
            queued_run()
        run = Run.objects.get()
        sweep_by_another_process()
        assert published_types(run.conversation_id) == ASKED
        run.refresh_from_db()
        assert run.message.event
        assert run.queued_event_id == run.message.event + 1

    def test_killed_between_the_message_and_its_run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Both go in one trip; a connection that breaks may carry the first alone."""
        tell = ChannelLog.append_once

        def half(log: ChannelLog, *events: Any, **named: Any) -> None:
            tell(log, events[0], **named)
            raise ProcessKilled

        with monkeypatch.context() as patch:
            patch.setattr(ChannelLog, "append_once", half)
            with pytest.raises(ProcessKilled):
                queued_run()
        sweep_by_another_process()
        assert published_types(Run.objects.get().conversation_id) == ASKED

    def test_redis_is_down_at_the_post(
        self, monkeypatch: pytest.MonkeyPatch, valkey: "redis.Redis"
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(ChannelLog, "repair", raise_log_unavailable)
            patch.setattr(ChannelLog, "append_once", raise_log_unavailable)
            accepted = ask.begin(owner="visitor:a", text="Why?")
        assert accepted.cursor is None
        assert valkey.llen(QUEUE) == 0
        sweep_by_another_process()
        assert published_types(accepted.conversation) == ASKED
        assert valkey.llen(QUEUE) == 1

    def test_a_title_set_while_redis_was_down_is_published_later(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = queued_run()
        with monkeypatch.context() as patch:
            patch.setattr(ChannelLog, "append_once", raise_log_unavailable)
            conversations.rename(run.conversation, "Another")
        Conversation.objects.update(title_pending_since=Now() - timedelta(seconds=9))
        sweep_by_another_process()
        sweep_by_another_process()
        assert published_types(run.conversation_id) == [*ASKED, "conversation.updated"]

    def test_a_log_that_could_not_be_deleted_is_deleted_later(
        self, monkeypatch: pytest.MonkeyPatch, valkey: "redis.Redis"
    ) -> None:
        run = queued_run()
        with monkeypatch.context() as patch:
            patch.setattr(ChannelLog, "delete", raise_log_unavailable)
            conversations.delete(run.conversation)
        assert not Conversation.objects.exists()
        DeletedConversation.objects.update(created_at=Now() - timedelta(seconds=9))
        sweep_by_another_process()
        state = f"{{{channel_of(run.conversation_id)}}}:state"
        assert [key for key in valkey.keys("{*") if key != state] == []
        assert valkey.hgetall(state) == {"deleted": "1"}
        assert not DeletedConversation.objects.exists()

    def test_a_message_with_two_runs_is_published_once(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with killed_at(monkeypatch, ask, "publish_pending"):
            queued_run()
        run = Run.objects.get()
        with killed_at(monkeypatch, ask, "publish_pending"):
            ask.retry(run, when_busy="queue")
        sweep_by_another_process()
        assert published_types(run.conversation_id) == [*ASKED, "run.queued"]

    def test_a_retry_does_not_publish_its_message_again(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The request has read the message before another process published it."""
        with killed_at(monkeypatch, ask, "publish_pending"):
            queued_run()
        read = Run.objects.select_related("conversation", "message").get()
        finish.cancel(read.id)
        sweep_by_another_process()
        before = published_types(read.conversation_id)
        assert before == [*ASKED, "run.cancelled"]
        ask.retry(read)
        assert published_types(read.conversation_id) == [*before, "run.queued"]

    def test_a_refused_message_leaves_nothing_in_redis(
        self, valkey: "redis.Redis", settings: Any
    ) -> None:
        settings.MAX_LIVE_RUNS = 0
        with pytest.raises(limits.ActiveRunLimit):
            queued_run()
        assert valkey.keys("*") == []

    def test_an_unpublished_message_is_published_before_the_run_starts(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with killed_at(monkeypatch, ask, "publish_pending"):
            queued_run()
        run = started(Run.objects.get())
        assert published_types(run.conversation_id) == [*ASKED, "run.started"]


TOLD = [*ASKED, "run.started", "text.delta", "run.cancelled", *ASKED]  # of an interruption


@pytest.mark.usefixtures("valkey")
class TestInterrupting:
    """Rule 7: an active run ends before the interrupting message, with no idle moment between."""

    def test_an_interrupting_message_is_published_after_the_final_event(self) -> None:
        run = started(queued_run())
        append_deltas(run, "So ")
        ask.ask(run.conversation, "Rather this.", when_busy="interrupt")
        assert published_types(run.conversation_id) == TOLD

    @pytest.mark.parametrize("step", ["cancel_unheld", "publish_pending"])
    def test_killed_before_the_active_run_has_ended(
        self, monkeypatch: pytest.MonkeyPatch, step: str
    ) -> None:
        run = started(queued_run())
        append_deltas(run, "So ")
        with killed_at(monkeypatch, ask, step):
            ask.ask(run.conversation, "Rather this.", when_busy="interrupt")
        assert Run.active().filter(cancel_asked=False).count() == 1
        Run.objects.filter(pk=run.pk).update(lease_until=Now() - timedelta(seconds=1))
        sweep_by_another_process()
        assert published_types(run.conversation_id) == TOLD

    def test_another_process_does_not_publish_the_message_before_the_final_event(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = started(queued_run())
        append_deltas(run, "So ")
        with killed_at(monkeypatch, ask, "cancel_unheld"):
            ask.ask(run.conversation, "Rather this.", when_busy="interrupt")
        sweep_by_another_process()  # the worker still holds it
        assert published_types(run.conversation_id) == TOLD[:-3]


@pytest.mark.usefixtures("valkey")
class TestAnotherRedisProcess:
    """Rule 2, when a failover may have lost events that only the attempt knows."""

    @pytest.fixture
    def run(self, valkey: "redis.Redis") -> Run:
        run = started(queued_run())
        append_deltas(run, "So ")
        state = f"{{{channel_of(run.conversation_id)}}}:state"
        valkey.hset(state, "server", "0123456789abcdef")
        return run

    def test_a_message_is_accepted_and_published_when_the_attempt_has_verified(
        self, run: Run
    ) -> None:
        ask.ask(run.conversation, "And?", when_busy="queue")
        sweep_by_another_process()
        before = [*ASKED, "run.started", "text.delta"]
        assert published_types(run.conversation_id) == before
        channel = channel_of(run.conversation_id)
        known = the_log().channel(channel).repair()
        reach = Watermark(channel=channel, run=run.id, attempt=run.attempt, head=known)
        the_log().verify([reach])
        sweep_by_another_process()
        assert published_types(run.conversation_id) == [*before, *ASKED]

    def test_a_cancel_is_left_to_the_worker(self, run: Run) -> None:
        finish.cancel(run.id)
        run.refresh_from_db()
        assert (run.status, run.cancel_asked) == (Run.Status.RUNNING, True)
        # The worker holds more than any other process knows.
        finish.finish_cancelled(run, text_parts("So "))
        assert published_types(run.conversation_id)[-1] == "run.cancelled"

    def test_without_a_worker_a_cancel_begins_an_epoch(self, run: Run) -> None:
        heard = log_of(run.conversation_id).repair()
        Run.objects.filter(pk=run.pk).update(lease_until=Now() - timedelta(seconds=1))
        finish.cancel(run.id)
        run.refresh_from_db()
        assert run.status == Run.Status.CANCELLED
        assert run.reply
        assert run.reply.content == "So "
        assert log_of(run.conversation_id).read_after(heard) == CursorGap(reason="lost")

    def test_the_final_event_of_a_queued_run_waits_for_the_running_one(self, run: Run) -> None:
        waiting = ask.ask(run.conversation, "And?", when_busy="queue")
        finish.cancel(waiting.run)
        assert not Run.active().filter(pk=waiting.run).exists()
        channel = channel_of(run.conversation_id)
        known = the_log().channel(channel).repair()
        assert published_types(run.conversation_id)[4:] == []
        reach = Watermark(channel=channel, run=run.id, attempt=run.attempt, head=known)
        the_log().verify([reach])
        sweep_by_another_process()
        assert published_types(run.conversation_id)[4:] == [*ASKED, "run.cancelled"]

    def test_a_late_final_event_does_not_take_a_cut_log_for_the_whole(
        self, run: Run, valkey: "redis.Redis", monkeypatch: pytest.MonkeyPatch
    ) -> None:
        channel = channel_of(run.conversation_id)
        publisher.verify([Watermark(channel=channel, run=run.id, attempt=1, head=0)])
        kept = {key: valkey.dump(key) for key in valkey.keys(f"{{{channel}}}*")}
        heard = append_deltas(run, "it ", "is.", index=1)[-1]
        assert isinstance(heard, int)
        with killed_at(monkeypatch, ChannelLog, "append_final"):
            finish.complete(run, text_parts("So it is."), finish_reason="stop", usage=None)
        for key, value in kept.items():
            valkey.restore(key, 0, value, replace=True)
        sweep_by_another_process()
        assert the_log().channel(channel).read_after(heard) == CursorGap(reason="lost")

    def test_the_next_attempt_begins_an_epoch(self, run: Run) -> None:
        ask.ask(run.conversation, "And?", when_busy="queue")
        heard = log_of(run.conversation_id).repair()
        Run.objects.filter(pk=run.pk).update(lease_until=Now() - timedelta(seconds=1))
        started(run)
        sweep_by_another_process()
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
class TestOneFinalEvent:
    """Rule 4: the process that ends a run may die after each step."""

    @pytest.mark.parametrize(("owner", "step", "after"), STEPS)
    def test_cancelling(
        self, monkeypatch: pytest.MonkeyPatch, owner: Any, step: str, after: bool
    ) -> None:
        run = started(queued_run())
        append_deltas(run, "Because ", "it ")
        with killed_at(monkeypatch, owner, step, after=after):
            finish.cancel(run.id)
        Run.objects.filter(status="running").update(lease_until=Now() - timedelta(seconds=1))
        sweep_by_another_process()
        sweep_by_another_process()
        run.refresh_from_db()
        assert run.reply
        assert (run.status, run.reply.content) == ("cancelled", "Because it ")
        assert published_types(run.conversation_id) == [
            *ASKED,
            "run.started",
            "text.delta",
            "text.delta",
            "run.cancelled",
        ]
        assert isinstance(append_deltas(run, "never heard", index=2)[0], Exception)

    @pytest.mark.parametrize(("owner", "step", "after"), STEPS[2:])
    def test_completing(
        self, monkeypatch: pytest.MonkeyPatch, owner: Any, step: str, after: bool
    ) -> None:
        run = started(queued_run())
        append_deltas(run, "So.")
        with killed_at(monkeypatch, owner, step, after=after):
            finish.complete(run, text_parts("So."), finish_reason="stop", usage=None)
        sweep_by_another_process()
        run.refresh_from_db()
        assert run.reply
        assert (run.status, run.reply.content) == ("completed", "So.")
        assert published_types(run.conversation_id)[2:] == [
            "run.started",
            "text.delta",
            "run.completed",
        ]

    def test_a_worker_that_was_cancelled_cannot_complete(self) -> None:
        run = started(queued_run())
        append_deltas(run, "So.")
        finish.cancel(run.id)
        with pytest.raises(Superseded):
            finish.complete(run, text_parts("So. And more."), finish_reason="stop", usage=None)
        assert Message.objects.get(role="assistant").content == "So."

    def test_a_late_cancel_changes_nothing(self) -> None:
        run = started(queued_run())
        finish.complete(run, text_parts("So."), finish_reason="stop", usage=None)
        before = published_types(run.conversation_id)
        finish.cancel(run.id)
        assert published_types(run.conversation_id) == before
        run.refresh_from_db()
        assert (run.status, run.cancel_asked) == ("completed", False)

    def test_a_cancel_between_claim_and_start_ends_the_run_at_once(self) -> None:
        first = started(queued_run())
        append_deltas(first, "half")
        Run.objects.update(lease_until=Now() - timedelta(seconds=1))
        assert claim(first.id, uuid4())
        finish.cancel(first.id)
        first.refresh_from_db()
        assert first.reply
        assert (first.status, first.reply.content) == ("cancelled", "half")
        assert published_types(first.conversation_id)[-2:] == ["text.snapshot", "run.cancelled"]

    def test_a_cancelled_run_ends_without_its_worker_and_its_log(
        self, valkey: "redis.Redis"
    ) -> None:
        run = started(queued_run())
        append_deltas(run, "half")
        run.conversation.refresh_from_db()
        valkey.flushall()
        finish.cancel(run.id)
        run.refresh_from_db()
        assert run.is_active  # its worker may still publish its text
        Run.objects.update(lease_until=Now() - timedelta(seconds=1))
        sweep_by_another_process()
        run.refresh_from_db()
        assert (run.status, run.reply) == ("cancelled", None)

    def test_a_log_with_a_later_attempt_than_the_row_causes_no_endless_loop(self) -> None:
        run = started(queued_run())
        Run.objects.filter(pk=run.pk).update(attempt=0)  # a failover lost the claim
        finish.cancel(run.id)
        run.refresh_from_db()
        assert (run.status, run.cancel_asked) == (Run.Status.RUNNING, True)

    def test_a_row_with_a_deleted_log_delays_no_other_dispatch(
        self, monkeypatch: pytest.MonkeyPatch, valkey: "redis.Redis"
    ) -> None:
        lost, waiting = queued_run(), queued_run()
        valkey.delete(QUEUE)  # their tasks are lost
        log_of(lost.conversation_id).delete()
        Run.objects.filter(pk=lost.pk).update(queued_event_id=None)
        Run.objects.update(dispatched_at=None)
        dispatched = list[UUID]()
        monkeypatch.setattr(sweep, "dispatch", lambda run, _: dispatched.append(run))
        sweep_by_another_process()
        assert waiting.id in dispatched

    def test_a_run_that_was_cancelled_before_its_start_is_never_claimed(self) -> None:
        run = queued_run()
        finish.cancel(run.id)
        assert claim(run.id, uuid4()) is None
        assert published_types(run.conversation_id) == [*ASKED, "run.cancelled"]


@pytest.mark.usefixtures("valkey")
class TestFence:
    """Rules 1 and 3: one writer."""

    def test_an_older_attempt_appends_nothing_after_a_newer_one(self) -> None:
        first = started(queued_run())
        append_deltas(first, "half a wo")
        Run.objects.update(lease_until=Now() - timedelta(seconds=1))
        second = started(first)
        assert isinstance(append_deltas(first, "rd", index=1)[0], Superseded)
        append_deltas(second, "whole")
        with pytest.raises(Superseded):
            finish.complete(first, text_parts("half a word"), finish_reason="stop", usage=None)
        finish.complete(second, text_parts("whole"), finish_reason="stop", usage=None)
        assert Message.objects.get(role="assistant").content == "whole"

    def test_killed_between_claim_and_start(self, monkeypatch: pytest.MonkeyPatch) -> None:
        run = queued_run()
        with killed_at(monkeypatch, ChannelLog, "append_start"):
            started(run)
        Run.objects.update(lease_until=Now() - timedelta(seconds=1))
        assert started(run).attempt == 2
        assert published_types(run.conversation_id) == [*ASKED, "run.started"]

    def test_a_run_has_one_worker(self) -> None:
        run = queued_run()
        assert claim(run.id, uuid4())
        assert claim(run.id, uuid4()) is None

    def test_an_attempt_released_by_a_deploy_is_uncounted(self, settings: Any) -> None:
        run = queued_run()
        for attempt in range(1, 2 * settings.RUN_ATTEMPTS):
            taken = started(run)
            assert taken.attempt == attempt
            release(taken)
        for _ in range(settings.RUN_ATTEMPTS):
            assert claim(run.id, uuid4())
            Run.objects.update(lease_until=Now() - timedelta(seconds=1))
        assert claim(run.id, uuid4()) is None
        sweep_by_another_process()
        run.refresh_from_db()
        assert (run.status, run.code) == ("failed", "worker_lost")
        assert published_types(run.conversation_id)[-1] == "run.failed"

    def test_a_queued_run_waits_for_the_one_before_it(self) -> None:
        first = queued_run()
        accepted = ask.ask(first.conversation, "And?", when_busy="queue")
        assert claim(accepted.run, uuid4()) is None
        taken = started(first)
        assert claim(accepted.run, uuid4()) is None
        finish.complete(taken, text_parts("So."), finish_reason="stop", usage=None)
        assert claim(accepted.run, uuid4())


@pytest.mark.usefixtures("valkey")
class TestSnapshot:
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

    def test_it_has_a_message_that_is_published_but_not_recorded(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with killed_at(monkeypatch, Conversation, "advance_head"):
            queued_run()
        run = Run.objects.get()
        now = snapshot(run.conversation)
        assert [message.id for message in now.messages] == [run.message_id]
        assert [live.id for live in now.runs] == [run.id]

    def test_it_has_an_attempt_when_its_start_is_published(self, valkey: "redis.Redis") -> None:
        run = queued_run()
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

    def test_it_leaves_an_unpublished_message_to_later_events(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with killed_at(monkeypatch, ask, "publish_pending"):
            queued_run()
        run = Run.objects.get()
        with monkeypatch.context() as patch:
            patch.setattr(ChannelLog, "append_once", raise_log_unavailable)
            now = snapshot(run.conversation)
        assert (now.messages, now.runs) == ((), ())
        publisher.publish_pending(run.conversation)
        page = log_of(run.conversation_id).read_after(now.cursor or 0)
        assert isinstance(page, Page)
        assert [type for _, type, _ in page.entries] == ASKED

    def test_it_has_a_run_as_active_until_its_final_event_is_published(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = started(queued_run())
        append_deltas(run, "So.")
        with killed_at(monkeypatch, ChannelLog, "append_final"):
            finish.complete(run, text_parts("So."), finish_reason="stop", usage=None)
        with monkeypatch.context() as patch:
            patch.setattr(ChannelLog, "append_final", raise_log_unavailable)
            now = snapshot(run.conversation)
        assert now.runs == self.live(run, "So.")
        assert [message.role for message in now.messages] == ["user"]

    @pytest.mark.parametrize("step", ["advance_head", "release_run"])
    def test_it_has_a_final_event_that_is_published_but_not_recorded(
        self, monkeypatch: pytest.MonkeyPatch, step: str
    ) -> None:
        run = started(queued_run())
        append_deltas(run, "So.")
        with killed_at(monkeypatch, Conversation if step == "advance_head" else ChannelLog, step):
            finish.complete(run, text_parts("So."), finish_reason="stop", usage=None)
        now = snapshot(run.conversation)
        assert now.runs == ()
        assert [message.content for message in now.messages] == ["Why?", "So."]

    def test_it_leaves_a_final_event_between_its_two_reads_to_later_events(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = started(queued_run())
        append_deltas(run, "So.")
        look = ChannelLog.state

        def look_and_then_it_ends(*args: Any, **kwargs: Any) -> Any:
            seen = look(*args, **kwargs)
            monkeypatch.setattr(ChannelLog, "state", look)
            finish.complete(run, text_parts("So."), finish_reason="stop", usage=None)
            return seen

        monkeypatch.setattr(ChannelLog, "state", look_and_then_it_ends)
        now = snapshot(run.conversation)
        assert now.runs == self.live(run, "So.")
        assert [message.role for message in now.messages] == ["user"]

    def test_without_the_log_the_database_decides(self, valkey: "redis.Redis") -> None:
        run = started(queued_run())
        append_deltas(run, "So.")
        finish.complete(run, text_parts("So."), finish_reason="stop", usage=None)
        valkey.flushall()
        run.conversation.refresh_from_db()
        now = snapshot(run.conversation)
        assert [message.content for message in now.messages] == ["Why?", "So."]
        assert now.runs == ()
        assert now.cursor is not None
        assert now.cursor >= run.conversation.head

    def test_its_messages_are_in_order_of_turns_and_not_of_time(self) -> None:
        first = started(queued_run("One?"))
        ask.ask(first.conversation, "Two?", when_busy="queue")
        finish.complete(first, text_parts("One."), finish_reason="stop", usage=None)
        now = snapshot(first.conversation)
        assert [message.content for message in now.messages] == ["One?", "One.", "Two?"]


@pytest.mark.usefixtures("valkey")
class TestEpoch:
    """Rule 2: the first append after a loss begins a new epoch, above all published ids."""

    def test_the_next_question_after_a_loss(self, valkey: "redis.Redis") -> None:
        run = started(queued_run())
        finish.complete(run, text_parts("So."), finish_reason="stop", usage=None)
        run.conversation.refresh_from_db()
        before = run.conversation.head
        valkey.flushall()
        accepted = ask.ask(run.conversation, "And?")
        assert accepted.cursor is not None
        assert accepted.cursor >= before
        page = log_of(run.conversation_id).read_after(accepted.cursor)
        assert isinstance(page, Page)
        assert [type for _, type, _ in page.entries] == ASKED
