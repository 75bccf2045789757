"""Checks of the database and of Redis that never delay a caller for long.

Each check has one thread, which runs one check at a time. All callers share its result. If the
result does not come in time, the part counts as away, and the thread may go on waiting.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from itertools import chain
from threading import Lock
from time import monotonic
from typing import Generic, TypeVar
from uuid import uuid4

from django.db import DatabaseError, InterfaceError, connection, transaction

from streams.log.errors import LogUnavailable
from streams.log.redis_permissions import Permissions
from streams.log.sharding import server_urls
from streams.models import Conversation
from streams.service_models import IdempotencyRecord

PATIENCE = 1.5  # seconds that a caller waits for a result
LOCK_TIMEOUT = 1000  # milliseconds that the database check waits for a lock
WRITTEN = 256 * 1024  # characters that the database check writes: more than most requests


T = TypeVar("T")


class Probe(Generic[T]):
    """One check of one part. `away` is the result if the part does not answer in time."""

    def __init__(self, ask: Callable[[], T], away: T) -> None:
        self._ask = ask
        self._away = away
        self._thread = ThreadPoolExecutor(1, "probe")
        self._lock = Lock()
        self._future: Future[T] | None = None
        self._until = 0.0

    def ask(self) -> Callable[[], T]:
        """Start the check, or join a running one. The returned function waits for the result."""
        with self._lock:
            if self._future is None or self._future.done():
                self._future = self._thread.submit(self._ask)
                self._until = monotonic() + PATIENCE
            future, until = self._future, self._until

        def answer() -> T:
            try:
                return future.result(max(0.0, until - monotonic()))
            except TimeoutError:
                return self._away

        return answer


def database() -> str:
    """`ok`; `read-only` if it cannot be written (locked, full, or a standby); or `away`."""
    try:
        return "ok" if _writes() else "read-only" if _reads() else "away"
    finally:
        connection.close()


class RedisCheck:
    """`{"redis": "ok"}` if every server answers and permits all commands that are needed."""

    def __init__(self) -> None:
        self._servers = [Permissions(server) for server in range(len(server_urls()))]

    def __call__(self) -> dict[str, object]:
        try:
            refused = chain.from_iterable(server.refused() for server in self._servers)
            names = list(dict.fromkeys(refused))
        except LogUnavailable:
            return {"redis": "away"}
        return {"redis": "refused", "refused": names} if names else {"redis": "ok"}


def _writes() -> bool:
    """Whether the database accepts a row, which is rolled back."""
    try:
        with connection.cursor() as cursor:
            if connection.vendor == "sqlite":
                cursor.execute(f"PRAGMA busy_timeout = {LOCK_TIMEOUT}")
                # A tiny page cache makes SQLite write the row to disk, which fails on a full disk.
                cursor.execute("PRAGMA cache_size = 8")
        with transaction.atomic():
            if connection.vendor == "postgresql":
                with connection.cursor() as cursor:
                    cursor.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT}")
                    cursor.execute(f"SET LOCAL statement_timeout = {LOCK_TIMEOUT}")
            IdempotencyRecord.objects.create(
                owner="", route="probe", key=str(uuid4()), digest="", body="x" * WRITTEN
            )
            transaction.set_rollback(True)
        return True
    except (DatabaseError, InterfaceError):
        return False


def _reads() -> bool:
    try:
        Conversation.objects.exists()
        return True
    except (DatabaseError, InterfaceError):
        return False


@cache
def probes() -> tuple[Probe[str], Probe[dict[str, object]]]:
    """The probes of this process: of the database and of Redis."""
    return Probe(database, "away"), Probe(RedisCheck(), {"redis": "away"})
