"""Pagination by creation time: the query condition for rows before a given row."""

from datetime import datetime, timedelta

from django.db.models import Q

RESOLUTION = timedelta(microseconds=1)


def created_before(moment: datetime, **tie: object) -> Q:
    """Select rows created before the moment, or at the same moment if they match `tie`.

    SQLite compares times as text, and its clock writes fewer digits than Django's parameters have.
    So a comparison for equality fails; a range between the neighbouring microseconds replaces it.
    """
    same = Q(created_at__gt=moment - RESOLUTION, created_at__lt=moment + RESOLUTION)
    return Q(created_at__lte=moment - RESOLUTION) | (same & Q(**tie))
