"""A lease holds no longer than its length, whatever happens to the clock."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db.models.functions import Now

from streams.chat import ask, finish
from streams.chat.leases import abandoned, held
from streams.chat.publisher import publish_start
from streams.chat.sweep import sweep
from streams.models import Run
from workers.lease import claim
from workers.lease_keeper import LeaseKeeper

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("valkey")]


def claimed() -> Run:
    taken = claim(ask.begin(owner="user:1", text="Why?").run, uuid4())
    assert taken
    publish_start(taken)
    return taken


@pytest.fixture
def run() -> Run:
    return claimed()


def set_back(seconds: float) -> None:
    """All that was written lies so much further in the future."""
    Run.objects.update(lease_until=Now() + timedelta(seconds=seconds))


def test_a_lease_is_held_until_it_ends(run: Run) -> None:
    assert Run.objects.filter(held()).get() == run
    assert not Run.objects.filter(abandoned()).exists()
    set_back(-1)
    assert not Run.objects.filter(held()).exists()
    assert Run.objects.filter(abandoned()).get() == run


def test_a_lease_that_ends_later_than_it_could_has_ended(settings: Any) -> None:
    run = claimed()
    set_back(settings.RUN_LEASE + 60)
    assert not Run.objects.filter(held()).exists()
    assert Run.objects.filter(abandoned()).get() == run
    again = claim(run.id, uuid4())
    assert again
    assert again.attempt == 2


def test_after_the_clock_was_set_back_a_cancel_does_not_wait_for_a_dead_workers_lease(
    run: Run, settings: Any
) -> None:
    Run.objects.update(cancel_asked=True)
    set_back(settings.RUN_LEASE + 60)
    sweep()
    run.refresh_from_db()
    assert run.status == Run.Status.CANCELLED


def test_a_lost_run_fails_after_the_clock_was_set_back(run: Run, settings: Any) -> None:
    Run.objects.update(attempt=settings.RUN_ATTEMPTS)
    set_back(settings.RUN_LEASE + 60)
    sweep()
    run.refresh_from_db()
    assert (run.status, run.code) == ("failed", "worker_lost")


def test_a_lease_lasts_its_own_length(run: Run, settings: Any) -> None:
    set_back(settings.RUN_LEASE)
    settings.RUN_LEASE = 1.0  # of the process that judges
    assert Run.objects.filter(held()).exists()
    settings.RUN_LEASE = 1000.0
    set_back(70)
    assert not Run.objects.filter(held()).exists()


def test_a_running_worker_regains_its_lease_at_the_next_renewal(run: Run, settings: Any) -> None:
    keeper = LeaseKeeper()
    Run.objects.update(worker=keeper.worker)
    run.refresh_from_db()
    set_back(settings.RUN_LEASE + 60)
    with keeper.hold(run, lambda: None, lambda: None):  # type: ignore[arg-type, return-value]
        keeper._renew()
    assert Run.objects.filter(held()).exists()


def test_a_title_and_a_message_are_published_after_the_clock_was_set_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(ask, "publish_pending", lambda *_, **__: None)
        made = ask.begin(owner="user:1", text="Why?")
    Run.objects.update(created_at=Now() + timedelta(seconds=60))
    sweep()
    assert Run.objects.get(pk=made.run).queued_event_id
    finish.cancel(made.run)
