"""Asking the database for what came before a moment that a row told us."""

from datetime import datetime, timedelta

from django.db.models import Q

RESOLUTION = timedelta(microseconds=1)


def created_before(moment: datetime, **tie: object) -> Q:
    """Rows created before the moment, or at it where `tie` says so.

    SQLite compares moments as text, and its own clock writes fewer digits than it is asked with:
    an equal moment is not found by asking for it, but lies between its neighbours.
    """
    same = Q(created_at__gt=moment - RESOLUTION, created_at__lt=moment + RESOLUTION)
    return Q(created_at__lte=moment - RESOLUTION) | (same & Q(**tie))
