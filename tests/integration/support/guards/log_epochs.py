"""The guards that detect lost events and begin epochs, in streams.log and in the attempt."""

from __future__ import annotations

from streams.log.event_log import EventLog, the_log
from tests.integration.support.guards.guard import Guard, script
from workers import log_writer

LOST_EVENTS = (
    "test_lost_history: TestOtherEvents.test_a_lost_message_is_detected_before_the_next_delta",
    "test_lost_history: TestOtherEvents.test_a_lost_final_event_is_detected_before_the_next_delta",
)


GUARDS = [
    Guard(
        name="a lost tail begins a new epoch",
        promise="2, never another epoch's events after an old cursor",
        remove=script(("at > 0 and at >= min_head", "at > 0")),
        checks=("test_log_epochs: test_a_lost_tail_is_never_continued",),
    ),
    Guard(
        name="an epoch begins above every published id",
        promise="2, with the clock set back",
        remove=script(("math.max(now, above + MARGIN + now % MARGIN)", "now")),
        checks=(
            "test_log_epochs: test_an_epoch_begins_above_published_ids_with_the_clock_set_back",
        ),
    ),
    Guard(
        name="two epochs never begin at the same id",
        promise="2, when the log is lost twice within a second",
        remove=script((" + now % MARGIN", "")),
        checks=("test_log_epochs: test_two_epochs_never_begin_at_the_same_id",),
    ),
    Guard(
        name="the start of an attempt on another server process begins a new epoch",
        promise="2, when worker and Redis die together",
        remove=script(("(field('server') or here) ~= here", "false")),
        checks=("test_log_epochs: test_an_attempt_on_another_redis_process_begins_an_epoch",),
    ),
    Guard(
        name="a log on another server process is unverified",
        promise="2, when Redis fails over during a reply",
        remove=script(
            ("if not verified or verified == server_id() then return nil end", "do return nil end")
        ),
        checks=(
            "test_log_epochs: test_on_another_redis_process_only_an_attempt_can_verify_the_log",
            "test_log_epochs: test_on_another_redis_process_a_seal_without_attempt_begins_an_epoch",
        ),
    ),
    Guard(
        name="a library asks its own process for the run_id (`server_id`)",
        promise="2, when Redis fails over during a reply",
        remove=script(("run_id = at and string.sub(info, at + 1, at + 40)", "run_id = 'any'")),
        checks=(
            "test_log_library: test_a_promoted_replica_and_a_restarted_process_are_other_processes",
        ),
    ),
    Guard(
        name="the attempt verifies the log (`EventLog.verify`)",
        promise="2, when Redis fails over during a reply",
        remove=lambda patch: patch.setattr(EventLog, "verify", lambda *_: None),
        checks=(
            "test_log_epochs: test_on_another_redis_process_only_an_attempt_can_verify_the_log",
            "test_log_epochs: test_an_attempt_that_verifies_detects_a_lost_tail",
        ),
    ),
    Guard(
        name="a delta waits until the log is verified",
        promise="2, when Redis fails over during a reply",
        remove=script(("if verified ~= server_id() then return {'unverified'} end\n", "")),
        checks=LOST_EVENTS,
    ),
    Guard(
        name="the verification uses the recorded head (`verify`)",
        promise="2, when Redis fails over during a reply",
        remove=lambda patch: patch.setattr(log_writer, "verify", lambda r: the_log().verify(r)),
        checks=LOST_EVENTS,
    ),
    Guard(
        name="a final event waits if another reply's tail may be lost",
        promise="2, when Redis fails over during a reply",
        remove=script(("if open and open ~= run then return {'unverified'} end\n", "")),
        checks=("test_lost_history: TestOtherEvents.test_events_never_get_the_ids_of_a_lost_tail",),
    ),
    Guard(
        name="the start after an abandoned attempt begins a new epoch",
        promise="2, when worker and Redis die together",
        remove=script(("(abandoned or at ~= min_head)", "at ~= min_head")),
        checks=(
            "test_lost_history: TestOtherEvents.test_an_attempt_after_a_dead_worker_reuses_no_id",
        ),
    ),
    Guard(
        name="a new epoch at a seal keeps the reply (`seal`)",
        promise="7, a cancel keeps the published reply",
        remove=script(("begin_epoch(head(), run)", "begin_epoch(head())")),
        checks=("test_log_parts: test_a_new_epoch_at_a_seal_keeps_all_parts",),
    ),
    Guard(
        name="a cursor before the epoch is a gap",
        promise="2, a loss is reported",
        remove=script(("elseif cursor < epoch_start - 1 then", "elseif false then")),
        checks=(
            "test_log_epochs: test_an_epoch_begins_above_published_ids_with_the_clock_set_back",
        ),
    ),
    Guard(
        name="a cursor before the first kept event is a gap",
        promise="2, a loss is reported",
        remove=script(("elseif cursor < first - 1 then", "elseif false then")),
        checks=("test_log_pages: test_a_trimmed_log_reports_expired_and_its_rest_is_readable",),
    ),
]
