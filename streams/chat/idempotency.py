"""Idempotency keys: a repeated request gets the response of the first one.

The response is stored in the transaction that does the request's work. So after a crash a key
either has its response, or is unused.
"""

from collections import Counter
from dataclasses import dataclass
from functools import cache
from threading import Lock
from time import monotonic

import orjson
from django.conf import settings

from streams.models import IdempotencyRecord, from_now


@dataclass(frozen=True, kw_only=True, slots=True)
class IdempotencyKey:
    """The identity of a request: its owner, route, Idempotency-Key and the digest of its body."""

    owner: str
    route: str
    key: str
    digest: str


class Answered(Exception):
    """The same request was answered before: respond with `answer`, its stored response."""

    def __init__(self, answer: IdempotencyRecord) -> None:
        super().__init__(answer.key)
        self.answer = answer


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


def recall(key: IdempotencyKey) -> None:
    """Return if the key is unused.

    Raises `Answered` for a repeated request, `KeyReused` for another body, or `TooManyRepeats`.
    """
    answer = IdempotencyRecord.objects.filter(owner=key.owner, route=key.route, key=key.key).first()
    if answer and answer.digest != key.digest:
        raise KeyReused
    if answer:
        repeats().count(key.owner)
        raise Answered(answer)


def keep(key: IdempotencyKey, status: int, body: object) -> None:
    """Store the response under the key.

    Raises `IntegrityError` if another request has stored one meanwhile: call `recall` then.
    """
    IdempotencyRecord.objects.create(
        owner=key.owner,
        route=key.route,
        key=key.key,
        digest=key.digest,
        status=status,
        body=orjson.loads(orjson.dumps(body, option=orjson.OPT_UTC_Z)),
    )


def expire() -> int:
    """Delete the responses older than IDEMPOTENCY_TTL. Returns how many."""
    old = IdempotencyRecord.objects.filter(created_at__lt=from_now(-settings.IDEMPOTENCY_TTL))
    return old.delete()[0]
