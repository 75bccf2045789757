"""The limits of one owner: how many runs may be active, and how many may begin in a minute."""

from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import CharField, QuerySet, UUIDField

from streams.compiled_query import CompiledQuery, Parameter, count
from streams.database_time import from_now
from streams.models import Conversation, Run

NO_CONVERSATION = UUID(int=0)


class ActiveRunLimit(Exception):
    """The owner already has MAX_LIVE_RUNS active runs."""


class RateLimited(Exception):
    """The owner has already created MAX_RUNS_PER_MINUTE runs within the last minute."""


def check_limits(conversation: Conversation, *, interrupts: bool) -> None:
    """Check the owner's limits for one more run. Raises `ActiveRunLimit`, `RateLimited`."""
    # An interrupting request cancels the active runs of its conversation, so they do not count.
    cancelled = conversation.id if interrupts else NO_CONVERSATION
    active, begun = COUNTS.row(owner=conversation.owner, cancelled=cancelled) or (0, 0)
    if active >= settings.MAX_LIVE_RUNS:
        raise ActiveRunLimit
    if begun >= settings.MAX_RUNS_PER_MINUTE:
        raise RateLimited


def _active() -> QuerySet[Run, Any]:
    of_owner = Run.active().filter(owner=OWNER)
    return count(of_owner.exclude(conversation=Parameter("cancelled", UUIDField())))


def _begun() -> QuerySet[Run, Any]:
    return count(Run.objects.filter(owner=OWNER, created_at__gt=from_now(-60)))


OWNER = Parameter("owner", CharField())
COUNTS = CompiledQuery(_active, _begun)
