"""The ports of a test's processes, and the environment that they get."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from itertools import cycle
from pathlib import Path

import httpx

HOST = "127.0.0.1"
# Below the kernel's ephemeral ports. A port that is free now must still be free when a process
# listens on it seconds later. So each test process has its own share of the ports.
PORTS = range(20_000, 32_000)
SHARE = 500  # ports of one test process


def free_port() -> int:
    return next(filter(free, _ports()))


@cache
def _ports() -> Iterator[int]:
    first = _claimed()
    return cycle(random.SystemRandom().sample(range(first, first + SHARE), SHARE))


def _claimed() -> int:
    """The first port of a share that no other test process of this machine has."""
    folder = Path(tempfile.gettempdir()) / f"unspool-ports-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    for first in random.SystemRandom().sample(PORTS[::SHARE], len(PORTS[::SHARE])):
        claim = os.open(folder / str(first), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(claim)
        else:
            return first  # the lock lasts as long as this process
    raise RuntimeError(f"{len(PORTS[::SHARE])} test processes use all ports already")


def free(port: int) -> bool:
    with socket.socket() as wire:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            wire.bind((HOST, port))
        except OSError:
            return False
    return True


def essentials() -> dict[str, str]:
    """The environment that any child needs, without the rest of the tests' own environment.

    `.ci/run` uses UNSPOOL_CI to find the processes that a stopped part has left behind.
    """
    names = ("HOME", "LANG", "TZ", "UNSPOOL_CI")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**kept, "PATH": path, "PYTHONUNBUFFERED": "1"}


def listens(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def answers(url: str) -> bool:
    """Whether a GET of the URL gets status 200."""
    try:
        return httpx.get(url, timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
