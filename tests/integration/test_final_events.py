"""One final event for each run, wherever the process dies that ends it.

docs/design.md §3.3, rule 4.
"""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import redis
from django.db.models.functions import Now

from streams.chat import finish, sweep
from streams.log.channel_log import ChannelLog
from streams.log.errors import Superseded
from streams.log.event_log import log_of
from streams.models import Conversation, Message, Run
from streams.protocol.parts import text_parts
from tests.integration.support.broker import QUEUE
from tests.integration.support.killed_processes import (
    ASKED,
    append_deltas,
    killed_at,
    published_types,
    queued_run,
    started,
    sweep_by_another_process,
)
from workers.lease import claim

pytestmark = pytest.mark.django_db


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
