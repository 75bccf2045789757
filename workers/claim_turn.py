"""One claim at a time in a worker process, where the database has a single writer."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from django.db import connection

turn = threading.Lock()


@contextmanager
def claim_turn() -> Iterator[None]:
    """Wait until no other thread of this process claims a run, if the database is SQLite.

    The threads share one interpreter. Where many claimed at once, each kept SQLite's one lock for
    writers for long, and the lease keeper renewed this process's leases too late.
    """
    with turn if connection.vendor == "sqlite" else nullcontext():
        yield
