"""A tool that must not be called twice: its call is stored first.

A run that has called such a tool is never claimed again.
"""

import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from streams.chat import ask, publisher
from streams.chat.model_names import Kind
from streams.chat.sweep import sweep
from streams.log.values import Append
from streams.models import Run
from tests.integration.support.agent_runs import (
    abandoned,
    asked,
    cancelled,
    killed,
    kinds,
    name_agents,
    now,
)
from tests.integration.support.written_runs import write_in_thread
from tests.support import agents
from tests.support.agent_paths import noted
from workers import lease, log_writer, run_attempt
from workers.agent_replies import AgentReplies, load_agents
from workers.agents import Turn
from workers.agents.threads import DaemonThreads
from workers.lease import claim, mark_called, release
from workers.run_attempt import generate
from workers.runtime import Runtime

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


@pytest.fixture(autouse=True)
def _agents(settings: Any) -> None:
    name_agents(settings)


@pytest.fixture
def process(_agents: None) -> Iterator[Runtime]:
    running = Runtime(Kind.AGENT, AgentReplies(load_agents()))
    yield running
    running.close()


def test_a_call_that_is_safe_to_repeat_is_not_stored(process: Runtime) -> None:
    run = asked(None, {"call": "search", "repeat": True}, {"say": "Found."})
    generate(run.id, process)
    assert (now(run).status, now(run).called_at) == ("completed", None)


def test_the_call_is_stored_before_the_tool_is_called(
    process: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, stored = tmp_path / "record", []

    def look(run: Run) -> bool:
        stored.append(noted(record))
        return mark_called(run)

    monkeypatch.setattr(run_attempt, "mark_called", look)
    generate(asked(record, {"call": "refund"}).id, process)
    assert stored == [[]]


@pytest.mark.parametrize(("end", "closed"), [(cancelled, "cancelled"), (killed, "worker_lost")])
@pytest.mark.parametrize("calls", [1, 2])
def test_a_run_that_ends_as_its_tool_begins_keeps_the_call(
    process: Runtime,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    end: Callable[[Run], None],
    closed: str,
    calls: int,
) -> None:
    """The log is slow with each call, so that a tool which did not wait for it would be first."""
    ended, record = threading.Event(), tmp_path / "record"

    def slow(pieces: list[Append]) -> list[int | Exception]:
        if any(piece.event.type == "tool.called" for piece in pieces):
            ended.wait(0.5)
        return publisher.append(pieces)

    monkeypatch.setattr(log_writer, "append", slow)
    steps = [{"call": f"tool {n}", "seconds": 60 * (n == calls - 1)} for n in range(calls)]
    run = asked(record, {"say": "So far."}, *steps)
    monkeypatch.setattr(agents, "_note", ended_at_call(calls, run, end, ended))
    thread = write_in_thread(run, process)
    thread.join(20)
    assert kinds(now(run)) == [
        "text",
        *["tool_call", "tool_result"] * (calls - 1),
        "tool_call",
        closed,
    ]


def ended_at_call(
    number: int, run: Run, end: Callable[[Run], None], ended: threading.Event
) -> Callable[[Turn, str], None]:
    """What the tools do when they begin: that of this number ends its run."""
    numbers = count(1)

    def begin(_turn: Turn, _name: str) -> None:
        if next(numbers) == number:
            DaemonThreads().submit(end, run).result()  # the event loop may not use the database
            ended.set()

    return begin


def test_an_attempt_that_has_lost_its_run_calls_no_tool(
    process: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after the process was frozen: another one has claimed the run meanwhile."""
    record, run = tmp_path / "record", asked(tmp_path / "record", {"call": "refund"})

    def superseded(own: Run) -> bool:
        Run.objects.filter(pk=run.pk).update(attempt=2, worker=uuid4())
        return mark_called(own)

    monkeypatch.setattr(run_attempt, "mark_called", superseded)
    generate(run.id, process)
    assert noted(record) == []
    assert (now(run).attempt, now(run).called_at) == (2, None)


def test_a_run_whose_cancel_was_asked_for_calls_no_tool(
    process: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, run = tmp_path / "record", asked(tmp_path / "record", {"call": "refund"})

    def cancelled(own: Run) -> bool:
        Run.objects.filter(pk=run.pk).update(cancel_asked=True)
        return mark_called(own)

    monkeypatch.setattr(run_attempt, "mark_called", cancelled)
    generate(run.id, process)
    assert noted(record) == []
    assert now(run).status == "cancelled"


def test_a_run_that_has_called_a_tool_is_never_claimed_again_and_ends(settings: Any) -> None:
    name_agents(settings)
    run = asked(None, {"call": "refund"})
    held = abandoned(run)
    assert mark_called(held)
    Run.objects.update(lease_until="2026-01-01T00:00:00Z")
    assert claim(run.id, uuid4(), Kind.AGENT) is None
    sweep()
    assert (now(run).status, now(run).code, now(run).attempt) == ("failed", "tools_called", 1)
    again = ask.retry(now(run))  # the reader asks for it
    assert again.run != run.id


def test_a_run_that_has_called_no_tool_begins_anew() -> None:
    run = asked(None, {"call": "search", "repeat": True})
    abandoned(run)
    Run.objects.update(lease_until="2026-01-01T00:00:00Z")
    assert claim(run.id, uuid4(), Kind.AGENT)
    assert (now(run).status, now(run).attempt) == ("running", 2)


def test_an_attempt_that_has_lost_its_run_cannot_store_a_call(settings: Any) -> None:
    name_agents(settings)
    run = asked(None, {"call": "refund"})
    held = abandoned(run)
    Run.objects.update(lease_until="2026-01-01T00:00:00Z")
    again = claim(run.id, uuid4(), Kind.AGENT)
    assert again
    assert not lease.mark_called(held)  # the process that was frozen wakes up
    assert now(run).called_at is None
    assert lease.mark_called(again)


def test_a_run_that_has_called_a_tool_is_not_released() -> None:
    held = abandoned(asked(None, {"call": "refund"}))
    assert mark_called(held)
    assert not release(held)
    assert now(held).status == "running"
