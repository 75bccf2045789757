"""The guards of streams.chat: events that are published after the rows, and dispatched runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db.models import Q

from streams.chat import final_events, finish, leases, publisher, sweep
from streams.chat.final_events import missing_events
from streams.chat.stored_ending import Rest
from streams.chat.turns import NewRun
from streams.database_time import from_now
from streams.log.channel_log import ChannelLog
from streams.log.values import SealedReply
from streams.models import Run
from streams.protocol.events import RunStarted
from tests.integration.support.guards.guard import Guard
from workers import claim_rows


def missing_events_of(instead: Callable[..., Any]) -> Callable[[pytest.MonkeyPatch], None]:
    """Replace `missing_events` in all modules that call it."""

    def remove(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(publisher, "missing_events", instead)
        patch.setattr(final_events, "missing_events", instead)

    return remove


def without_the_start(run: Run, sealed: SealedReply) -> list[Any]:
    events = missing_events(run, sealed)
    return [event for event in events if not isinstance(event, RunStarted)]


def append_final_once(run: Run, log: ChannelLog, sealed: SealedReply | None) -> int:
    sealed = sealed or log.seal(run.id, run.attempt, ended=True)
    before = missing_events(run, sealed)
    return log.append_final(final_events.final_event_of(run), *before, token=sealed.token)


def without_a_latest_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(leases, "_latest_end", lambda: from_now(1e6))
    for name in ("_first_active", "_claim"):  # cached with the real `_latest_end`
        patch.setattr(claim_rows, name, getattr(claim_rows, name).__wrapped__)


GUARDS = [
    Guard(
        name="a retry's message is not as new as its run (`NewRun.alone`)",
        promise="6, a message is published once",
        remove=lambda patch: patch.setattr(
            NewRun, "alone", property(lambda new: not new.before.unpublished)
        ),
        checks=(
            "test_publishing: TestAcceptedMessages.test_a_retry_does_not_publish_its_message_again",
        ),
    ),
    Guard(
        name="a message comes after all that is unpublished before it (`NewRun.alone`)",
        promise="1, in order",
        remove=lambda patch: patch.setattr(NewRun, "alone", property(lambda new: new.asks_anew)),
        checks=(
            "test_interrupting: test_the_final_events_of_interrupted_runs_come_before_the_message",
        ),
    ),
    Guard(
        name="a final event publishes the stored text first if the log differs",
        promise="4, the invariant",
        remove=missing_events_of(lambda run, sealed: []),
        checks=("test_event_log: test_the_published_text_is_the_stored_text",),
    ),
    Guard(
        name="a final event publishes a missing start first",
        promise="5, nothing of an attempt before its start",
        remove=missing_events_of(without_the_start),
        checks=(
            "test_lost_history_cancels: "
            "test_a_cancel_between_claim_and_start_is_published_in_order",
        ),
    ),
    Guard(
        name="a final event that the log refuses as changed is prepared again (`_append_final`)",
        promise="4, the invariant",
        remove=lambda patch: patch.setattr(publisher, "_append_final", append_final_once),
        checks=(
            "test_run_attempt_lost_log: "
            "test_a_log_lost_after_the_last_delta_ends_with_the_whole_text",
        ),
    ),
    Guard(
        name="a final event comes after all that is unpublished before it (`rest_of`)",
        promise="1, in order",
        remove=lambda patch: patch.setattr(
            finish, "rest_of", lambda _: Rest(is_alone=True, refused=0)
        ),
        checks=(
            "test_publishing: TestAcceptedMessages.test_a_retry_does_not_publish_its_message_again",
        ),
    ),
    Guard(
        name="a sweep counts the queued tasks (`queue_length`)",
        promise="9, one task per waiting run",
        remove=lambda patch: patch.setattr(sweep, "queue_length", lambda _: 0),
        checks=(
            "test_dispatch: test_without_a_worker_the_queue_holds_one_task_per_waiting_run",
            "test_dispatch: test_a_sweep_sends_as_many_tasks_as_are_missing_oldest_first",
        ),
    ),
    Guard(
        name="a conditional update decides which process sends a task (`_dispatch_waiting`)",
        promise="9, one task per waiting run",
        remove=lambda patch: patch.setattr(sweep, "passed", lambda *_: Q()),
        checks=(
            "test_dispatch: test_a_task_sent_by_another_process_during_a_sweep_is_not_sent_again",
        ),
    ),
    Guard(
        name="an ended run dispatches refused runs (`dispatch_refused`)",
        promise="9, owners get places in turn",
        remove=lambda patch: patch.setattr(finish, "dispatch_refused", lambda _: None),
        checks=(
            "test_fair_share: test_a_refused_run_is_dispatched_as_soon_as_one_of_its_owners_ends",
        ),
    ),
    Guard(
        name="a lease lasts at most its length (`leases`)",
        promise="6, with any change of the clock",
        remove=without_a_latest_end,
        checks=("test_leases: test_a_lease_that_ends_later_than_it_could_has_ended",),
    ),
]
