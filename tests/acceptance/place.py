"""Where the processes of a test live: their ports, and the environment that they get."""

from __future__ import annotations

import os
import random
import socket
import sys
from itertools import cycle
from pathlib import Path

HOST = "127.0.0.1"
# Below those that the kernel gives to whoever asks for any, and none twice: what is free now is to
# be free when a process comes to listen there, seconds later.
PORTS = range(20_000, 32_000)
_ports = cycle(random.SystemRandom().sample(PORTS, len(PORTS)))


def free_port() -> int:
    return next(filter(free, _ports))


def free(port: int) -> bool:
    with socket.socket() as wire:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            wire.bind((HOST, port))
        except OSError:
            return False
    return True


def essentials() -> dict[str, str]:
    """What any child needs, and nothing of the tests' own environment."""
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "TZ") if name in os.environ}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**kept, "PATH": path, "PYTHONUNBUFFERED": "1"}


def listens(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True
