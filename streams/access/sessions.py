"""The session store: sessions in the database, but no row for a visitor who only reads.

`GET /` returns a reserved key: random, and signed with SECRET_KEY, so Unspool recognises it
without a row. The first request that has data to store creates the row under that key.
A client that saves its cookies only at `GET /` therefore stays the same visitor.
"""

from contextlib import suppress
from typing import Any

from django.contrib.sessions.backends import db
from django.contrib.sessions.backends.base import VALID_KEY_CHARS, CreateError
from django.utils.crypto import constant_time_compare, get_random_string, salted_hmac

RANDOM, SIGNATURE = 20, 20  # characters; the key's column holds 40


class SessionStore(db.SessionStore):
    """Django's database store, extended by reserved keys that have no row yet."""

    _unstored = False

    def reserve(self) -> str:
        """Give this session a new key and return it, without storing a row."""
        random = get_random_string(RANDOM, VALID_KEY_CHARS)
        self._session_key = random + _signature(random)
        self._session_cache: dict[str, Any] = {}
        self._unstored = True
        return self._session_key

    def load(self) -> dict[str, Any]:
        key = self.session_key
        data: dict[str, Any] = super().load()
        if self.session_key is None and key and _is_reserved(key):
            self._session_key, self._unstored = key, True
        return data

    def store(self) -> None:
        """Create the session's row under its key, unless the row exists."""
        if self.session_key is None:
            self.create()
        elif self._unstored:
            self._unstored = False
            with suppress(CreateError):  # a concurrent request of this session stored it first
                super().save(must_create=True)

    def save(self, must_create: bool = False) -> None:
        unstored, self._unstored = self._unstored, False
        if not unstored or must_create:
            super().save(must_create=must_create)
            return
        try:
            super().save(must_create=True)
        except CreateError:  # a concurrent request stored the row first, so merge its data
            self._session_cache = super().load() | self._session_cache
            super().save()


def _signature(random: str) -> str:
    return salted_hmac("unspool.session", random, algorithm="sha256").hexdigest()[:SIGNATURE]


def _is_reserved(key: str) -> bool:
    random, signature = key[:RANDOM], key[RANDOM:]
    return constant_time_compare(signature, _signature(random))
