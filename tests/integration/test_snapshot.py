"""A snapshot is true at its cursor: what it says, and what the tail then says, is one story."""

from uuid import uuid4

import pytest

from streams.chat import ask, publisher
from streams.chat.snapshot import snapshot
from streams.log.event_log import log_of
from streams.log.servers import Servers
from streams.log.values import Page
from streams.models import Conversation
from streams.protocol.events import LiveRun
from tests.integration.test_publishing import away
from workers.lease import claim

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


def test_a_run_that_is_claimed_is_queued_in_a_snapshot_until_its_start_is_said() -> None:
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


def test_who_looks_first_when_redis_is_back_is_told_of_what_was_asked_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Servers, "run", away)
        accepted = ask.begin(owner="visitor:a", text="Why?")
    assert accepted.cursor is None
    now = snapshot(Conversation.objects.get(pk=accepted.conversation))
    assert [message.content for message in now.messages] == ["Why?"]
    assert [(run.id, run.status) for run in now.runs] == [(accepted.run, "queued")]
    page = log_of(accepted.conversation).read_after(0)
    assert isinstance(page, Page)
    assert [type for _, type, _ in page.entries] == ["message.created", "run.queued"]
    assert page.head == now.cursor
