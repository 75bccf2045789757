"""A cancel, and a worker that comes too late, where the log may have lost events."""

from uuid import uuid4

import pytest
import redis

from streams.chat import finish, publisher
from streams.delivery.replay import read_page
from streams.log.channels import channel_of
from streams.log.errors import Superseded
from streams.log.event_log import log_of, the_log
from streams.log.values import OnUnverified, Watermark
from streams.models import Conversation, Run
from streams.protocol.parts import text_parts
from tests.integration.support.killed_processes import append_deltas, killed_at, queued_run, started
from tests.integration.support.lost_logs import abandon, fails_over, piece, replay_faults
from workers import log_writer
from workers.lease import claim
from workers.log_writer import append_all

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


def test_a_cancel_does_not_store_a_delta_that_came_too_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = started(queued_run())
    append_deltas(run, "So ")
    with killed_at(monkeypatch, finish, "store"):
        finish.cancel(run.id)
    assert isinstance(append_deltas(run, "late ", index=1)[0], Superseded)
    # The worker sees that it was asked to stop.
    finish.finish_cancelled(run, text_parts("So late "))
    run.refresh_from_db()
    assert run.reply
    assert run.reply.content == "So "


@pytest.mark.parametrize("times", [1, 2])
def test_a_cancel_after_redis_was_emptied_stores_the_workers_text(
    valkey: "redis.Redis", times: int
) -> None:
    run = started(queued_run())
    append_deltas(run, "So ")
    valkey.flushall()
    for _ in range(times):
        finish.cancel(run.id)  # which is left to the worker
    finish.finish_cancelled(
        Run.objects.select_related("conversation", "message").get(pk=run.pk), text_parts("So ")
    )
    run.refresh_from_db()
    assert run.reply
    assert run.reply.content == "So "


def test_a_cancel_between_claim_and_start_is_published_in_order() -> None:
    run = started(queued_run())
    append_deltas(run, "half")
    abandon(run)
    finish.cancel(run.id)
    assert replay_faults(read_page(run.conversation_id, 0)) == []


def test_a_cancel_before_the_second_start_in_a_lost_log_is_published_in_order(
    valkey: "redis.Redis",
) -> None:
    run = started(queued_run())
    append_deltas(run, "So ")
    valkey.flushall()
    log_of(run.conversation_id).restore_fence(run.id, 1, index=0, parts=text_parts("So "))
    begins = read_page(run.conversation_id, None)
    abandon(run)
    Run.objects.filter(pk=run.pk).update(lease_until=None)
    finish.cancel(run.id)
    assert replay_faults(begins, read_page(run.conversation_id, begins.cursor)) == []


def test_a_worker_that_starts_late_does_not_replace_the_newer_fence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = queued_run()
    first = claim(run.id, uuid4())
    assert first
    first.conversation.refresh_from_db()
    note, later = publisher._record_start, []

    def stand_still(starting: Run, id: int) -> None:
        monkeypatch.setattr(publisher, "_record_start", note)
        second = abandon(run)
        second.conversation.refresh_from_db()
        publisher.publish_start(second)
        append_deltas(second, "whole ")
        later.append(second)
        note(starting, id)

    monkeypatch.setattr(publisher, "_record_start", stand_still)
    with pytest.raises(Superseded):
        publisher.publish_start(first)
    assert isinstance(append_deltas(later[0], "reply", index=1)[0], int)


@pytest.mark.parametrize("refuses", ["maxmemory", "replica"])
def test_a_writer_whose_log_stays_unverified_pauses(
    valkey: "redis.Redis", monkeypatch: pytest.MonkeyPatch, refuses: str
) -> None:
    run = started(queued_run())
    fails_over(valkey, run)()
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 4:
            valkey.config_set("maxmemory", 0)
            valkey.replicaof("NO", "ONE")

    monkeypatch.setattr(log_writer, "sleep", pause)
    if refuses == "maxmemory":
        valkey.config_set("maxmemory", 1)
    else:
        valkey.config_set("replica-serve-stale-data", "yes")
        valkey.replicaof("127.0.0.1", 1)
    try:
        assert isinstance(append_all([piece(run, 0, "So ")])[0], int)
    finally:
        valkey.config_set("maxmemory", 0)
        valkey.replicaof("NO", "ONE")
    assert [seconds > 0 for seconds in pauses[1:4]] == [True] * 3


def test_a_superseded_worker_restores_no_fence_in_a_lost_log(
    valkey: "redis.Redis",
) -> None:
    run = queued_run()
    late = claim(run.id, uuid4())  # and stands still before it says so
    assert late
    second = abandon(run)
    second.conversation.refresh_from_db()
    publisher.publish_start(second)
    append_deltas(second, "whole")
    finish.complete(second, text_parts("whole"), finish_reason="stop", usage=None)
    valkey.flushall()
    late.conversation.refresh_from_db()
    with pytest.raises(Superseded):
        publisher.publish_start(late)
    assert log_of(run.conversation_id).state().runs == {}


def test_a_deleted_conversation_begins_no_epoch_after_redis_was_emptied(
    valkey: "redis.Redis",
) -> None:
    run = started(queued_run())
    (known,) = append_deltas(run, "So ")
    assert isinstance(known, int)
    gone = run.conversation_id
    Conversation.objects.all().delete()
    valkey.flushall()
    publisher.append([piece(run, 1, "on ", known=known)])
    publisher.verify([Watermark(channel=channel_of(gone), run=run.id, attempt=1, head=known)])
    assert valkey.keys("{*") == []


def test_a_fence_older_than_the_logs_settles_nothing(valkey: "redis.Redis") -> None:
    run = started(queued_run())
    channel = channel_of(run.conversation_id)
    append_deltas(run, "So ")
    fails_over(valkey, run)()
    before = valkey.hgetall(f"{{{channel}}}:state")
    with pytest.raises(Superseded):
        the_log().channel(channel).seal(run.id, 0, on_unverified=OnUnverified.NEW_EPOCH)
    assert valkey.hgetall(f"{{{channel}}}:state") == before
