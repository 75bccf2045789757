"""Idempotency keys: a repeated request gets the result of the first request.

The result is stored in the transaction that does the request's work. So after a crash a key either
has its result, or is unused.
"""

from collections import Counter
from dataclasses import dataclass
from functools import cache
from threading import Lock
from time import monotonic
from typing import Any
from uuid import uuid4

import orjson
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q

from streams.database_time import from_now
from streams.models import Run
from streams.service_models import IdempotencyRecord

REPEATED_WITHIN = 60  # s in which a client repeats a request that has no key
LOOKED_AT = 100  # the newest records of equal requests that are compared


@dataclass(frozen=True, kw_only=True, slots=True)
class IdempotencyKey:
    """The identity of a request: its owner, route, Idempotency-Key and the digest of its body.

    `repeat`: the request has no key, and its client says how often it has repeated an equal body.
    Each request then stores a record of its own. A repetition takes a record that no other
    repetition has taken. So equal requests that a client sends on purpose stay separate.
    """

    owner: str
    route: str
    key: str
    digest: str
    repeat: int | None = None

    @classmethod
    def repeatable(cls, *, owner: str, route: str, digest: str, repeat: int) -> "IdempotencyKey":
        """The identity of a request without a key, which was repeated `repeat` times."""
        return cls(
            owner=owner, route=route, key=f"{uuid4()}#{repeat}", digest=digest, repeat=repeat
        )


class KeyReused(Exception):
    """The key was used for a request with a different body."""


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
    return Repeats()


def recall(key: IdempotencyKey) -> dict[str, Any] | None:
    """Return the result that was stored under the key; None if the key is unused.

    Raises `KeyReused` if the key was used with a different body, or `TooManyRepeats`.
    """
    if key.repeat is not None:
        return _take_repeated(key) if key.repeat else None
    record = IdempotencyRecord.objects.filter(owner=key.owner, route=key.route, key=key.key).first()
    if record is None:
        return None
    if record.digest != key.digest:
        raise KeyReused
    repeats().count(key.owner)
    return dict(record.body)


def _take_repeated(key: IdempotencyKey) -> dict[str, Any] | None:
    """The result for an equal body whose run is active or recent; None if there is none."""
    equal = IdempotencyRecord.objects.filter(owner=key.owner, route=key.route, digest=key.digest)
    records = equal.annotate(recent=Q(created_at__gt=from_now(-REPEATED_WITHIN)))
    newest = list(records.order_by("-created_at")[:LOOKED_AT])
    runs = Run.objects.in_bulk([record.body["run"] for record in newest])
    by_id = {str(id): run for id, run in runs.items()}
    for record in newest:
        earlier, _, count = record.key.rpartition("#")
        run = by_id.get(record.body["run"])
        if run is None or int(count) >= (key.repeat or 0) or not (run.is_active or record.recent):
            continue
        taken = equal.filter(pk=record.pk, key=record.key)
        if taken.update(key=f"{earlier}#{key.repeat}"):  # otherwise another repetition took it
            repeats().count(key.owner)
            return dict(record.body)
    return None


def keep(key: IdempotencyKey, result: object) -> None:
    """Store the request's result under the key. The result contains only ids.

    Raises `IntegrityError` if another request has stored one meanwhile. Then call `recall`.
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
    """Record that the request was answered; no result is stored.

    Returns False if an equal request came first. Raises the exceptions of `recall`.
    """
    try:
        with transaction.atomic():
            keep(key, {})
    except IntegrityError:
        recall(key)
        return False
    return True


def expire() -> int:
    """Delete the records older than IDEMPOTENCY_TTL. Returns their number."""
    old = IdempotencyRecord.objects.filter(created_at__lt=from_now(-settings.IDEMPOTENCY_TTL))
    return old.delete()[0]
