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
    """The pool of this Redis server; None: the pool of the database."""
    return ThreadPoolExecutor(THREADS, "follow")


async def in_thread(ask: Callable[[], T], *, of: str | None = None) -> T:
    """The result of `ask`, run in a thread; run twice if the database may have restarted.

    With `of`, a channel, it runs in the pool of that channel's Redis server. So a server that does
    not answer delays only the streams of its own channels. Raises what `ask` raises.
    """

    def call() -> T:
        try:
            return ask()
        except (OperationalError, InterfaceError):
            connection.close()
            return ask()
        finally:
            close_old_connections()  # a pooled one returns to its pool; SQLite's stays open

    pool = threads(None if of is None else server_of(of))
    return await asyncio.get_running_loop().run_in_executor(pool, call)
