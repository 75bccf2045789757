"""The limits of one owner: how many runs may be active, and how many may begin in a minute."""

from django.conf import settings

from streams.database_time import from_now
from streams.models import Conversation, Run


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
