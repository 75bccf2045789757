"""How full each Redis server is, so that new runs are refused before every append fails.

With `noeviction` a full Redis refuses all writes, also those of replies that are under way. The
rest of its memory is kept for these.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from threading import Lock
from time import monotonic
from typing import Any

from django.conf import settings
from prometheus_client import CollectorRegistry, Gauge

from streams.log.channels import channel_of
from streams.log.errors import LogFull, LogUnavailable
from streams.log.event_log import the_log
from streams.log.sharding import server_of, server_urls
from streams.models import Conversation

FRESH = 3.0  # seconds that an answer counts: a process asks a server no more often


class RedisFull(Exception):
    """The server's memory is used up to REDIS_MEMORY_LIMIT: no run may begin on it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """A server's memory, in bytes. `limit` is its `maxmemory`, 0 where it has none."""

    used: int
    limit: int
    fragmentation: float  # of what the operating system gave to what is used

    @property
    def full(self) -> bool:
        return bool(0 < settings.REDIS_MEMORY_LIMIT * self.limit < self.used)


class MemoryWatch:
    """The memory of one server as this process knows it."""

    def __init__(self, server: int) -> None:
        self._server = server
        self._known: Memory | None = None
        self._until = 0.0
        self._asking = Lock()

    @property
    def known(self) -> Memory | None:
        """The latest answer, if it is fresh."""
        return self._known if self._fresh() else None

    def _fresh(self) -> bool:
        return monotonic() < self._until

    def ask(self) -> Memory | None:
        """The latest answer; a new one where it is not fresh. None while the server is away.

        One caller asks; the others do not wait for it, and get the answer before.
        """
        if not self._fresh() and self._asking.acquire(blocking=False):
            try:
                self._known = _memory(self._server)
                self._until = monotonic() + FRESH
            finally:
                self._asking.release()
        return self._known


def _memory(server: int) -> Memory | None:
    try:
        return memory_in(the_log().ask_server(server, "INFO", "memory"))
    except LogUnavailable:
        return None


def memory_in(told: Mapping[str, Any]) -> Memory:
    """What a server's INFO says of its memory."""
    return Memory(
        # What Redis itself compares with maxmemory.
        used=int(told["used_memory"]) - int(told.get("mem_not_counted_for_evict", 0)),
        limit=int(told.get("maxmemory", 0)),
        fragmentation=float(told.get("mem_fragmentation_ratio", 0)),
    )


@cache
def memory_of(server: int) -> MemoryWatch:
    """This process's watch of the server."""
    return MemoryWatch(server)


def head_for_a_run(conversation: Conversation) -> int | None:
    """The log's last id before a new run; None while Redis is away. Raises `RedisFull`.

    Redis is asked for its memory only after it has answered, so that no caller waits for it twice.
    """
    channel = channel_of(conversation.id)
    watch = memory_of(server_of(channel))
    if watch.known and watch.known.full:
        raise RedisFull  # a look would add the state of a new log
    try:
        head = the_log().state(channel, min_head=conversation.head).head
    except LogFull:
        raise RedisFull from None
    except LogUnavailable:
        return None
    memory = watch.ask()
    if memory and memory.full:
        raise RedisFull
    return head


def tell_memory(registry: CollectorRegistry) -> None:
    """Add each server's memory to what Prometheus is told; nothing of one that is away."""
    used = Gauge("unspool_redis_memory_bytes", "Memory in use", ["server"], registry=registry)
    limit = Gauge(
        "unspool_redis_memory_limit_bytes", "Its maxmemory; 0: none", ["server"], registry=registry
    )
    fragmentation = Gauge(
        "unspool_redis_memory_fragmentation_ratio",
        "Memory of its process to memory in use",
        ["server"],
        registry=registry,
    )
    for server in range(len(server_urls())):
        if memory := memory_of(server).ask():
            used.labels(server).set(memory.used)
            limit.labels(server).set(memory.limit)
            fragmentation.labels(server).set(memory.fragmentation)
