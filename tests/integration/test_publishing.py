"""Database and log stay consistent: a process is killed between two steps, and another continues.

Each test is about one rule of docs/design.md §3.3: here 6 and 7. The modules test_fences,
test_final_events and test_published_snapshots have the others.
"""

from datetime import timedelta
from typing import Any

import pytest
import redis
from django.db.models.functions import Now

from streams.chat import ask, conversations, finish, limits
from streams.log.channel_log import ChannelLog
from streams.log.channels import channel_of
from streams.models import Conversation, DeletedConversation, Run
from tests.integration.support.broker import QUEUE
from tests.integration.support.killed_processes import (
    ASKED,
    ProcessKilled,
    append_deltas,
    killed_at,
    published_types,
    queued_run,
    raise_log_unavailable,
    started,
    sweep_by_another_process,
)

pytestmark = pytest.mark.django_db


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
