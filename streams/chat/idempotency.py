"""Idempotency keys: a repeated request gets the result of the first one.

The result is kept in the transaction that does the request's work. So after a crash a key either
has its result, or is unused.
"""

from collections import Counter
from dataclasses import dataclass
from functools import cache
from threading import Lock
from time import monotonic
from typing import Any

import orjson
from django.conf import settings
from django.db import IntegrityError, transaction

from streams.models import IdempotencyRecord, from_now


@dataclass(frozen=True, kw_only=True, slots=True)
class IdempotencyKey:
    """The identity of a request: its owner, route, Idempotency-Key and the digest of its body."""

    owner: str
    route: str
    key: str
    digest: str


class KeyReused(Exception):
    """The key was used for a request with another body."""


class TooManyRepeats(Exception):
    """The owner has repeated MAX_REPEATS requests in this minute, in this process."""

    def __init__(self, seconds: int) -> None:
        super().__init__(seconds)
        self.seconds = seconds  # until the next minute starts


class Repeats:
    """Counts the repeated requests of each owner within the current minute, in this process."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._minute = 0
        self._counts: Counter[str] = Counter()

    def count(self, owner: str) -> None:
        """Count one more repeated request. Raises `TooManyRepeats`."""
        minute, second = divmod(int(monotonic()), 60)
        with self._lock:
            if minute != self._minute:
                self._minute = minute
                self._counts.clear()
            if self._counts[owner] >= settings.MAX_REPEATS:
                raise TooManyRepeats(60 - second)
            self._counts[owner] += 1


@cache
def repeats() -> Repeats:
    """Return the counter of this process."""
    return Repeats()


def recall(key: IdempotencyKey) -> dict[str, Any] | None:
    """Return what was kept under the key; None if the key is unused.

    Raises `KeyReused` for another body, or `TooManyRepeats`.
    """
    record = IdempotencyRecord.objects.filter(owner=key.owner, route=key.route, key=key.key).first()
    if record is None:
        return None
    if record.digest != key.digest:
        raise KeyReused
    repeats().count(key.owner)
    return dict(record.body)


def keep(key: IdempotencyKey, result: object) -> None:
    """Keep the request's result, ids only, under the key.

    Raises `IntegrityError` if another request has kept one meanwhile: call `recall` then.
    """
    IdempotencyRecord.objects.create(
        owner=key.owner,
        route=key.route,
        key=key.key,
        digest=key.digest,
        body=orjson.loads(orjson.dumps(result)),
    )


def forget(key: IdempotencyKey) -> None:
    """Make the key unused again."""
    IdempotencyRecord.objects.filter(owner=key.owner, route=key.route, key=key.key).delete()


def keep_as_used(key: IdempotencyKey) -> bool:
    """Keep that the request was answered, without a result. False if an equal request was first.

    Raises what `recall` raises.
    """
    try:
        with transaction.atomic():
            keep(key, {})
    except IntegrityError:
        recall(key)
        return False
    return True


def expire() -> int:
    """Delete the records older than IDEMPOTENCY_TTL. Returns how many."""
    old = IdempotencyRecord.objects.filter(created_at__lt=from_now(-settings.IDEMPOTENCY_TTL))
    return old.delete()[0]
