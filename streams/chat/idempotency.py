"""What an Idempotency-Key was answered: kept in the same transaction as what the answer made.

So no crash can leave a key behind that is neither answered nor free.
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
    """A request that may be repeated: whose, where, under which key, and its body's digest."""

    owner: str
    route: str
    key: str
    digest: str


class Answered(Exception):
    """This very request was answered before: give that answer again."""

    def __init__(self, answer: IdempotencyRecord) -> None:
        super().__init__(answer.key)
        self.answer = answer


class KeyReused(Exception):
    """The key was used for a request with another body."""


class TooManyRepeats(Exception):
    """The owner has repeated as many requests in this minute as allowed, in this process."""

    def __init__(self, seconds: int) -> None:
        super().__init__(seconds)
        self.seconds = seconds  # until the next minute begins


class Repeats:
    """How many requests each owner has repeated in the present minute, in this process."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._minute = 0
        self._of: Counter[str] = Counter()

    def count(self, owner: str) -> None:
        """Count one more. Raises `TooManyRepeats`."""
        minute, second = divmod(int(monotonic()), 60)
        with self._lock:
            if minute != self._minute:
                self._minute = minute
                self._of.clear()
            if self._of[owner] >= settings.MAX_REPEATS:
                raise TooManyRepeats(60 - second)
            self._of[owner] += 1


@cache
def repeats() -> Repeats:
    """This process's."""
    return Repeats()


def recall(key: IdempotencyKey) -> None:
    """Raise `Answered` or `KeyReused` if the key has been used, or `TooManyRepeats`."""
    answer = IdempotencyRecord.objects.filter(owner=key.owner, route=key.route, key=key.key).first()
    if answer and answer.digest != key.digest:
        raise KeyReused
    if answer:
        repeats().count(key.owner)
        raise Answered(answer)


def keep(key: IdempotencyKey, status: int, body: object) -> None:
    """Keep the answer. An `IntegrityError` says that an equal request was first: recall it."""
    IdempotencyRecord.objects.create(
        owner=key.owner,
        route=key.route,
        key=key.key,
        digest=key.digest,
        status=status,
        body=orjson.loads(orjson.dumps(body, option=orjson.OPT_UTC_Z)),
    )


def expire() -> int:
    """Drop the answers that nobody needs any more; gives how many."""
    old = IdempotencyRecord.objects.filter(created_at__lt=from_now(-settings.IDEMPOTENCY_TTL))
    return old.delete()[0]
