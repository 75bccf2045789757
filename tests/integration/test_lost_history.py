"""A Redis that loses events, and how the attempt and the recorded head detect it."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
import redis

from streams.chat import ask, finish, publisher, sweep
from streams.delivery.replay import Pending, ReplayPage, pending, read_page
from streams.log.channel_log import ChannelLog
from streams.log.channels import channel_of
from streams.log.errors import LogCorrupted, LogUnavailable
from streams.log.event_log import log_of
from streams.log.values import Page
from streams.models import Conversation, Run
from streams.protocol.parts import text_parts
from tests.integration.support.broker import QUEUE
from tests.integration.support.killed_processes import (
    append_deltas,
    killed_at,
    queued_run,
    started,
    sweep_by_another_process,
)
from tests.integration.support.lost_logs import abandon, fails_over, piece, replay_faults
from workers.lease import claim, release
from workers.log_writer import append_all

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


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
