"""The few threads in which open streams ask the log and the database."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from django.db import InterfaceError, OperationalError, close_old_connections, connection

from streams.delivery.replay import T
from streams.log.sharding import server_of

THREADS = 4  # that ask for all streams, of the database or of one Redis server


@cache
def threads(server: int | None) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, "follow")


async def in_thread(ask: Callable[[], T], *, of: str | None = None) -> T:
    """Ask in a thread, once more where the database may have restarted.

    What asks the log `of` a channel has the threads of its server: where that does not answer,
    nobody waits but for it.
    """

    def asked() -> T:
        try:
            return ask()
        except (OperationalError, InterfaceError):
            connection.close()
            return ask()
        finally:
            close_old_connections()  # a pool's goes back to it; SQLite's stays with the thread

    pool = threads(None if of is None else server_of(of))
    return await asyncio.get_running_loop().run_in_executor(pool, asked)
