"""A client that leaves stops its response; an unfinished stream breaks its connection."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from streams.http.event_stream import CONNECTION
from streams.http.request import Receive, Scope


class StreamBroken(Exception):
    """A stream must end before it is complete. Its connection breaks, so that the client knows."""


async def break_connection(scope: Scope) -> None:
    """Break the connection without the end of the body, which would say that it is complete.

    A server without the extension breaks it as well, because this response stays incomplete.
    """
    server = scope.get("extensions", {}).get(CONNECTION)
    if server:
        server["abort"]()
        await asyncio.sleep(0)  # the server learns of it first, and logs no incomplete response


async def run_while_connected(work: Coroutine[Any, Any, None], receive: Receive) -> None:
    """Run `work` in this task, and cancel it if the client disconnects. Raises what it raises."""
    task = asyncio.current_task()
    assert task
    has_left = False

    async def watch() -> None:
        nonlocal has_left
        while (await receive())["type"] != "http.disconnect":
            pass  # an unread body
        has_left = True
        task.cancel()

    watching = asyncio.create_task(watch())
    try:
        await work
    except asyncio.CancelledError:
        # With a request left over, another task has cancelled this one, too.
        if not has_left or task.uncancel():
            raise
    finally:
        watching.cancel()
