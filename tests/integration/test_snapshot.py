"""A snapshot is true at its cursor: what it says, and what the tail then says, is one story."""

from uuid import uuid4

import pytest

from streams import asking, publish
from streams.events import LiveRun
from streams.models import Conversation
from streams.snapshot import snapshot
from workers.lease import claim

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


def test_a_run_that_is_claimed_is_queued_in_a_snapshot_until_its_start_is_said() -> None:
    accepted = asking.begin(owner="visitor:a", text="Why?")
    conversation = Conversation.objects.get(pk=accepted.conversation)
    taken = claim(accepted.run, uuid4())
    assert taken
    before = snapshot(conversation)
    started = publish.start(taken)
    after = snapshot(conversation)
    live = LiveRun(
        id=taken.id,
        status="queued",
        attempt=0,
        message=accepted.message,
        text="",
        reasoning="",
    )
    assert before.runs == (live,)
    assert before.cursor is not None
    assert started > before.cursor
    assert [(run.status, run.attempt) for run in after.runs] == [("running", 1)]
