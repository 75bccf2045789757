"""Memory use of each Redis server: new runs are refused before Redis is full.

With `noeviction` a full Redis refuses all writes, also those of running replies. The memory above
REDIS_MEMORY_LIMIT is reserved for running replies.
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
from streams.log.event_log import log_of, the_log
from streams.log.sharding import server_of, server_urls
from streams.models import Conversation

FRESH = 3.0  # seconds for which an answer is cached, per process and server


class RedisFull(Exception):
    """The server's memory is used up to REDIS_MEMORY_LIMIT, so it takes no new run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """A server's memory in bytes. `limit` is its `maxmemory`, or 0 if it has none."""

    used: int
    limit: int
    fragmentation: float  # ratio of the process's memory to the memory in use

    @property
    def full(self) -> bool:
        """Whether more than the share REDIS_MEMORY_LIMIT of `maxmemory` is in use."""
        return bool(0 < settings.REDIS_MEMORY_LIMIT * self.limit < self.used)


class MemoryWatch:
    """Caches how much memory one Redis server uses; thread-safe."""

    def __init__(self, server: int) -> None:
        self._server = server
        self._latest: Memory | None = None
        self._fresh_until = 0.0
        self._lock = Lock()

    @property
    def fresh(self) -> Memory | None:
        """The cached answer, or None if it is older than FRESH."""
        return self._latest if self._is_fresh() else None

    def _is_fresh(self) -> bool:
        return monotonic() < self._fresh_until

    def ask(self) -> Memory | None:
        """Return the cached answer, or ask anew if it is too old. None while the server is away.

        One caller asks at a time. The other callers do not wait, and get the previous answer.
        """
        if not self._is_fresh() and self._lock.acquire(blocking=False):
            try:
                self._latest = _memory(self._server)
                self._fresh_until = monotonic() + FRESH
            finally:
                self._lock.release()
        return self._latest


def _memory(server: int) -> Memory | None:
    try:
        return memory_in(the_log().ask_server(server, "INFO", "memory"))
    except LogUnavailable:
        return None


def memory_in(info: Mapping[str, Any]) -> Memory:
    """Parse the memory section of a server's INFO."""
    return Memory(
        # The number that Redis compares with maxmemory.
        used=int(info["used_memory"]) - int(info.get("mem_not_counted_for_evict", 0)),
        limit=int(info.get("maxmemory", 0)),
        fragmentation=float(info.get("mem_fragmentation_ratio", 0)),
    )


@cache
def memory_of(server: int) -> MemoryWatch:
    """Return this process's cache for the server."""
    return MemoryWatch(server)


def head_for_a_run(conversation: Conversation) -> int | None:
    """Return the log's head before a new run; None while Redis is away. Raises `RedisFull`.

    The memory is asked for only after the log has answered, so no caller waits for two time-outs.
    """
    watch = memory_of(server_of(channel_of(conversation.id)))
    if watch.fresh and watch.fresh.full:
        raise RedisFull  # `repair` would create the log of a new conversation
    try:
        head = log_of(conversation.id, conversation.head).repair()
    except LogFull:
        raise RedisFull from None
    except LogUnavailable:
        return None
    memory = watch.ask()
    if memory and memory.full:
        raise RedisFull
    return head


def tell_memory(registry: CollectorRegistry) -> None:
    """Add gauges of each server's memory to the registry; a server that is away has none."""
    used = Gauge("unspool_redis_memory_bytes", "Memory in use", ["server"], registry=registry)
    limit = Gauge(
        "unspool_redis_memory_limit_bytes", "maxmemory; 0 if none", ["server"], registry=registry
    )
    fragmentation = Gauge(
        "unspool_redis_memory_fragmentation_ratio",
        "Memory of the server's process, divided by the memory in use",
        ["server"],
        registry=registry,
    )
    for server in range(len(server_urls())):
        if memory := memory_of(server).ask():
            used.labels(server).set(memory.used)
            limit.labels(server).set(memory.limit)
            fragmentation.labels(server).set(memory.fragmentation)
