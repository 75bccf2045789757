"""When each API token was last used: noted in memory, written later by the sweeper.

A request that shows a token writes nothing, so it does not wait for the database's writer. What a
process noted and has not written when it ends is lost; the next use notes it again.
"""

from threading import Lock
from time import monotonic

from django.db.models import Q

from streams.models import ApiToken, from_now

INTERVAL = 60.0  # seconds between two writes of one process


class TokenUsage:
    """The uses that one process has seen since its last write."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._used: dict[int, float] = {}  # token id → monotonic seconds
        self._written_at = float("-inf")

    def note(self, token: int) -> None:
        """Remember that this token was used now. From any thread; never waits for the database."""
        with self._lock:
            self._used[token] = monotonic()

    def write(self) -> None:
        """Write what was noted, if the last write is a minute ago."""
        with self._lock:
            if not self._used or monotonic() - self._written_at < INTERVAL:
                return
            used, self._used = self._used, {}
            self._written_at = monotonic()
        for token, at in used.items():
            moment = from_now(at - monotonic())
            # Another process may have seen a later use.
            older = Q(last_used_at=None) | Q(last_used_at__lt=moment)
            ApiToken.objects.filter(older, pk=token).update(last_used_at=moment)


token_usage = TokenUsage()
