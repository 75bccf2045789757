"""What the integration ring leaves as it found it."""

from collections.abc import Iterator
from threading import Barrier

import pytest
from asgiref.sync import SyncToAsync
from django.db import connection

from streams.delivery.threads import THREADS, threads
from streams.web.health_checks import probes


@pytest.fixture(autouse=True)
def _clear_probes() -> Iterator[None]:
    """A question that still waits for an earlier test's Redis would be joined by the next test."""
    probes.cache_clear()
    yield
    probes.cache_clear()


@pytest.fixture(scope="session", autouse=True)
def _close_thread_connections(django_db_setup: None) -> Iterator[None]:
    """Threads keep a connection each, and PostgreSQL minds when its database is dropped."""
    yield
    for pool in (threads(None), threads(0), threads(1)):
        everybody = Barrier(THREADS)

        def close(everybody: Barrier = everybody) -> None:
            everybody.wait(10)
            connection.close()

        for closing in [pool.submit(close) for _ in range(THREADS)]:
            closing.result(20)
    SyncToAsync.single_thread_executor.submit(lambda: connection.close()).result(10)  # its own
