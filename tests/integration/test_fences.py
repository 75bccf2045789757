"""Fences and epochs, where a failover may have lost events (docs/design.md §3.3, rules 1 to 3)."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
import redis
from django.db.models.functions import Now

from streams.chat import ask, finish, publisher
from streams.log.channel_log import ChannelLog
from streams.log.channels import channel_of
from streams.log.errors import Superseded
from streams.log.event_log import log_of, the_log
from streams.log.values import CursorGap, Page, Watermark
from streams.models import Message, Run
from streams.protocol.parts import text_parts
from tests.integration.support.killed_processes import (
    ASKED,
    append_deltas,
    killed_at,
    published_types,
    queued_run,
    started,
    sweep_by_another_process,
)
from workers.lease import claim, release

pytestmark = pytest.mark.django_db


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
