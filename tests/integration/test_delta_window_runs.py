"""The delta window in whole runs: a fast model, a cancel, a fault, the longest time."""

from typing import Any

import pytest

from streams.chat import finish
from streams.chat.message_view import parts_of
from tests.integration.support.attempt_runs import asked
from tests.integration.support.window_events import WINDOW, events, folded
from tests.integration.support.written_runs import until, write_in_thread
from workers.run_attempt import generate
from workers.runtime import Runtime

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


def test_a_fast_model_is_written_in_few_events(process: Runtime) -> None:
    run, text = asked(tokens=2000, rate=1000, reasoning=500)
    generate(run.id, process)
    run.refresh_from_db()
    assert run.reply
    assert run.started_at
    assert run.ended_at
    assert (run.status, run.reply.content) == ("completed", text)
    assert folded(run) == parts_of(run.reply)
    seconds = (run.ended_at - run.started_at).total_seconds()
    assert len(events(run)) <= seconds / WINDOW + 3  # first, last, and the change of kind


def test_a_run_that_takes_too_long_keeps_what_waits(process: Runtime, settings: Any) -> None:
    settings.RUN_TIMEOUT = 3.0
    settings.DELTA_WINDOW = 60.0
    run, _ = asked(text=["a ", "b ", "c "], rate=5, pause_at=2, pause=60)
    generate(run.id, process)
    run.refresh_from_db()
    assert run.reply
    assert (run.code, run.reply.content) == ("run_too_long", "a b ")
    assert folded(run) == parts_of(run.reply)


def test_a_model_that_breaks_off_keeps_what_waits(process: Runtime, settings: Any) -> None:
    settings.DELTA_WINDOW = 4.0
    run, _ = asked(text=["a ", "b ", "c "], rate=5, fault="truncated", fault_at=2)
    generate(run.id, process)
    run.refresh_from_db()
    assert run.reply
    assert (run.code, run.reply.content) == ("model_interrupted", "a b ")
    assert folded(run) == parts_of(run.reply)


def test_a_cancelled_reply_is_what_was_received(process: Runtime, settings: Any) -> None:
    settings.DELTA_WINDOW = 60.0
    run, text = asked(tokens=100, rate=200)
    thread = write_in_thread(run, process)
    until(lambda: events(run))
    finish.cancel(run.id)
    thread.join(20)
    run.refresh_from_db()
    assert run.reply
    assert run.status == "cancelled"
    assert folded(run) == parts_of(run.reply)
    assert len(run.reply.content) < len(text) / 10  # the first piece, and none that waited
