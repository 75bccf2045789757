"""When each API token was last used: recorded in memory, written later by the sweeper.

A request with a token does not write, so it does not wait for a database lock. A process that
ends loses the uses that it has not written. The next use of the token is recorded again.
"""

from threading import Lock
from time import monotonic

from django.db.models import Q

from streams.database_time import from_now
from streams.service_models import ApiToken

INTERVAL = 60.0  # seconds between two writes of one process


class TokenUsage:
    """The token uses that this process has recorded since its last write."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._used: dict[int, float] = {}  # token id → monotonic seconds
        self._written_at = float("-inf")

    def note(self, token: int) -> None:
        """Record that this token was used now. Thread-safe, and never waits for the database."""
        with self._lock:
            self._used[token] = monotonic()

    def write(self) -> None:
        """Write the recorded uses, unless the last write is less than `INTERVAL` ago.

        Raises `DatabaseError`. Uses that were not written stay recorded.
        """
        with self._lock:
            if not self._used or monotonic() - self._written_at < INTERVAL:
                return
            used, self._used = self._used, {}
            self._written_at = monotonic()
        try:
            for token, at in list(used.items()):
                moment = from_now(at - monotonic())
                # Another process may have written a later use already.
                older = Q(last_used_at=None) | Q(last_used_at__lt=moment)
                ApiToken.objects.filter(older, pk=token).update(last_used_at=moment)
                del used[token]
        finally:
            with self._lock:
                self._used = used | self._used  # after an error, the next write includes the rest


token_usage = TokenUsage()
