"""The ASGI application: Django with separate thread pools for streams, reads, writes and probes."""

import os
import re

import django
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from config.lock_wait import bound_lock_waits  # noqa: E402
from config.request import Receive, Scope, Send  # noqa: E402
from config.threaded_handler import ThreadedHandler  # noqa: E402  # models exist after setup
from streams.chat.sweep import Sweeper  # noqa: E402
from streams.delivery.open_streams import open_streams  # noqa: E402

LIVE, READY = "/health/live", "/health/ready"
SAFE = ("GET", "HEAD", "OPTIONS")
STREAM = re.compile(r"^/api/(conversations/[^/]+/events|streams/next(/[^/]+)?)/?$")
WAITING = 512  # requests that may wait for a thread of the write pool
READING = 8  # database connections of the pool that writes never hold


async def lifespan(receive: Receive, send: Send) -> None:
    """Answer the server's lifespan events. The sweeper starts before the first of them."""
    # Create it now. Otherwise two threads could each create one, and only one would be drained.
    open_streams()
    Sweeper().start()  # in each web process, so that the sweep depends on no single process
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def writing_threads(most: int = 64) -> int:
    """Return the number of write threads: the connection pool keeps `READING` for the others."""
    pool = settings.DATABASES["default"].get("OPTIONS", {}).get("pool")
    return max(1, min(most, pool["max_size"] - READING)) if pool else most


# To open a stream waits for the database alone, so more threads would only take turns. Each other
# request may wait for a Redis that does not answer. A request that writes may also wait for a
# database lock, so writes have a pool of their own.
bound_lock_waits()
streams = ThreadedHandler("stream", threads=4)
plain = ThreadedHandler("request", threads=64)
writes = ThreadedHandler("write", threads=writing_threads(), waiting=WAITING)
# The liveness probe waits for nothing, because a supervisor restarts a process that is silent.
alive = ThreadedHandler("alive", threads=1)
ready = ThreadedHandler("ready", threads=2)  # the readiness probe waits for a bounded time


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """ASGI 3: HTTP and lifespan."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "http":
        await lane_of(scope["method"], scope["path"])(scope, receive, send)


def lane_of(method: str, path: str) -> ThreadedHandler:
    """Return the handler whose threads answer this request."""
    if path in (LIVE, READY):
        return alive if path == LIVE else ready
    if method not in SAFE:
        return writes
    return streams if STREAM.match(path) else plain
