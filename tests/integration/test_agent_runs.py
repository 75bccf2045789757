"""Runs of agents in their process: a tool that must not be called twice, stop, limits of time."""

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from streams.chat import ask, finish
from streams.chat.model_names import Kind
from streams.models import Run
from streams.observability import metrics
from tests.integration.support.agent_runs import asked, kinds, name_agents, now, published
from tests.integration.support.written_runs import until, write_in_thread
from tests.support.agent_paths import noted
from workers.agent_replies import AgentReplies, load_agents
from workers.agents.errors import AgentMisconfigured
from workers.run_attempt import generate
from workers.runtime import Runtime

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]
ENDS_WITHIN = 3.0  # seconds: a look at the leases, the agent's patience, and a slow machine


@pytest.fixture(autouse=True)
def _agents(settings: Any) -> None:
    name_agents(settings)


@pytest.fixture
def process(_agents: None) -> Iterator[Runtime]:
    running = Runtime(Kind.AGENT, AgentReplies(load_agents()))
    yield running
    running.close()


def test_an_agent_replies_and_its_tool_is_called_once(process: Runtime, tmp_path: Path) -> None:
    record = tmp_path / "record"
    run = asked(record, {"say": "It "}, {"call": "refund"}, {"say": "is done."})
    generate(run.id, process)
    ended = now(run)
    assert (ended.status, ended.code, ended.finish_reason) == ("completed", "", "stop")
    assert ended.reply
    assert ended.reply.content == "It is done."
    assert kinds(ended) == ["text", "tool_call", "tool_result", "text"]
    assert noted(record) == [(str(run.id), 1, "refund")]
    assert ended.called_at


def test_an_agent_gets_the_calls_of_earlier_turns_with_their_results(process: Runtime) -> None:
    first = asked(None, {"call": "refund"}, {"say": "Done."})
    generate(first.id, process)
    made = ask.ask(now(first).conversation, json.dumps([{"recall": 1}]))
    generate(made.run, process)
    reply = Run.objects.get(pk=made.run).reply
    assert reply
    assert reply.content == "user assistant tool assistant user"


def test_a_process_that_ends_waits_for_a_called_tool_and_releases_other_runs(
    process: Runtime, tmp_path: Path
) -> None:
    record = tmp_path / "record"
    paying = asked(record, {"say": "a"}, {"call": "refund", "seconds": 1}, {"say": "b"})
    searching = asked(record, {"call": "search", "repeat": True, "seconds": 60})
    threads = [write_in_thread(run, process) for run in (paying, searching)]
    until(lambda: len(noted(record)) == 2)
    process.draining = True
    process.keeper.release_all(called=False)
    for thread in threads:
        thread.join(20)
    assert (now(paying).status, now(paying).attempt) == ("completed", 1)
    assert (now(searching).status, now(searching).uncounted_attempts) == ("queued", 1)


def test_a_called_tool_that_outlasts_the_drain_ends_its_run(
    process: Runtime, tmp_path: Path
) -> None:
    record = tmp_path / "record"
    run = asked(record, {"say": "So far."}, {"call": "refund", "seconds": 60})
    thread = write_in_thread(run, process)
    until(lambda: noted(record))
    process.draining = True
    process.keeper.release_all(called=True)
    thread.join(20)
    ended = now(run)
    assert (ended.status, ended.code, ended.attempt) == ("failed", "tools_called", 1)
    assert ended.reply
    assert ended.reply.content == "So far."
    assert kinds(ended) == ["text", "tool_call", "worker_lost"]


def cancelled_in(record: Path, process: Runtime, *steps: dict[str, Any]) -> tuple[Run, float]:
    """Cancel the run once it has called its tool. Returns the seconds until its thread is free."""
    run = asked(record, {"say": "So far."}, *steps)
    thread = write_in_thread(run, process)
    until(lambda: noted(record) and len(published(run)) == 2)  # what is kept is what was published
    begun = monotonic()
    finish.cancel(run.id)
    assert now(run).status == "cancelled"
    thread.join(20)
    return now(run), monotonic() - begun


def test_a_stop_inside_a_tool_ends_the_run_and_frees_its_place(
    process: Runtime, tmp_path: Path
) -> None:
    step = {"call": "search", "seconds": 60}
    run, took = cancelled_in(tmp_path / "record", process, step)
    assert took < ENDS_WITHIN
    assert run.reply
    assert run.reply.content == "So far."
    assert kinds(run) == ["text", "tool_call", "cancelled"]


