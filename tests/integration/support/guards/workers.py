"""The guards of workers: claims, calls of tools, and text that is held."""

from __future__ import annotations

from uuid import UUID

import pytest
from django.db.models import Q

from streams.chat.model_names import Kind, names
from streams.models import Run
from tests.integration.support.guards.guard import Guard, source
from workers import claim_rows, lease
from workers.attempt import Attempt
from workers.delta_window import HeldText
from workers.generators import sse_lines
from workers.reply_writer import ReplyWriter


def without_retryable(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(claim_rows, "retryable", lambda: Q(attempt__lt=9))
    patch.setattr(claim_rows, "_claim", claim_rows._claim.__wrapped__)  # compiled before


def first_active_alone(run: UUID) -> tuple[Run, bool] | None:
    found = claim_rows.first_active(run)
    if found:
        found[0].follows_unpublished = False
    return found


GUARDS = [
    Guard(
        name="a start comes after all that is unpublished before it (`first_active`)",
        promise="1, in order",
        remove=lambda patch: patch.setattr(lease, "first_active", first_active_alone),
        checks=(
            "test_publishing: "
            "TestAcceptedMessages.test_an_unpublished_message_is_published_before_the_run_starts",
        ),
    ),
    Guard(
        name="a reader that rests leaves packets in the kernel (`connection_of`)",
        promise="5, what a token of a fast model costs",
        remove=lambda patch: patch.setattr(sse_lines, "connection_of", lambda _: None),
        checks=("test_model_rest: test_the_packets_of_a_rest_are_received_in_one_read",),
    ),
    Guard(
        name="a late timer does not move the next window (`HeldText.begin_window`)",
        promise="5, how long held text waits",
        remove=source(HeldText, "begin_window", "self.due if is_late else now", "now"),
        checks=(
            "test_delta_window: test_a_model_whose_pace_is_the_windows_is_not_held_by_a_late_timer",
        ),
    ),
    Guard(
        name="a claim is refused beyond its owner's share (`has_room`)",
        promise="9, owners get places in turn",
        remove=lambda patch: patch.setattr(lease, "has_room", lambda *_, **__: True),
        checks=(
            "test_fair_share: test_a_new_owner_gets_a_place_beside_one_with_many_runs",
            "test_fair_share: test_a_refused_run_is_dispatched_as_soon_as_one_of_its_owners_ends",
        ),
    ),
    Guard(
        name="a task of an ended run starts a waiting one (`next_without_place`)",
        promise="9, outdated tasks delay no run",
        remove=lambda patch: patch.setattr(lease, "next_without_place", lambda _: None),
        checks=("test_dispatch: test_a_task_of_an_ended_run_starts_a_waiting_run",),
    ),
    Guard(
        name="a process claims only the names that it has (`names`)",
        promise="9, agents take no places of models",
        remove=lambda patch: patch.setattr(
            lease, "names", lambda _: [*names(Kind.AGENT), *names(Kind.MODEL)]
        ),
        checks=("test_agent_names: test_a_process_claims_runs_of_its_own_kind_alone",),
    ),
    Guard(
        name="a run that has called a tool is not claimed (`retryable`)",
        promise="10, no tool twice",
        remove=without_retryable,
        checks=(
            "test_agent_calls: test_a_run_that_has_called_a_tool_is_never_claimed_again_and_ends",
        ),
    ),
    Guard(
        name="only the attempt that holds the run stores a call (`mark_called`)",
        promise="10, no tool twice",
        remove=lambda patch: patch.setattr(lease, "mark_called", lambda _: True),
        checks=("test_agent_calls: test_an_attempt_that_has_lost_its_run_cannot_store_a_call",),
    ),
    Guard(
        name="held text precedes another part (`ReplyWriter.append`)",
        promise="1, in order",
        remove=source(ReplyWriter, "append", "self.flush()", "pass"),
        checks=("test_delta_window: test_another_kind_of_part_comes_after_what_waits",),
    ),
    Guard(
        name="held text is of one kind (`HeldText.takes`)",
        promise="4, the invariant",
        remove=source(HeldText, "takes", "kind is self._kind and", ""),
        checks=("test_delta_window: test_another_kind_of_part_comes_after_what_waits",),
    ),
    Guard(
        name="the end of a reply flushes held text (`ReplyWriter.confirm`)",
        promise="4, a completed reply is whole",
        remove=source(ReplyWriter, "confirm", "self.flush()", "pass"),
        checks=("test_delta_window: test_the_end_of_the_reply_comes_after_what_waits",),
    ),
    Guard(
        name="a run that takes too long flushes held text (`Attempt.write`)",
        promise="4, a failed reply keeps its text",
        remove=source(Attempt, "write", "self.writer.flush()", "pass"),
        checks=("test_delta_window_runs: test_a_run_that_takes_too_long_keeps_what_waits",),
    ),
    Guard(
        name="a stop drops held text (`ReplyWriter.stop`)",
        promise="7, a cancel keeps the published reply",
        remove=source(ReplyWriter, "stop", "self._held.take()", "pass"),
        checks=(
            "test_delta_window_endings: test_a_cancelled_reply_drops_what_waits",
            "test_delta_window_endings: test_a_released_reply_drops_what_waits",
        ),
    ),
    Guard(
        name="text is not published into a lost log (`ReplyWriter.flush`)",
        promise="1, all parts come before the next delta",
        remove=source(ReplyWriter, "flush", "if not self._refused:", "if True:"),
        checks=(
            "test_delta_window_endings: "
            "test_text_that_becomes_due_before_a_lost_log_is_restored_comes_with_all_parts",
        ),
    ),
    Guard(
        name="nothing is held while a lost log is restored (`ReplyWriter._restore`)",
        promise="1, all parts come before the next delta",
        remove=source(ReplyWriter, "_restore", "self.flush()", "pass"),
        checks=(
            "test_delta_window_endings: test_all_parts_come_before_text_that_becomes_due_meanwhile",
        ),
    ),
    Guard(
        name="text is held until the window is over (`HeldText.due`)",
        promise="7, text waits for a bounded time",
        remove=source(ReplyWriter, "_append_text", "self._window.time() >= held.due", "False"),
        checks=(
            "test_delta_window: test_a_piece_after_a_longer_pause_goes_at_once",
            "test_delta_window: test_without_a_window_each_piece_is_an_event",
        ),
    ),
    Guard(
        name="the timer flushes held text (`DeltaWindow.flush_later`)",
        promise="no token waits longer than the window",
        remove=source(
            ReplyWriter, "_append_text", "self._window.flush_later(held, self.flush)", "pass"
        ),
        checks=("test_delta_window: test_no_piece_waits_longer_than_the_window_and_one_tick",),
    ),
]
