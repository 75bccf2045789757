"""A snapshot is true at its cursor: what it says, and what the tail then says, is one story."""

from dataclasses import replace
from uuid import uuid4

import pytest

from streams.chat import ask, finish, publisher
from streams.chat.snapshot import snapshot
from streams.log.channel_log import ChannelLog
from streams.log.event_log import log_of
from streams.log.servers import Servers
from streams.log.values import Page
from streams.models import Conversation, Run
from streams.protocol.events import EndedRun, LiveRun, Snapshot, Usage
from streams.protocol.parts import text_parts
from streams.protocol.sse import decode
from tests.integration.support.killed_processes import (
    raise_log_unavailable,
    sweep_by_another_process,
)
from tests.support.fold import ConversationState, fold
from workers.lease import claim

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


def test_a_claimed_run_is_queued_in_a_snapshot_until_its_start_is_published() -> None:
    accepted = ask.begin(owner="visitor:a", text="Why?")
    conversation = Conversation.objects.get(pk=accepted.conversation)
    taken = claim(accepted.run, uuid4())
    assert taken
    before = snapshot(conversation)
    started = publisher.publish_start(taken)
    after = snapshot(conversation)
    live = LiveRun(
        id=taken.id,
        status="queued",
        attempt=0,
        message=accepted.message,
        text="",
        reasoning="",
        parts=(),
    )
    assert before.runs == (live,)
    assert before.cursor is not None
    assert started > before.cursor
    assert [(run.status, run.attempt) for run in after.runs] == [("running", 1)]


def test_the_first_snapshot_after_an_outage_publishes_the_waiting_messages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Servers, "run", raise_log_unavailable)
        accepted = ask.begin(owner="visitor:a", text="Why?")
    assert accepted.cursor is None
    now = snapshot(Conversation.objects.get(pk=accepted.conversation))
    assert [message.content for message in now.messages] == ["Why?"]
    assert [(run.id, run.status) for run in now.runs] == [(accepted.run, "queued")]
    page = log_of(accepted.conversation).read_after(0)
    assert isinstance(page, Page)
    assert [type for _, type, _ in page.entries] == ["message.created", "run.queued"]
    assert page.head == now.cursor


def test_a_snapshot_names_the_last_run_that_left_its_message_without_a_reply() -> None:
    accepted = ask.begin(owner="visitor:a", text="Why?")
    conversation = Conversation.objects.get(pk=accepted.conversation)
    first = Run.objects.select_related("conversation", "message").get(pk=accepted.run)
    finish.fail(first, (), code="model_silent", reason="The model sent nothing.")
    named = EndedRun(
        id=first.id,
        status="failed",
        attempt=0,
        message=accepted.message,
        code="model_silent",
        reason="The model sent nothing.",
        usage=Usage(input_tokens=0, output_tokens=0, total_tokens=0, estimated=True),
    )
    assert snapshot(conversation).unanswered == (named,)

    again = ask.retry(first)
    now = snapshot(conversation)
    assert ([run.id for run in now.runs], now.unanswered) == ([again.run], ())

    finish.cancel(again.run)
    cancelled = replace(named, id=again.run, status="cancelled", code=None, reason=None)
    assert snapshot(conversation).unanswered == (cancelled,)

    last = claim(ask.retry(first).run, uuid4())
    assert last
    finish.complete(last, text_parts("Because."), finish_reason="stop", usage=None)
    now = snapshot(conversation)
    assert ([message.content for message in now.messages], now.unanswered) == (
        ["Why?", "Because."],
        (),
    )


def test_a_run_without_a_reply_is_active_in_a_snapshot_until_its_final_event_is_published(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    accepted = ask.begin(owner="visitor:a", text="Why?")
    conversation = Conversation.objects.get(pk=accepted.conversation)
    monkeypatch.setattr(ChannelLog, "append_final", raise_log_unavailable)
    finish.cancel(accepted.run)
    before = snapshot(conversation)
    assert ([run.id for run in before.runs], before.unanswered) == ([accepted.run], ())
    monkeypatch.setattr(Servers, "run", raise_log_unavailable)
    without_log = snapshot(conversation)
    assert (without_log.runs, [run.id for run in without_log.unanswered]) == ((), [accepted.run])
    monkeypatch.undo()
    after = snapshot(conversation)
    assert (after.runs, [run.id for run in after.unanswered]) == ((), [accepted.run])


def test_a_final_event_that_only_the_log_records_counts_in_a_snapshot() -> None:
    accepted = ask.begin(owner="visitor:a", text="Why?")
    conversation = Conversation.objects.get(pk=accepted.conversation)
    finish.cancel(accepted.run)
    Run.objects.update(ended_event_id=None)  # the process died before it recorded the event
    now = snapshot(conversation)
    assert (now.runs, [run.id for run in now.unanswered]) == ((), [accepted.run])


def test_a_snapshot_publishes_a_few_runs_and_the_sweep_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    count = 2 * publisher.RUNS_PER_REQUEST
    with monkeypatch.context() as patch:
        patch.setattr(Servers, "run", raise_log_unavailable)
        accepted = ask.begin(owner="visitor:a", text="0")
        conversation = Conversation.objects.get(pk=accepted.conversation)
        for number in range(1, count):
            ask.ask(conversation, str(number), when_busy="interrupt")
    now = snapshot(conversation)
    published = [str(number) for number in range(publisher.RUNS_PER_REQUEST)]
    assert [message.content for message in now.messages] == published
    # All but the last were cancelled by the next message, and no final event follows the cursor.
    assert [run.message for run in now.unanswered] == [message.id for message in now.messages]
    state = fold(ConversationState(), now)

    sweep_by_another_process()
    assert now.cursor is not None
    page = log_of(conversation.id).read_after(now.cursor)
    assert isinstance(page, Page)
    for _, type, data in page.entries:
        event = decode(type, data)
        assert not isinstance(event, Snapshot)
        state = fold(state, event)
    assert state == fold(ConversationState(), snapshot(conversation))
    assert len(state.messages) == count
