"""Fixtures that clean up what the integration tests share."""

from collections.abc import Iterator
from threading import Barrier

import pytest
from asgiref.sync import SyncToAsync
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from streams.delivery.threads import THREADS, threads
from streams.web import health_checks
from streams.web.health_checks import probes


@pytest.fixture(autouse=True)
def _clear_probes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A probe that still waits for an earlier test's Redis would be shared with the next test.

    On a busy machine the answer of a part that is there takes longer than `PATIENCE`.
    """
    monkeypatch.setattr(health_checks, "PATIENCE", 30.0)
    probes.cache_clear()
    yield
    probes.cache_clear()


@pytest.fixture
def close_connections() -> Iterator[None]:
    """Close the connections that the test opens in any thread, for threads that end with it.

    A thread of a `ThreadedHandler` keeps its SQLite connection. From Python 3.13 on, a connection
    that is dropped unclosed is a ResourceWarning, in whichever test runs when its memory is freed.
    """
    opened: list[BaseDatabaseWrapper] = []

    def note(connection: BaseDatabaseWrapper, **_: object) -> None:
        opened.append(connection)

    connection_created.connect(note)
    yield
    connection_created.disconnect(note)
    for one in opened:
        one.inc_thread_sharing()  # otherwise only its own thread may close it
        one.close()
        one.dec_thread_sharing()


@pytest.fixture(scope="session", autouse=True)
def _close_thread_connections(django_db_setup: None) -> Iterator[None]:
    """Close the connection of each thread: PostgreSQL drops no database that is in use."""
    yield
    for pool in (threads(None), threads(0), threads(1)):
        barrier = Barrier(THREADS)

        def close(barrier: Barrier = barrier) -> None:
            barrier.wait(10)
            connection.close()

        for closing in [pool.submit(close) for _ in range(THREADS)]:
            closing.result(20)
    SyncToAsync.single_thread_executor.submit(lambda: connection.close()).result(10)  # its own
