"""The guards of streams.log: fences, repeated appends, final events and the library."""

from __future__ import annotations

from streams.log import servers
from tests.integration.support.guards.guard import Guard, script

GUARDS = [
    Guard(
        name="an append checks the fence",
        promise="5, one writer",
        remove=script(
            ("if refused then return {refused} end\n", ""),
        ),
        checks=(
            "test_event_log: test_a_delta_without_a_fence_is_refused",
            "test_event_log: test_one_run_cannot_append_for_another",
        ),
    ),
    Guard(
        name="an older attempt is refused",
        promise="5, nothing of an older attempt after a newer one",
        remove=script(("tonumber(fence) ~= attempt or sealed", "sealed")),
        checks=(
            "test_event_log: test_a_superseded_attempt_is_refused_and_the_newer_one_starts_over",
            "test_fences: TestFence.test_an_older_attempt_appends_nothing_after_a_newer_one",
        ),
    ),
    Guard(
        name="a sealed run takes no delta",
        promise="5 and 7, nothing after the final event",
        remove=script(("tonumber(fence) ~= attempt or sealed", "tonumber(fence) ~= attempt")),
        checks=("test_event_log: test_nothing_follows_a_seal_or_a_final_event",),
    ),
    Guard(
        name="a repeated delta gets the same id",
        promise="1, no repeat when a response of Redis is lost",
        remove=script(
            ("if index <= last then return {'ok', id_of_piece(data, last - index)} end\n", "")
        ),
        checks=("test_event_log: test_a_repeated_append_gets_the_same_id_and_adds_nothing",),
    ),
    Guard(
        name="a repeated message or run.queued gets the same id",
        promise="6, a message is published once",
        remove=script(
            ("local before = once ~= '' and field(run .. ':' .. once)", "local before = nil")
        ),
        checks=(
            "test_event_log: test_a_repeated_append_gets_the_same_id_and_adds_nothing",
            "test_publishing: TestAcceptedMessages.test_killed_between_append_and_the_rows_update",
        ),
    ),
    Guard(
        name="a repeated final event gets the same id",
        promise="4, exactly one final event",
        remove=script(("local before = field(run .. ':final')", "local before = nil")),
        checks=(
            "test_event_log: test_a_repeated_append_gets_the_same_id_and_adds_nothing",
            "test_event_log: test_a_released_run_gets_no_second_final_event",
        ),
    ),
    Guard(
        name="a final event is refused if the log holds another reply than was sealed (`token`)",
        promise="4, the invariant",
        remove=script(("if token() ~= seen then return {'changed'} end\n", "")),
        checks=(
            "test_log_parts: test_a_final_event_for_another_reply_than_the_log_holds_is_refused",
        ),
    ),
    Guard(
        name="a new open slot moves the one before it into the hash (`open`)",
        promise="4, the invariant",
        remove=script(("  if before then\n", "  if false then\n")),
        checks=("test_log_parts: test_the_log_keeps_the_parts_that_a_reader_folds",),
    ),
    Guard(
        name="pieces renew the expiries of a long reply's log",
        promise="2, a cursor stays good",
        remove=script(("  if now >= (tonumber(renew_at) or 0) then renew_expiries() end\n", "")),
        checks=(
            "test_log_library:"
            " test_a_piece_renews_the_expiries_once_in_a_64th_of_their_time_and_an_ending_does",
        ),
    ),
    Guard(
        name="a missing library is loaded (`_is_function_missing`)",
        promise="1, also after a restart of Redis without its data",
        remove=lambda patch: patch.setattr(servers, "_is_function_missing", lambda _: False),
        checks=("test_event_log: test_a_library_that_redis_has_lost_is_loaded_again",),
    ),
    Guard(
        name="a deleted conversation stays deleted",
        promise="8, a deleted conversation is never written again",
        remove=script(("if field('deleted') then return {'deleted'} end", "")),
        checks=("test_event_log: test_a_deleted_conversation_is_never_written_again",),
    ),
    Guard(
        name="ids of sixteen digits are written in full",
        promise="1, ids ascend by one",
        remove=script(("string.format('%.0f', n)", "tostring(n)")),
        checks=("test_event_log: test_ids_ascend_by_one_from_the_clock_and_have_all_digits",),
    ),
]
