"""The web process: `python -m config.server` serves HTTP until SIGTERM or SIGINT.

Several processes may share one port. To replace one without a gap, start its successor first.
"""

import asyncio
import ctypes
import gc
import logging
import os
import select
import signal
import socket
import sys
import threading
from contextlib import suppress
from types import FrameType
from typing import NoReturn

import uvicorn
from django.conf import settings

from config import telemetry
from config.asgi import application  # it sets Django up: the imports below need its models
from config.connection import HttpConnection
from config.listener import BACKLOG, listener
from config.old_database import exit_on_old_tables
from config.socket_connection import SocketConnection
from streams.http.request_limits import max_frame_bytes
from streams.observability import metrics

logger = logging.getLogger(__name__)
EXIT = 4.7  # seconds from the signal to the exit
M_MMAP_THRESHOLD = -3  # of glibc's mallopt(3)
BLOCK = 128 * 1024  # bytes: glibc returns a freed block of this size or more to the kernel at once


class Web(uvicorn.Server):
    """uvicorn's server. After the signal it accepts no new connection, and exits within EXIT."""

    loop: asyncio.AbstractEventLoop  # set by `startup`
    exiting: asyncio.Event  # set by the signal

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.loop, self.exiting = asyncio.get_running_loop(), asyncio.Event()
        await super().startup(sockets)
        # Imported objects live as long as the process, so the garbage collector need not visit
        # them. Each visit would pause all followers for tens of milliseconds.
        gc.collect()
        gc.freeze()
        for sock in sockets or ():
            host, port = sock.getsockname()[:2]
            print(f"The web process listens on {host} port {port}", flush=True)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.started and not self.should_exit:
            timer = threading.Timer(EXIT, self.give_up)
            timer.daemon = True
            timer.start()
            self.loop.call_soon_threadsafe(self.stop_accepting)
        super().handle_exit(sig, frame)

    def stop_accepting(self, turns: int = BACKLOG) -> None:
        """Let new connections reach another process, or be refused. Runs in the event loop.

        The kernel resets the connections that wait in a closed listener. So the event loop accepts
        them first, one in each turn, for at most `turns` turns.
        """
        if turns and self.has_waiting_connections():
            self.loop.call_soon(self.stop_accepting, turns - 1)
        else:
            self.close_listeners()

    def has_waiting_connections(self) -> bool:
        listeners = select.poll()
        for server in self.servers:
            for sock in server.sockets:
                listeners.register(sock.fileno(), select.POLLIN)
        return bool(listeners.poll(0))

    def close_listeners(self) -> None:
        self.exiting.set()
        for server in self.servers:
            server.close()

    async def main_loop(self) -> None:
        """Tick once a second, which renews the `Date` header, and at the signal.

        uvicorn's own loop ticks ten times a second, which is a third of an idle process's cost.
        """
        while not self.exiting.is_set():
            await self.on_tick(0)
            with suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self.exiting.wait()

    def give_up(self) -> NoReturn:
        """Exit with unfinished requests. Runs in a thread, `EXIT` seconds after the signal."""
        print("The web process left requests behind that did not end in time", flush=True)
        os._exit(1)


def server_config() -> uvicorn.Config:
    return uvicorn.Config(
        application,
        loop="uvloop",
        http=HttpConnection,
        ws=SocketConnection if "websocket" in settings.DIALECTS else "none",
        ws_max_size=max_frame_bytes(),
        ws_ping_interval=settings.STREAM_HEARTBEAT,
        ws_ping_timeout=settings.STREAM_WRITE_TIMEOUT,
        ws_per_message_deflate=False,  # each event would be compressed for each reader
        lifespan="on",
        backlog=BACKLOG,
        access_log=False,
        server_header=False,
        # By default uvicorn trusts 127.0.0.1, so any program on this machine could set the headers.
        proxy_headers=bool(settings.TRUSTED_PROXIES),
        forwarded_allow_ips=settings.TRUSTED_PROXIES,
        log_config=None,  # Django's LOGGING configures the log
        log_level="warning",
        timeout_graceful_shutdown=max(1, round(settings.WEB_DRAIN)),  # whole seconds
    )


def return_memory() -> None:
    """Make glibc return the memory of a long body to the kernel when it is freed.

    By default glibc raises its M_MMAP_THRESHOLD to the longest body that it has seen, and keeps
    that much memory in each arena. Other C libraries always return it.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(M_MMAP_THRESHOLD, BLOCK)


def serve() -> None:
    """Serve on HOST and PORT until SIGTERM or SIGINT. Exits with a sentence if it cannot start."""
    exit_on_old_tables()
    try:
        sock = listener(settings.HOST, settings.PORT)
    except OSError as error:
        sys.exit(f"Cannot listen on {settings.HOST} port {settings.PORT}: {error.strerror}")
    if settings.HTTPS and not settings.TRUSTED_PROXIES:
        logger.warning(
            "HTTPS is on and TRUSTED_PROXIES names no proxy, so X-Forwarded-Proto is ignored. "
            "Behind a proxy each page redirects to itself."
        )
    return_memory()
    metrics.serve()
    telemetry.begin("web")
    # Makes threads that replay the log for many readers give way to the event loop after 1 ms.
    # Python's default is 5 ms.
    sys.setswitchinterval(0.001)
    web = Web(server_config())
    try:
        web.run([sock])
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    serve()
