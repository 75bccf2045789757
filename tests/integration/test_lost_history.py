"""A Redis that loses events, and how the attempt and the recorded head detect it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
import redis
from django.db.models.functions import Now

from streams.chat import ask, finish, publisher, sweep
from streams.delivery.replay import Pending, ReplayPage, pending, read_page
from streams.log.channel_log import ChannelLog
from streams.log.channels import channel_of
from streams.log.errors import LogCorrupted, LogUnavailable, Superseded
from streams.log.event_log import log_of, the_log
from streams.log.values import Append, OnUnverified, Page, Watermark
from streams.models import Conversation, Run
from streams.protocol.events import TextDelta
from streams.protocol.parts import text_parts
from tests.integration.support.broker import QUEUE
from tests.integration.support.killed_processes import (
    append_deltas,
    killed_at,
    queued_run,
    started,
    sweep_by_another_process,
)
from tests.support.appends import text_append
from tests.support.replayer import Replayer
from tests.support.sse_blocks import Splitter
from workers import log_writer
from workers.lease import claim, release
from workers.log_writer import append_all

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


def piece(run: Run, index: int, text: str, *, known: int = 0) -> Append:
    event = TextDelta(run=run.id, attempt=run.attempt, index=index, text=text)
    return text_append(channel_of(run.conversation_id), event, min_head=known)


def fails_over(valkey: "redis.Redis", run: Run) -> Callable[[], None]:
    """Lets another server take over, which has what this one holds now, and nothing later."""
    names = valkey.keys(f"{{{channel_of(run.conversation_id)}}}*")
    kept = {name: valkey.dump(name) for name in names}

    def fail_over() -> None:
        valkey.flushall()
        for name, value in kept.items():
            valkey.restore(name, 0, value)
        valkey.hset(f"{{{channel_of(run.conversation_id)}}}:state", "server", uuid4().hex)

    return fail_over


def abandon(run: Run) -> Run:
    """Its worker is dead, and another takes the run."""
    Run.objects.filter(pk=run.pk).update(lease_until=Now() - timedelta(seconds=1))
    taken = claim(run.id, uuid4())
    assert taken
    return taken


def replay_faults(*pages: ReplayPage) -> list[str]:
    """The faults that a reader of these pages finds, and the runs that it takes as active."""
    replayer, faults = Replayer(), []
    for block in Splitter().feed(b"".join(page.joined for page in pages)):
        begins = block.event == "conversation.snapshot"
        faults += replayer.apply_snapshot(block.payload) if begins else replayer.apply(block)
    return faults + [f"{run} goes on" for run in replayer.runs if replayer.is_active(run)]


class TestOtherEvents:
    """An attempt knows its own last event; the row knows those of other processes."""

    def test_a_lost_message_is_detected_before_the_next_delta(self, valkey: "redis.Redis") -> None:
        run = started(queued_run())
        _lost_before_it_goes_on(
            valkey, run, lambda: ask.ask(run.conversation, "Or?", when_busy="queue")
        )

    def test_a_lost_final_event_is_detected_before_the_next_delta(
        self, valkey: "redis.Redis"
    ) -> None:
        run = started(queued_run())
        waiting = ask.ask(run.conversation, "And?", when_busy="queue")
        _lost_before_it_goes_on(valkey, run, lambda: finish.cancel(waiting.run))

    def test_verified_events_are_not_verified_again(self, valkey: "redis.Redis") -> None:
        run = started(queued_run())
        (known,) = append_deltas(run, "So ")
        assert isinstance(known, int)
        fails_over(valkey, run)()
        pieces = [piece(run, 1 + n, "on ", known=known) for n in range(4)]
        answers = append_all(pieces)
        assert answers == [known + 1 + n for n in range(4)]

    def test_events_never_get_the_ids_of_a_lost_tail(
        self, valkey: "redis.Redis", monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = started(queued_run())
        waiting = ask.ask(run.conversation, "And?", when_busy="queue")
        with killed_at(monkeypatch, ChannelLog, "append_final"):
            finish.cancel(waiting.run)
        (known,) = append_deltas(run, "So ")
        assert isinstance(known, int)
        fail_over = fails_over(valkey, run)
        append_deltas(run, "it ", index=1)
        fail_over()
        sweep_by_another_process()  # before the worker's next word
        page = log_of(run.conversation_id).read_after(known)
        assert isinstance(page, Page)
        assert page.entries == []

    def test_an_attempt_after_a_dead_worker_reuses_no_id(self, valkey: "redis.Redis") -> None:
        run = started(queued_run())
        fail_over = fails_over(valkey, run)
        (heard,) = append_deltas(run, "So ")
        assert isinstance(heard, int)
        fail_over()
        assert publisher.publish_start(abandon(run)) > heard

    def test_events_never_get_the_id_of_a_delta_appended_while_another_waited(
        self, valkey: "redis.Redis"
    ) -> None:
        run = started(queued_run())
        (first,) = append_deltas(run, "So ")
        assert isinstance(first, int)
        fail_over = fails_over(valkey, run)
        assert append_all([piece(run, 1, "it ", known=first)]) == [first + 1]
        fail_over()
        append_all([piece(run, 2, "is.", known=first)])  # it was in the queue before that
        ask.ask(run.conversation, "And?", when_busy="queue")
        page = log_of(run.conversation_id).read_after(first)
        assert isinstance(page, Page)
        assert page.entries == []

    def test_an_attempt_after_one_that_never_started_reuses_no_id(
        self, valkey: "redis.Redis"
    ) -> None:
        run = started(queued_run())
        fail_over = fails_over(valkey, run)
        (heard,) = append_deltas(run, "So ")
        assert isinstance(heard, int)
        release(abandon(run), redispatch=False)  # because Redis was down
        fail_over()
        third = claim(run.id, uuid4())
        assert third
        third.conversation.refresh_from_db()
        assert publisher.publish_start(third) > heard


def _lost_before_it_goes_on(valkey: "redis.Redis", run: Run, others: Callable[[], object]) -> None:
    (known,) = append_deltas(run, "So ")
    assert isinstance(known, int)
    fail_over = fails_over(valkey, run)
    others()
    heard = log_of(run.conversation_id).repair()
    assert heard > known
    fail_over()
    answers = append_all([piece(run, 1 + n, "on ", known=known) for n in range(4)])
    assert {type(answer).__name__ for answer in answers} == {"FenceMissing"}
    assert read_page(run.conversation_id, heard).reset == "lost"


class TestBetweenAppendAndRecord:
    """Redis is emptied, and a reader reads, between an append and its record in the row."""

    @pytest.fixture
    def lost(self, valkey: "redis.Redis", monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
        def lost_after(verb: str) -> list[ReplayPage]:
            looks: list[ReplayPage] = []
            real = getattr(ChannelLog, verb)

            def say_and_lose(log: ChannelLog, *args: Any, **kwargs: Any) -> Any:
                said = real(log, *args, **kwargs)
                monkeypatch.setattr(ChannelLog, verb, real)
                valkey.flushall()
                looks.append(read_page(Conversation.objects.get().id, None))
                return said

            monkeypatch.setattr(ChannelLog, verb, say_and_lose)
            return looks

        return lost_after

    def test_a_reader_of_the_snapshot_receives_the_message(
        self, lost: Callable[[str], Any]
    ) -> None:
        looks = lost("append_once")
        run = queued_run()
        tail = read_page(run.conversation_id, looks[0].cursor)
        assert replay_faults(looks[0], tail) == [f"{run.id} goes on"]

    def test_a_reader_of_the_snapshot_receives_the_start(self, lost: Callable[[str], Any]) -> None:
        run = queued_run()
        looks = lost("append_start")
        taken = claim(run.id, uuid4())
        assert taken
        taken.conversation.refresh_from_db()
        publisher.publish_start(taken)
        assert isinstance(append_deltas(taken, "So ")[0], int)
        tail = read_page(run.conversation_id, looks[0].cursor)
        assert replay_faults(looks[0], tail) == [f"{run.id} goes on"]

    def test_a_recorded_start_is_not_repeated_to_later_readers(
        self, valkey: "redis.Redis", monkeypatch: pytest.MonkeyPatch
    ) -> None:
        taken = claim(queued_run().id, uuid4())
        assert taken
        taken.conversation.refresh_from_db()
        start, looks = ChannelLog.append_start, []

        def start_and_fall_silent(log: ChannelLog, *args: Any, **kwargs: Any) -> int:
            if taken.started_event_id is None:
                taken.started_event_id = start(log, *args, **kwargs)
                return taken.started_event_id
            valkey.flushall()
            looks.append(read_page(taken.conversation_id, None))
            raise LogUnavailable

        monkeypatch.setattr(ChannelLog, "append_start", start_and_fall_silent)
        assert publisher.publish_start(taken) == taken.started_event_id
        tail = read_page(taken.conversation_id, looks[0].cursor)
        assert replay_faults(looks[0], tail) == [f"{taken.id} goes on"]

    def test_a_reader_of_the_snapshot_receives_the_final_event(
        self, lost: Callable[[str], Any]
    ) -> None:
        run = started(queued_run())
        append_deltas(run, "So.")
        looks = lost("append_final")
        run.conversation.refresh_from_db()
        finish.complete(run, text_parts("So."), finish_reason="stop", usage=None)
        tail = read_page(run.conversation_id, looks[0].cursor)
        assert tail.cursor
        assert pending(run.conversation_id, tail.cursor) is Pending.IDLE
        assert replay_faults(looks[0], tail) == []


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


class TestCorruptedLog:
    """What one channel's keys hold is not what was written there."""

    def test_a_corrupted_log_delays_no_other_reply(self, valkey: "redis.Redis") -> None:
        corrupted, well = started(queued_run()), started(queued_run())
        valkey.hdel(f"{{{channel_of(corrupted.conversation_id)}}}:state", f"{corrupted.id}:index")
        answers = publisher.append([piece(corrupted, 0, "a"), piece(well, 0, "b")])
        assert isinstance(answers[0], LogCorrupted)
        assert isinstance(answers[1], int)

    def test_a_corrupted_log_delays_no_other_dispatch(
        self, valkey: "redis.Redis", monkeypatch: pytest.MonkeyPatch
    ) -> None:
        corrupted, waiting = queued_run(), queued_run()
        valkey.set(f"{{{channel_of(corrupted.conversation_id)}}}:state", "x")
        Run.objects.filter(pk=corrupted.pk).update(queued_event_id=None)
        valkey.delete(QUEUE)  # their tasks are lost
        Run.objects.update(dispatched_at=None)
        dispatched: list[Any] = []
        monkeypatch.setattr(sweep, "dispatch", lambda run, _: dispatched.append(run))
        sweep_by_another_process()
        assert waiting.id in dispatched
