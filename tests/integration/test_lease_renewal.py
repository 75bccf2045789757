"""A worker renews its leases in time, however many of its threads claim runs."""

import threading
from contextlib import ExitStack
from datetime import timedelta
from time import monotonic
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from streams.chat.leases import held, new_lease
from streams.chat.model_names import Kind, names
from streams.log.values import Watermark
from streams.models import Conversation, Message, Run
from workers import claim_turn, lease
from workers.lease import claim
from workers.lease_keeper import LeaseKeeper

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]
RUNS, HELD, THREADS = 170, 20, 88


def waiting_runs(owner: str) -> list[Run]:
    model, *_ = names(Kind.MODEL)
    conversations = [Conversation(owner=owner, title="t", model=model) for _ in range(RUNS)]
    Conversation.objects.bulk_create(conversations)
    messages = [Message(conversation=c, role="user", content="?", turn=0) for c in conversations]
    Message.objects.bulk_create(messages)
    runs = [
        Run(conversation=message.conversation, owner=owner, message=message, model=model)
        for message in messages
    ]
    return Run.objects.bulk_create(runs)


def test_leases_are_renewed_while_all_threads_claim_runs(settings: Any) -> None:
    settings.WORKER_CONCURRENCY = 10 * RUNS
    keeper, runs = LeaseKeeper(), waiting_runs("user:1")
    mine = [run.pk for run in runs[:HELD]]
    running = {"status": Run.Status.RUNNING, "attempt": 1, "worker": keeper.worker, **new_lease()}
    Run.objects.filter(pk__in=mine).update(**running)
    keeper._held = dict.fromkeys(mine)  # type: ignore[misc]
    waiting, seconds = iter(runs[HELD:]), list[float]()

    def claim_all() -> None:
        for run in waiting:
            claim(run.pk, keeper.worker)
        connection.close()

    claimants = [threading.Thread(target=claim_all) for _ in range(THREADS)]
    for thread in claimants:
        thread.start()
    for thread in claimants:
        while thread.is_alive():
            before = monotonic()
            keeper._renew()
            seconds.append(monotonic() - before)
            thread.join(0.02)
    assert max(seconds) < settings.RUN_LEASE / 4
    assert Run.objects.filter(held(), pk__in=mine).count() == HELD
    assert Run.objects.filter(status=Run.Status.RUNNING).count() == RUNS  # all were claimed


def test_threads_of_a_process_claim_in_turn_where_the_database_has_one_writer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    in_turn, has_room = list[bool](), lease.has_room

    def look(*asked: Any) -> bool:
        in_turn.append(claim_turn.turn.locked())
        return has_room(*asked)

    monkeypatch.setattr(lease, "has_room", look)
    assert claim(waiting_runs("user:1")[0].pk, uuid4())
    assert in_turn == [connection.vendor == "sqlite"]


def test_the_first_tokens_of_many_runs_are_stored_once_in_one_statement() -> None:
    keeper, runs = LeaseKeeper(), waiting_runs("user:1")[:3]
    running = {"status": Run.Status.RUNNING, "attempt": 1, "worker": keeper.worker}
    Run.objects.filter(pk__in=[run.pk for run in runs]).update(
        **running, started_at=Now(), **new_lease()
    )
    with ExitStack() as holds:
        for seconds, run in enumerate(Run.objects.filter(worker=keeper.worker).order_by("pk")):
            held_run = holds.enter_context(keeper.hold(run, pytest.fail, watermark))
            held_run.first_token = timedelta(seconds=seconds) if seconds else None
        for writes in (1, 0):
            with CaptureQueriesContext(connection) as queries:
                keeper._check()
            assert sum(q["sql"].startswith("UPDATE") for q in queries) == writes
    found = Run.objects.filter(worker=keeper.worker).order_by("pk")
    after = [run.first_token_at and run.first_token_at - run.started_at for run in found]
    assert after == [None, timedelta(seconds=1), timedelta(seconds=2)]


def watermark() -> Watermark:
    raise AssertionError("no watermark is needed")
