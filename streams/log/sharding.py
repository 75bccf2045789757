"""Sharding: which Redis server holds a channel, if REDIS_URL names several servers.

One server holds all keys of a channel, runs its operations and publishes its events. Each server
gets a number from a hash of its position and the channel's name; the server with the highest number
holds the channel (rendezvous hashing, Thaler and Ravishankar 1998). A server that is added at the
end takes its share of the channels, and no other channel moves.
"""

from hashlib import blake2b

from django.conf import settings


def server_urls() -> list[str]:
    """The URLs of the servers, in the order of REDIS_URL."""
    urls: list[str] = settings.REDIS_URL.split(",")
    return urls


def broker_server() -> int | None:
    """The index of the server that also holds Celery's queue; None if the broker is elsewhere."""
    return 0 if settings.REDIS_IS_BROKER else None


def server_of(channel: str) -> int:
    """The index in `server_urls()` of the server that holds the channel."""

    def number(server: int) -> bytes:
        return blake2b(f"{server} {channel}".encode(), digest_size=8).digest()

    return max(range(len(server_urls())), key=number)
