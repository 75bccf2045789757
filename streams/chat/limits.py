"""The limits of one owner: how many runs may be active, and how many may begin in a minute."""

from django.conf import settings
from django.db import connection

from streams.models import Conversation, Run, from_now


class ActiveRunLimit(Exception):
    """The owner already has MAX_LIVE_RUNS active runs."""


class RateLimited(Exception):
    """The owner has already created MAX_RUNS_PER_MINUTE runs within the last minute."""


def check_limits(conversation: Conversation, *, interrupts: bool) -> None:
    """Check the owner's limits for one more run. Raises `ActiveRunLimit`, `RateLimited`."""
    owner = conversation.owner
    active = Run.active().filter(owner=owner)
    if interrupts:
        active = active.exclude(conversation=conversation)  # this request cancels those
    if active.count() >= settings.MAX_LIVE_RUNS:
        raise ActiveRunLimit
    begun = Run.objects.filter(owner=owner, created_at__gt=from_now(-60))
    if begun.count() >= settings.MAX_RUNS_PER_MINUTE:
        raise RateLimited


def lock_owner(owner: str) -> None:
    """Serialize an owner's requests until the transaction ends.

    So no other request of the owner comes between `recall` and `keep` of an idempotency key.
    """
    if connection.vendor == "postgresql":  # SQLite has a single writer
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [owner])
