"""Which Redis server a channel is on, where REDIS_URL names several.

All of a channel's keys, its script and its subscription are on one server, by the channel's name
alone: each server is drawn a number for it, and the highest has it (rendezvous hashing, Thaler and
Ravishankar 1998). So one that is added at the end takes its share, and all else stays.
"""

from hashlib import blake2b

from django.conf import settings


def server_urls() -> list[str]:
    """The servers, in the order in which they are named."""
    named: list[str] = settings.REDIS_URL.split(",")
    return named


def broker_server() -> int | None:
    """The server that brings the rings, too; None where CELERY_BROKER_URL names another."""
    return 0 if settings.REDIS_IS_BROKER else None


def server_of(channel: str) -> int:
    """The channel's server: its place in `urls()`."""

    def number(server: int) -> bytes:
        return blake2b(f"{server} {channel}".encode(), digest_size=8).digest()

    return max(range(len(server_urls())), key=number)
