"""The limits of one owner: how many runs may be active, and how many may begin in a minute."""

from uuid import UUID

from django.conf import settings
from django.db.models import CharField, UUIDField

from streams.compiled_query import CompiledQuery, Parameter, count
from streams.database_time import from_now
from streams.models import Conversation, Run

NO_CONVERSATION = UUID(int=0)
OWNER = Parameter("owner", CharField())
COUNTS = CompiledQuery(
    lambda: count(
        Run.active().filter(owner=OWNER).exclude(conversation=Parameter("cancelled", UUIDField()))
    ),
    lambda: count(Run.objects.filter(owner=OWNER, created_at__gt=from_now(-60))),
)


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
