"""The bounds of an attempt: its time, its length, and the length of an event."""

from typing import Any

import pytest

from tests.integration.support.attempt_runs import WINDOW, asked, deltas, heard
from tests.integration.support.written_runs import until
from tests.support.openai_server import Running
from tests.support.script import script_of
from workers.run_attempt import generate
from workers.runtime import Runtime

pytestmark = pytest.mark.django_db(transaction=True)


@WINDOW
def test_a_run_that_takes_too_long_is_ended(process: Runtime, settings: Any) -> None:
    settings.RUN_TIMEOUT = 3.0  # on a busy machine the first token takes a second
    run, _ = asked(tokens=5000, rate=50)
    generate(run.id, process)
    run.refresh_from_db()
    assert run.reply
    assert (run.status, run.code) == ("failed", "run_too_long")
    assert heard(run)[0] == run.reply.content


def test_a_long_chunk_is_split_into_bounded_events(process: Runtime) -> None:
    run, text = asked(text=["x" * 150_000, "short", '"\u2028\U0001f600' * 20_000])
    generate(run.id, process)
    run.refresh_from_db()
    assert run.reply
    assert (run.status, run.reply.content, heard(run)[0]) == ("completed", text, text)
    sizes = [len(data.encode()) for data in deltas(run)]
    assert max(sizes) <= 64 * 1024
    assert len(sizes) < 12


@WINDOW
@pytest.mark.parametrize("reasoning", [0, 2])
def test_a_reply_that_exceeds_its_bound_is_ended_and_its_beginning_is_kept(
    process: Runtime, model: Running, settings: Any, reasoning: int
) -> None:
    run, text = asked(text=["\u6f22" * 20] * 5_000, rate=1000, reasoning=reasoning)
    thoughts = len("".join(script_of(run.message.content).thoughts()))
    settings.MAX_REPLY_BYTES = 100 + thoughts
    closed = len(model.stats()["closed_by_client"])
    generate(run.id, process)
    run.refresh_from_db()
    assert run.reply
    assert (run.status, run.code) == ("failed", "reply_too_long")
    assert run.reason == "The reply became too long and was ended."
    assert run.reply.content == heard(run)[0] == text[:33]
    assert heard(run)[1][-1] == "run.failed"
    until(lambda: len(model.stats()["closed_by_client"]) > closed)


def test_a_reply_can_be_as_long_as_its_bound(process: Runtime, settings: Any) -> None:
    run, text = asked(text=["\u6f22" * 20] * 5)
    settings.MAX_REPLY_BYTES = len(text.encode())
    generate(run.id, process)
    run.refresh_from_db()
    assert (run.status, heard(run)[0]) == ("completed", text)
