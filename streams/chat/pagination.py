"""Pages of rows: the condition for rows before a given row, and how many rows fit into a page."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Any

from django.db.models import Func, IntegerField, Q

RESOLUTION = timedelta(microseconds=1)


class Octets(Func):
    """The length of a text in bytes of UTF-8, measured by the database."""

    function = "OCTET_LENGTH"
    output_field = IntegerField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        # SQLite has OCTET_LENGTH only since 3.43.
        template = "LENGTH(CAST(%(expressions)s AS BLOB))"
        return self.as_sql(compiler, connection, template=template, **context)


def count_that_fits(sizes: Sequence[int], *, rows: int, octets: int) -> int:
    """Return how many of the rows fit into a page; at least one, because a page must not be empty.

    `sizes` are the bytes of each row, in the order of the page.
    """
    within = sum(total <= octets for total in accumulate(sizes))
    return min(max(within, 1), rows)


def created_before(moment: datetime, **tie: object) -> Q:
    """Select rows created before the moment, or at the same moment if they match `tie`.

    SQLite compares times as text, and its clock writes fewer digits than Django's parameters have.
    So a comparison for equality fails; a range between the neighbouring microseconds replaces it.
    """
    same = Q(created_at__gt=moment - RESOLUTION, created_at__lt=moment + RESOLUTION)
    return Q(created_at__lte=moment - RESOLUTION) | (same & Q(**tie))
