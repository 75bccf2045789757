"""A client that leaves stops its response; an unfinished stream breaks its connection."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from streams.http.event_stream import CONNECTION
from streams.http.request import Receive, Scope


class StreamBroken(Exception):
    """A stream must end before it is complete. Break its connection, so that the client notices."""


async def break_connection(scope: Scope) -> None:
    """Break the connection without an end of the body, which would mark the body as complete.

    A server without the extension breaks it as well, because this response stays incomplete.
    """
    server = scope.get("extensions", {}).get(CONNECTION)
    if server:
        server["abort"]()
        await asyncio.sleep(0)  # the server notices the abort first, so it logs nothing


async def run_while_connected(work: Coroutine[Any, Any, None], receive: Receive) -> None:
    """Run `work` in this task, and cancel it if the client disconnects. Raises its exceptions."""
    task = asyncio.current_task()
    assert task
    has_left = False

    async def watch() -> None:
        nonlocal has_left
        while (await receive())["type"] != "http.disconnect":
            pass  # a piece of the body that the request has not read
        has_left = True
        task.cancel()

    watching = asyncio.create_task(watch())
    try:
        await work
    except asyncio.CancelledError:
        # If `uncancel` leaves another cancellation, another task has cancelled this one, too.
        if not has_left or task.uncancel():
            raise
    finally:
        watching.cancel()
