"""Places are given in turn: an owner's runs leave room for others', and none waits for ever."""

from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from uuid import UUID, uuid4

import pytest
import redis
from django.db import connection

from streams.chat import ask as ask_module
from streams.chat import finish, sweep
from streams.chat.fair_share import room
from streams.chat.model_names import Kind
from streams.models import Run
from streams.protocol.parts import text_parts
from tests.integration.support.broker import QUEUE, let_dispatch_expire, queued
from workers import lease
from workers.lease import claim, claim_in_turn, release

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]
PLACES = 8
WORKER = uuid4()


def patient(settings: Any) -> None:
    """Eight places, and leases that need no renewal."""
    settings.WORKER_CONCURRENCY, settings.RUN_LEASE = PLACES, 3600.0


@pytest.fixture(autouse=True)
def _patient(settings: Any) -> None:
    patient(settings)


def ask(owner: str, count: int) -> list[UUID]:
    return [ask_module.begin(owner=owner, text="Why?").run for _ in range(count)]


def claimed(runs: list[UUID], worker: UUID = WORKER) -> list[Run]:
    return [run for run in (claim(run, worker) for run in runs) if run]


def end(run: Run) -> None:
    finish.complete(run, text_parts("So."), finish_reason="stop", usage=None)


@pytest.mark.parametrize(
    ("load", "more"),
    [
        ((64, 0, 0, 1, 0), 48),
        ((64, 48, 48, 1, 0), 0),
        ((64, 48, 0, 2, 0), 12),
        ((64, 60, 0, 3, 0), 3),
        ((64, 63, 0, 4, 9), 1),
        ((64, 64, 0, 2, 0), 1),  # a worker that asks has a place
        ((64, 47, 47, 2, 1), 1),
        ((64, 47, 47, 2, 17), 0),  # the others want all that is free
        ((64, 31, 31, 2, 99), 1),
        ((64, 32, 32, 2, 99), 0),
        ((1, 0, 0, 1, 0), 1),
        ((2, 0, 0, 1, 0), 2),
        ((2, 1, 1, 2, 1), 0),
        ((4, 0, 0, 1, 0), 3),
    ],
)
def test_the_share_of_an_owner(load: tuple[int, ...], more: int) -> None:
    places, running, own, owners, others = load
    assert room(places=places, running=running, own=own, owners=owners, others=others) == more


def test_a_new_owner_gets_a_place_beside_one_with_many_runs(settings: Any) -> None:
    patient(settings)
    assert len(claimed(ask("user:1", 20))) == 6
    assert len(claimed(ask("user:2", 1))) == 1


def test_while_others_wait_an_owner_gets_an_equal_share() -> None:
    many, others = ask("user:1", 8), ask("user:2", 8)
    assert len(claimed(many)) == 4
    assert len(claimed(others)) == 3  # one place stays free for a third owner
    assert len(claimed(ask("user:3", 1))) == 1


def test_a_place_freed_by_a_large_owner_goes_to_an_owner_without_one() -> None:
    first = claimed(ask("user:1", 20))
    second = claimed(ask("user:2", 20))
    assert (len(first), len(second)) == (6, 2)
    refused = Run.objects.filter(owner="user:1", status="queued").first()
    assert refused
    for owner in ("user:3", "user:4", "user:5"):
        waiting = ask(owner, 1)
        end(first.pop())
        assert claim(refused.id, WORKER) is None
        assert claimed(waiting)


def test_each_worker_process_adds_its_places() -> None:
    other = uuid4()
    assert claimed(ask("user:2", 1), other)
    assert len(claimed(ask("user:1", 20))) == 12  # of 16: the last found 11 < 3 * 4


def test_concurrent_claims_keep_to_the_share() -> None:
    runs = ask("user:1", 20)
    together = Barrier(len(runs), timeout=30)

    def one(run: UUID) -> bool:
        together.wait()
        try:
            return claim(run, WORKER) is not None
        finally:
            connection.close()

    with ThreadPoolExecutor(len(runs)) as threads:
        assert Counter(threads.map(one, runs)) == {True: 6, False: 14}


def test_a_refused_run_is_dispatched_as_soon_as_one_of_its_owners_ends(
    valkey: redis.Redis, settings: Any
) -> None:
    patient(settings)
    runs = ask("user:1", 20)
    valkey.delete(QUEUE)  # a worker has taken all
    begun = claimed(runs)
    for _ in range(3):
        let_dispatch_expire()
        sweep.sweep()
    assert queued(valkey) == []  # no task of what would be refused again
    end(begun[0])
    assert queued(valkey) == runs[6:7]
    finish.cancel(begun[1].id)
    assert queued(valkey) == runs[6:8]
    assert len(claimed(runs[6:8])) == 2


def test_a_run_refused_while_the_owners_last_run_ends_is_claimed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs = ask("user:1", 7)
    begun = claimed(runs[:6])
    has_room = lease.has_room

    def ends_after(owner: str, worker: UUID, kind: Kind) -> bool:
        allowed = has_room(owner, worker, kind)
        if not allowed:
            monkeypatch.setattr(lease, "has_room", has_room)
            Run.objects.filter(pk=begun[0].pk).update(status="cancelled", worker=None)
        return allowed

    monkeypatch.setattr(lease, "has_room", ends_after)
    assert claim(runs[6], WORKER)


def test_a_refused_task_starts_a_run_of_an_owner_without_a_place() -> None:
    many = ask("user:1", 20)
    claimed(many)
    new = ask("user:2", 1)
    instead = claim_in_turn(WORKER)
    assert instead
    assert [instead.id] == new


def test_a_run_that_was_claimed_before_is_not_refused() -> None:
    runs = claimed(ask("user:1", 20))
    release(runs[0])
    others = ask("user:2", 8)
    assert claim(runs[0].id, WORKER)
    assert claimed(others)


def test_the_runs_of_large_owners_all_end(
    valkey: redis.Redis,
) -> None:
    """A worker of eight places: tasks, ended runs, and a sweep when nothing else is left."""
    for owner, count in (("user:1", 20), ("user:2", 12), ("user:3", 1)):
        ask(owner, count)
    running = deque[Run]()
    swept = 0
    while Run.active().exists():
        if len(running) < PLACES and (tasks := queued(valkey)):
            valkey.rpop(QUEUE)
            if run := claim(tasks[0], WORKER) or claim_in_turn(WORKER):
                running.append(run)
        elif running:
            end(running.popleft())
        else:
            let_dispatch_expire()
            sweep.sweep()
            swept += 1
        assert len(queued(valkey)) <= Run.objects.filter(status="queued").count() + PLACES
    assert swept <= 1
    assert Run.objects.filter(status="completed").count() == 33
