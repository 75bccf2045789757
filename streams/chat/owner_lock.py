"""The lock that serializes work for one owner until the transaction ends."""

from enum import IntEnum

from django.db import connection


class OwnerWork(IntEnum):
    """The kinds of work that are serialized. Work of one kind does not wait for the other."""

    REQUEST = 0  # no other request comes between `recall` and `keep` of an idempotency key
    CLAIM = 1  # no other claim counts the owner's places at the same time


def lock_owner(owner: str, work: OwnerWork) -> None:
    """Wait for other transactions that do this work for the owner. Call it in a transaction."""
    if connection.vendor == "postgresql":  # SQLite has a single writer, so it needs no lock
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended(%s, %s))", [owner, work.value]
            )
