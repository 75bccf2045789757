"""Leases of runs: query conditions that decide whether a worker still holds a run.

The database's clock may be set back. Then a lease from before that change may end later than a
lease that starts now. Such a lease counts as expired. In the same way, a time in the future counts
as past.
"""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import DateTimeField, ExpressionWrapper, F, Q, Value
from django.db.models.expressions import Combinable
from django.db.models.functions import Now

from streams.database_time import from_now
from streams.models import Run

# `Now()` is the start of a statement, so the times of concurrent statements may differ this much.
SLACK = timedelta(seconds=1)


def new_lease() -> dict[str, Any]:
    """Return the columns of a lease that starts now."""
    length = settings.RUN_LEASE
    return {"lease_until": from_now(length), "lease_length": timedelta(seconds=length)}


def held() -> Q:
    """Select running runs with a valid lease."""
    in_time = Q(lease_until__gte=Now(), lease_until__lte=_latest_end())
    return Q(status=Run.Status.RUNNING) & in_time


def abandoned() -> Q:
    """Select running runs whose lease has expired."""
    expired = Q(lease_until__lt=Now()) | Q(lease_until__gt=_latest_end())
    return Q(status=Run.Status.RUNNING) & expired


def retryable() -> Q:
    """Select runs that may have another attempt.

    Attempts that a deploy or a Redis outage cut short do not count. A run that has called a tool
    which must not be called twice is not selected.
    """
    return Q(attempt__lt=F("uncounted_attempts") + settings.RUN_ATTEMPTS, called_at=None)


def passed(moment: str, seconds: float) -> Q:
    """Select rows whose column `moment` is more than `seconds` seconds ago, or in the future."""
    ahead = from_now(SLACK.total_seconds())
    return Q(**{f"{moment}__lt": from_now(-seconds)}) | Q(**{f"{moment}__gt": ahead})


def _latest_end() -> Combinable:
    """The latest possible end of a row's lease, which is the end of a lease that starts now."""
    end = Now() + F("lease_length") + Value(SLACK)
    return ExpressionWrapper(end, output_field=DateTimeField())
