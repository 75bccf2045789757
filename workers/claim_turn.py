"""Lets only one thread of a worker process claim at a time, if the database has a single writer."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from django.db import connection

turn = threading.Lock()


@contextmanager
def claim_turn() -> Iterator[None]:
    """Wait until no other thread of this process claims a run, if the database is SQLite.

    The threads share one interpreter. When many threads claimed at once, each held SQLite's only
    write lock for long, and the lease keeper renewed the process's leases too late.
    """
    with turn if connection.vendor == "sqlite" else nullcontext():
        yield
