"""Times of the database's clock, because the clocks of machines may differ."""

from __future__ import annotations

from datetime import timedelta

from django.db import models
from django.db.models.functions import Now


def from_now(seconds: float) -> models.Expression:
    """The time that is `seconds` from now, by the database's clock."""
    moment = Now() + timedelta(seconds=seconds)
    return models.ExpressionWrapper(moment, output_field=models.DateTimeField())
