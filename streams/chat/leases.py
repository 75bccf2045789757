"""Whether a worker still holds a run: the one place that judges leases and other moments.

The clock may be set back. A lease that ends later than it could if it began now was given before
that, so it has ended. A moment that lies in the future has passed.
"""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import DateTimeField, DurationField, ExpressionWrapper, F, Q, Value
from django.db.models.expressions import Combinable
from django.db.models.functions import Coalesce, Now

from streams.models import Run, from_now

# Two statements may see each other's clock this much apart: a statement's time is its beginning's.
SLACK = timedelta(seconds=1)


def new_lease() -> dict[str, Any]:
    """The columns of a lease that begins now."""
    length = settings.RUN_LEASE
    return {"lease_until": from_now(length), "lease_length": timedelta(seconds=length)}


def held() -> Q:
    """Runs that a worker has and was heard of within its lease."""
    within = Q(lease_until__gte=Now(), lease_until__lte=_latest_end())
    return Q(status=Run.Status.RUNNING) & within


def abandoned() -> Q:
    """Runs that a worker has, and whose lease has ended."""
    ended = Q(lease_until__lt=Now()) | Q(lease_until__gt=_latest_end())
    return Q(status=Run.Status.RUNNING) & ended


def passed(moment: str, seconds: float) -> Q:
    """Rows whose moment is more than so many seconds ago."""
    ahead = from_now(SLACK.total_seconds())
    return Q(**{f"{moment}__lt": from_now(-seconds)}) | Q(**{f"{moment}__gt": ahead})


def _latest_end() -> Combinable:
    """When a lease of the row's length ends that begins now."""
    # A release before this column may have claimed the run.
    length = Coalesce(
        F("lease_length"),
        Value(timedelta(seconds=settings.RUN_LEASE), output_field=DurationField()),
    )
    return ExpressionWrapper(Now() + length + Value(SLACK), output_field=DateTimeField())
