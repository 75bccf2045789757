"""The bound on a request's wait for a database lock. A worker may wait longer for the same lock.

SQLite has one lock for all writers, PostgreSQL one for each row. Without the bound, one
transaction that keeps its lock would block every request thread.
"""

from contextvars import ContextVar
from typing import Any

from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

in_request = ContextVar("in_request", default=False)  # set in the threads that answer requests


def _bound(connection: BaseDatabaseWrapper, **_: Any) -> None:
    if not in_request.get():
        return
    milliseconds = round(settings.DATABASE_WAIT * 1000)
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(f"PRAGMA busy_timeout = {milliseconds}")
        else:
            cursor.execute(f"SET lock_timeout = {milliseconds}")


def bound_lock_waits() -> None:
    """Bound the lock waits of each connection that a request thread opens from now on."""
    connection_created.connect(_bound, dispatch_uid="lock_wait")
