"""The few threads in which open streams read the log and the database."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

from django.db import InterfaceError, OperationalError, close_old_connections, connection

from streams.log.sharding import server_of

T = TypeVar("T")
THREADS = 4  # per pool: one pool for the database, one for each Redis server


@cache
def threads(server: int | None) -> ThreadPoolExecutor:
    """The pool for this Redis server; for None, the pool for the database."""
    return ThreadPoolExecutor(THREADS, "follow")


async def in_thread(ask: Callable[[], T], *, of: str | None = None) -> T:
    """Run `ask` in a thread and return its result. `ask` runs again if the database was away.

    If `of` names a channel, `ask` runs in the pool of that channel's Redis server. So a server that
    does not answer delays only the streams of its own channels. Raises any exception of `ask`.
    """

    def call() -> T:
        try:
            return ask()
        except (OperationalError, InterfaceError):
            connection.close()
            return ask()
        finally:
            close_old_connections()  # a pooled connection returns to its pool; SQLite's stays open

    pool = threads(None if of is None else server_of(of))
    return await asyncio.get_running_loop().run_in_executor(pool, call)
