"""The web process: `python -m config.server` serves HTTP until it is told to end, and ends in time.

Several may share one port; each is replaced by starting its successor first.
"""

import asyncio
import ctypes
import gc
import logging
import os
import signal
import socket
import sys
import threading
from types import FrameType
from typing import NoReturn

import uvicorn
from django.conf import settings

from config import telemetry
from config.asgi import application  # sets Django up, without which the rest has no models
from config.bounds import BACKLOG
from config.connection import HttpConnection
from config.old_database import exit_on_old_tables
from streams.delivery.open_streams import open_streams
from streams.observability import metrics

logger = logging.getLogger(__name__)
EXIT = 4.7  # seconds from the signal: a supervisor such as honcho kills at 5
SEND_BUFFER = 128 * 1024  # bytes that the kernel keeps for one peer that does not read
M_MMAP_THRESHOLD = -3  # of glibc's mallopt(3)
BLOCK = 128 * 1024  # bytes from which memory goes back to the kernel as soon as it is freed


def listener(host: str, port: int) -> socket.socket:
    """A bound socket, whose options every accepted connection inherits."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # A successor listens before its predecessor ends, and several processes share the port.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    # Left alone the kernel grows it to megabytes, so a reader who does not read would cost those.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    if sys.platform == "linux":
        # A peer that is dead, or never reads, is dropped by the kernel: asyncio would wait for
        # its buffer to empty, for ever, before it closed.
        patience = int(settings.CONNECTION_TIMEOUT * 1000)  # milliseconds
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, patience)
    sock.bind((host, port))
    return sock


class Web(uvicorn.Server):
    """uvicorn, but open streams end at the signal: by itself it would wait for them for ever."""

    loop: asyncio.AbstractEventLoop  # known once it has started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        await super().startup(sockets)
        # What was imported lives as long as the process: collections need not walk it, and a
        # walk is a pause of tens of milliseconds for every follower.
        gc.collect()
        gc.freeze()
        for sock in sockets or ():
            host, port = sock.getsockname()[:2]
            print(f"The web process listens on {host} port {port}", flush=True)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.started and not self.should_exit:
            last = threading.Timer(EXIT, self.give_up)
            last.daemon = True
            last.start()
            self.loop.call_soon_threadsafe(self.leave)
        super().handle_exit(sig, frame)

    def leave(self) -> None:
        for server in self.servers:
            server.close()  # nobody new: connections go to another process or are refused
        open_streams().drain()  # each ends by itself; its reader comes back to another process

    def give_up(self) -> NoReturn:
        print("The web process left requests behind that did not end in time", flush=True)
        os._exit(1)


def server_config() -> uvicorn.Config:
    """How uvicorn serves the application."""
    return uvicorn.Config(
        application,
        loop="uvloop",
        http=HttpConnection,
        ws="none",
        lifespan="on",
        backlog=BACKLOG,
        access_log=False,
        server_header=False,
        # uvicorn would believe 127.0.0.1, from where any program of the machine can call.
        proxy_headers=bool(settings.TRUSTED_PROXIES),
        forwarded_allow_ips=settings.TRUSTED_PROXIES,
        log_config=None,  # Django's settings say what is logged, and where
        log_level="warning",
        timeout_graceful_shutdown=max(1, round(settings.WEB_DRAIN)),  # whole seconds
    )


def return_memory() -> None:
    """Let the memory of a long body go back to the kernel when it is freed.

    By itself glibc raises BLOCK to the longest body that it has seen, and keeps as much in each of
    its arenas. Other C libraries return it always.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(M_MMAP_THRESHOLD, BLOCK)


def serve() -> None:
    """Serve on HOST and PORT until SIGTERM or SIGINT."""
    exit_on_old_tables()
    try:
        sock = listener(settings.HOST, settings.PORT)
    except OSError as error:
        sys.exit(f"Cannot listen on {settings.HOST} port {settings.PORT}: {error.strerror}")
    if settings.HTTPS and not settings.TRUSTED_PROXIES:
        logger.warning(
            "HTTPS is on and TRUSTED_PROXIES names no proxy, so X-Forwarded-Proto is not believed: "
            "each page is a redirect to itself."
        )
    return_memory()
    metrics.serve()
    telemetry.begin("web")
    # Threads that read the log for a burst of readers give way to the live ones sooner than after
    # Python's 5 ms.
    sys.setswitchinterval(0.001)
    web = Web(server_config())
    try:
        web.run([sock])
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    serve()