def outliving() -> float:
    return metrics.AGENTS_OUTLIVING_RUN._value.get()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "step",
    [
        {"call": "search", "seconds": 60, "thread": True},
        {"call": "search", "seconds": 0},
    ],
    ids=["a tool that blocks its thread", "an agent that swallows its cancellation"],
)
def test_an_agent_that_goes_on_keeps_its_place_and_is_counted(
    process: Runtime, tmp_path: Path, step: dict[str, Any]
) -> None:
    record, release = tmp_path / "record", tmp_path / "release"
    steps = [{**one, "until": str(release)} for one in (step, {"swallow": 60})]
    run = asked(record, {"say": "a"}, *steps, {"say": "never said"})
    thread = write_in_thread(run, process)
    until(lambda: noted(record) and len(published(run)) >= 2)
    begun = monotonic()
    finish.cancel(run.id)
    until(lambda: outliving() == 1, ENDS_WITHIN)
    thread.join(begun + 3 - monotonic())  # it keeps its place for as long as the agent goes on
    assert thread.is_alive()
    release.touch()
    thread.join(20)
    assert outliving() == 0
    ended = now(run)
    assert ended.reply
    assert (ended.status, ended.reply.content) == ("cancelled", "a")


def test_a_stop_ends_the_run_of_an_agent_that_blocks_the_event_loop(
    process: Runtime, tmp_path: Path
) -> None:
    record, release = tmp_path / "record", tmp_path / "release"
    block = {"block": 60, "until": str(release)}
    run = asked(record, {"say": "a"}, {"call": "search"}, block, {"say": "never said"})
    thread = write_in_thread(run, process)
    until(lambda: noted(record))
    Run.objects.filter(pk=run.pk).update(cancel_asked=True)  # the worker has to end it
    begun = monotonic()
    until(lambda: now(run).status == "cancelled", 5)
    assert monotonic() - begun < 4
    assert thread.is_alive()
    release.touch()
    thread.join(20)
    assert now(run).reply.content in ("", "a")  # type: ignore[union-attr]


def test_the_run_that_holds_the_event_loop_is_named(
    process: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    run = asked(None, {"block": 7})
    with caplog.at_level(logging.WARNING, "workers.agents.watchdog"):
        generate(run.id, process)
    assert f"run {run.id} attempt 1 holds the event loop" in caplog.text


@pytest.mark.parametrize(
    ("setting", "steps", "code"),
    [
        ("TOOL_TIMEOUT", [{"call": "refund", "seconds": 60}], "tool_silent"),
        ("MODEL_READ_TIMEOUT", [{"wait": 60}], "model_silent"),
        ("RUN_TIMEOUT", [{"wait": 60}], "run_too_long"),
        ("RUN_TIMEOUT", [{"wait": 0.5}, {"block": 5}], "run_too_long"),
    ],
    ids=["a silent tool", "a silent agent", "a long run", "a long run that blocks the loop"],
)
def test_silence_ends_the_run_within_its_bound(
    process: Runtime, settings: Any, setting: str, steps: list[dict[str, Any]], code: str
) -> None:
    setattr(settings, setting, 1.0)
    run = asked(None, {"say": "a"}, *steps)
    thread = write_in_thread(run, process)
    until(lambda: now(run).status == "failed")
    ended = now(run)
    assert ended.started_at
    assert ended.ended_at
    lasted = (ended.ended_at - ended.started_at).total_seconds()
    assert lasted < 1 + 2 + 1  # the bound, the bar, and a slow machine
    assert ended.code == code
    thread.join(20)


def test_code_that_exits_in_a_callback_ends_neither_loop_nor_process(
    process: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    process.loop.call_soon_threadsafe(sys.exit, "the loop continues")
    run = asked(None, {"say": "a"})
    generate(run.id, process)
    assert now(run).status == "completed"
    assert "the loop continues" in caplog.text


def test_what_an_agent_raises_stays_in_the_log(
    process: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    run = asked(None, {"say": "a"}, {"fail": "hsifdrows"})
    generate(run.id, process)
    ended = now(run)
    assert (ended.status, ended.code) == ("failed", "agent_error")
    assert "swordfish" not in ended.reason
    assert "swordfish" in caplog.text


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("tests.support.no_such_module.agent", "cannot be imported"),
        ("tests.support.agents.no_such_agent", "cannot be imported"),
        ("tests.support.agents.no_generator", "is not an agent"),
        ("tests.support.agents.no_turn", "is not an agent"),
        ("tests.support.agent_paths.TOOLS", "is not an agent"),
    ],
)
def test_what_is_no_agent_is_refused_with_a_sentence(
    settings: Any, path: str, sentence: str
) -> None:
    settings.AGENTS = {"tools": path}
    with pytest.raises(AgentMisconfigured) as refusal:
        load_agents()
    assert sentence in str(refusal.value)
    assert "tools" in str(refusal.value)
    assert path in str(refusal.value)
