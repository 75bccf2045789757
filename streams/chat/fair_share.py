"""Places given in turn: how many runs of one owner the workers may write at the same time.

A place is one reply that a worker process can write. An owner may hold three times as many places
as are free, so an owner alone gets three quarters, and the next owner finds a free one
(Choudhury and Hahne 1998, "Dynamic queue length thresholds"). Where other owners' runs wait for
what is free, an owner gets an equal share. An owner who holds none is never refused.
"""

from collections import Counter
from dataclasses import dataclass
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.db.models import Count, Q

from streams.chat.leases import held
from streams.chat.waiting_runs import Waiting, busy, waiting, waiting_in_turn
from streams.models import Run

PER_FREE_PLACE = 3  # places that one owner may hold for each that is free


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """Who holds places and who waits, as one owner sees it."""

    places: int  # of all worker processes that hold runs
    running: int  # places that are taken
    own: int  # of these, the owner's
    owners: int  # who have a live run
    others: int  # runs of other owners that could begin now


def room(load: Load) -> int:
    """How many more runs the owner may begin."""
    free = max(load.places - load.running, 0)
    # The largest n for which the last of n runs still finds own + n - 1 < 3 * (free - n + 1).
    more = (PER_FREE_PLACE * (free + 1) - load.own) // (PER_FREE_PLACE + 1)
    equal = load.places // max(load.owners, 1) - load.own
    more = min(more, max(equal, free - load.others))
    return max(more, 0 if load.own else 1)


def has_room(owner: str, worker: UUID) -> bool:
    """Whether the owner may begin one more run, in this worker process.

    To be called in a transaction: until it ends, no other process begins a run of this owner.
    """
    if connection.vendor == "postgresql":  # SQLite has one writer anyway
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 1))", [owner])
    own = Q(owner=owner)
    startable = waiting() & ~Q(conversation__in=busy())
    now = Run.active().aggregate(
        workers=Count("worker", distinct=True, filter=held() & ~Q(worker=worker)),
        running=Count("pk", filter=held()),
        own=Count("pk", filter=held() & own),
        owners=Count("owner", distinct=True),
        others=Count("conversation", distinct=True, filter=startable & ~own),
    )
    workers = now.pop("workers") + 1  # this process may hold none yet
    return room(Load(places=workers * settings.CELERY_WORKER_CONCURRENCY, **now)) > 0


def startable_runs() -> list[Waiting]:
    """The runs that could begin now within their owners' shares, oldest first."""
    able = waiting_in_turn()
    holders = Run.active().filter(held()).order_by().values_list("owner", "worker")
    places = max(len({worker for _, worker in holders}), 1) * settings.CELERY_WORKER_CONCURRENCY
    running = Counter(owner for owner, _ in holders)
    waits = Counter(run.owner for run in able)
    owners = len(set(running) | set(waits))
    left = {
        owner: room(
            Load(
                places=places,
                running=running.total(),
                own=running[owner],
                owners=owners,
                others=waits.total() - count,
            )
        )
        for owner, count in waits.items()
    }
    chosen = []
    for run in able:
        if run.begun:  # it had a place and lost it, so its owner's share does not hold it up
            chosen.append(run)
        elif left[run.owner]:
            left[run.owner] -= 1
            chosen.append(run)
    return chosen
