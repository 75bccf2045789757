"""Interrupting many runs: the request does a bounded part, and all is published in order."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from streams.chat import ask, publisher, turns
from streams.log.channel_log import ChannelLog
from streams.log.event_log import log_of
from streams.log.values import Page
from streams.models import Conversation, Run
from tests.integration.support.killed_processes import sweep_by_another_process
from workers.lease import claim

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("valkey")]
OWNER = "user:1"


@pytest.fixture(autouse=True)
def _patient(settings: Any) -> None:
    settings.RUN_LEASE = 3600.0  # it needs no renewal


def queue(count: int) -> Conversation:
    """A conversation in which so many runs wait behind the one that is written."""
    made = ask.begin(owner=OWNER, text="Why?")
    talk = Conversation.objects.get(pk=made.conversation)
    taken = claim(made.run, uuid4())
    assert taken
    publisher.publish_start(taken)
    for _ in range(count):
        ask.ask(talk, "And?", when_busy="queue")
    return talk


def interrupt(talk: Conversation) -> UUID:
    return ask.ask(talk, "Rather this.", when_busy="interrupt").run


def said(talk: Conversation) -> list[str]:
    types, cursor = list[str](), 0
    while True:
        page = log_of(talk.id).read_after(cursor)
        assert isinstance(page, Page)
        if not page.entries:
            return types
        types += [type for _, type, _ in page.entries]
        cursor = page.entries[-1][0]


def trips(monkeypatch: pytest.MonkeyPatch, settings: Any, count: int) -> tuple[int, int]:
    """Queries and final events within a request that interrupts so many runs."""
    settings.MAX_LIVE_RUNS = count + 2
    talk = queue(count)
    end, endings = ChannelLog.append_final, list[int]()

    def counted(*given: Any, **named: Any) -> int:
        endings.append(1)
        return end(*given, **named)

    with monkeypatch.context() as patch, CaptureQueriesContext(connection) as captured:
        patch.setattr(ChannelLog, "append_final", counted)
        interrupt(talk)
    return len(captured), len(endings)


def test_the_work_in_an_interrupting_request_does_not_grow_with_the_runs(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    few, many = (trips(monkeypatch, settings, count) for count in (60, 120))
    assert few == many
    assert few[1] <= 2 * publisher.RUNS_PER_REQUEST


def test_the_final_events_of_interrupted_runs_come_before_the_message() -> None:
    made = ask.begin(owner=OWNER, text="Why?")
    talk = Conversation.objects.get(pk=made.conversation)
    before = said(talk)
    interrupt(talk)
    assert said(talk) == [*before, "run.cancelled", "message.created", "run.queued"]


@pytest.mark.parametrize("by", ["the worker", "the sweep"])
def test_all_final_events_come_before_the_interrupting_message(settings: Any, by: str) -> None:
    count = 60
    settings.MAX_LIVE_RUNS = count + 2
    talk = queue(count)
    run = interrupt(talk)
    assert [live.pk for live in Run.active()] == [run]
    if by == "the worker":
        taken = claim(run, uuid4())
        assert taken
        publisher.publish_start(taken)
    else:
        sweep_by_another_process()
    told = said(talk)[3 + 2 * count :]  # the events before
    started = ["run.started"] if by == "the worker" else []
    assert told == ["run.cancelled"] * (count + 1) + ["message.created", "run.queued", *started]
    assert set(talk.runs.exclude(pk=run).values_list("status", "attempt")) == {
        ("cancelled", 0),
        ("cancelled", 1),
    }


def test_a_run_claimed_during_its_interruption_ends_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = ask.begin(owner=OWNER, text="Why?")
    talk = Conversation.objects.get(pk=made.conversation)
    cancel_unbegun = turns.cancel_unbegun
    worker = uuid4()

    def claimed_before(conversation: Conversation) -> None:
        taken = claim(made.run, worker)
        assert taken
        publisher.publish_start(taken)
        cancel_unbegun(conversation)

    monkeypatch.setattr(turns, "cancel_unbegun", claimed_before)
    run = interrupt(talk)
    assert said(talk).count("run.cancelled") == 1
    assert claim(made.run, worker) is None
    assert claim(run, worker)
