"""What the web process answers with: Django, with a lane of its own for streams."""

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
STREAM = re.compile(r"^/api/(conversations/[^/]+/events|streams/next)/?$")
WAITING = 512  # requests that may wait for a thread of the lane of writes
READING = 8  # of a pool's connections are never held by writes


async def lifespan(receive: Receive, send: Send) -> None:
    open_streams()  # else two lanes' threads could each make its own, of which only one is drained
    Sweeper().start()  # of every process that lives: no single one must not die
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def writing_threads(most: int = 64) -> int:
    """As many as there may be beside those that read: a pool's connections are shared."""
    pool = settings.DATABASES["default"].get("OPTIONS", {}).get("pool")
    return max(1, min(most, pool["max_size"] - READING)) if pool else most


# An opening stream waits for nobody but the database: more threads would only take turns. Of
# requests, each may wait for a Redis that does not answer, and one that writes for a lock of the
# database as well: those have a lane of their own.
bound_lock_waits()
streams = ThreadedHandler("stream", threads=4)
plain = ThreadedHandler("request", threads=64)
writes = ThreadedHandler("write", threads=writing_threads(), waiting=WAITING)
alive = ThreadedHandler(
    "alive", threads=1
)  # waits for nobody: who restarts what is silent asks here
ready = ThreadedHandler("ready", threads=2)  # waits for a bounded time


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """ASGI 3: HTTP and lifespan."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "http":
        await lane_of(scope["method"], scope["path"])(scope, receive, send)


def lane_of(method: str, path: str) -> ThreadedHandler:
    if path in (LIVE, READY):
        return alive if path == LIVE else ready
    if method not in SAFE:
        return writes
    return streams if STREAM.match(path) else plain
