"""The listening socket of the web process."""

import socket
import sys

from django.conf import settings

BACKLOG = 2048  # connections waiting to be accepted, when all readers reconnect at once
SEND_BUFFER = 128 * 1024  # bytes that the kernel buffers for a peer that does not read


def listener(host: str, port: int) -> socket.socket:
    """Return a bound socket. Each accepted connection inherits its options. Raises `OSError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # A successor listens before its predecessor ends, and several processes share the port.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    # By default the kernel grows this buffer to megabytes for each reader that does not read.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    if sys.platform == "linux":
        # With this option the kernel drops a peer that is dead or never reads. Otherwise asyncio
        # would wait for ever for its own buffer to drain, before it closes the connection.
        milliseconds = int(settings.CONNECTION_TIMEOUT * 1000)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
    sock.bind((host, port))
    return sock
