"""What the database and Redis can do at this moment, asked so that no caller waits for long.

Each part has a thread that asks it, one question at a time. All callers share the answer. A part
that does not answer in time is away, however long its thread then waits.
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
from streams.models import Conversation, IdempotencyRecord

PATIENCE = 1.5  # seconds that a caller waits for an answer
LOCKED = 1000  # milliseconds that the database's question waits for a lock
WRITTEN = 256 * 1024  # characters that the database must take: more than most requests write


T = TypeVar("T")


class Probe(Generic[T]):
    """One question to one part. `away` is the answer of a part that gives none in time."""

    def __init__(self, ask: Callable[[], T], away: T) -> None:
        self._ask = ask
        self._away = away
        self._thread = ThreadPoolExecutor(1, "probe")
        self._lock = Lock()
        self._asked: Future[T] | None = None
        self._until = 0.0

    def ask(self) -> Callable[[], T]:
        """Begin to ask, or join a question that is under way. The result waits for its answer."""
        with self._lock:
            if self._asked is None or self._asked.done():
                self._asked = self._thread.submit(self._ask)
                self._until = monotonic() + PATIENCE
            asked, until = self._asked, self._until

        def answer() -> T:
            try:
                return asked.result(max(0.0, until - monotonic()))
            except TimeoutError:
                return self._away

        return answer


def database() -> str:
    """`ok`; `read-only` where it cannot be written: locked, full, or a standby; or `away`."""
    try:
        return "ok" if _writes() else "read-only" if _reads() else "away"
    finally:
        connection.close()


class RedisQuestion:
    """`{"redis": "ok"}` where every server answers and refuses nothing that is needed."""

    def __init__(self) -> None:
        self._servers = [Permissions(server) for server in range(len(server_urls()))]

    def __call__(self) -> dict[str, object]:
        try:
            refused = chain.from_iterable(server.refused() for server in self._servers)
            named = list(dict.fromkeys(refused))
        except LogUnavailable:
            return {"redis": "away"}
        return {"redis": "refused", "refused": named} if named else {"redis": "ok"}


def _writes() -> bool:
    """Whether it takes a row, which is rolled back."""
    try:
        with connection.cursor() as cursor:
            if connection.vendor == "sqlite":
                cursor.execute(f"PRAGMA busy_timeout = {LOCKED}")
                # So few pages in memory that the row goes to the disk, and finds it full.
                cursor.execute("PRAGMA cache_size = 8")
        with transaction.atomic():
            if connection.vendor == "postgresql":
                with connection.cursor() as cursor:
                    cursor.execute(f"SET LOCAL lock_timeout = {LOCKED}")
                    cursor.execute(f"SET LOCAL statement_timeout = {LOCKED}")
            IdempotencyRecord.objects.create(
                owner="", route="probe", key=str(uuid4()), digest="", status=0, body="x" * WRITTEN
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
    """This process's: of the database and of Redis."""
    return Probe(database, "away"), Probe(RedisQuestion(), {"redis": "away"})
