"""Which Redis server a channel is on, where REDIS_URL names several.

All of a channel's keys, its script and its subscription are on one server, by the channel's name
alone: each server is drawn a number for it, and the highest has it (rendezvous hashing, Thaler and
Ravishankar 1998). So one that is added at the end takes its share, and all else stays.
"""

from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b
from typing import Protocol, TypeVar

from django.conf import settings


class OnChannel(Protocol):
    @property
    def channel(self) -> str: ...


Placed = TypeVar("Placed", bound=OnChannel)


def urls() -> list[str]:
    """The servers, in the order in which they are named."""
    named: list[str] = settings.REDIS_URL.split(",")
    return named


def rings_server() -> int | None:
    """The server that brings the rings, too; None where CELERY_BROKER_URL names another."""
    return 0 if settings.RINGS_BY_REDIS else None


def server_of(channel: str) -> int:
    """The channel's server: its place in `urls()`."""
    return _drawn(channel, len(urls()))


def apart(on: Iterable[Placed]) -> list[list[Placed]]:
    """These, those of each server by themselves."""
    found: dict[int, list[Placed]] = {}
    for one in on:
        found.setdefault(server_of(one.channel), []).append(one)
    return list(found.values())


@lru_cache(10_000)
def _drawn(channel: str, servers: int) -> int:
    def number(server: int) -> bytes:
        return blake2b(f"{server} {channel}".encode(), digest_size=8).digest()

    return max(range(servers), key=number)
