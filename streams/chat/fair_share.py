"""Fair share of the places: how many runs of one owner may be running at the same time.

A place is the capacity of a process to write one reply. Models and agents have separate places,
which are shared separately. An owner may hold three times as many places as are free. So a single
owner gets three quarters of all places, and the next owner finds a free place (Choudhury and Hahne
1998, "Dynamic queue length thresholds"). If runs of other owners wait for the free places, each
owner gets an equal share. An owner that holds no place is not refused.
"""

from collections import Counter
from functools import lru_cache, partial
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import Case, CharField, F, Func, IntegerField, Q, QuerySet, UUIDField, When

from streams.chat.leases import held
from streams.chat.model_names import Kind, names, of_kind, places_of
from streams.chat.owner_lock import OwnerWork, lock_owner
from streams.chat.waiting_runs import Waiting, busy, waiting, waiting_in_turn
from streams.compiled_query import CompiledQuery, Parameter
from streams.models import Run

PER_FREE_PLACE = 3  # places that one owner may hold for each free place


def room(*, places: int, running: int, own: int, owners: int, others: int) -> int:
    """Return how many more runs of one owner may start.

    `places` counts the places of all processes that hold a run, `running` the places in use, and
    `own` the places that the owner uses. `owners` counts the owners with an active run, and
    `others` the runs of other owners that could start now.
    """
    free = max(places - running, 0)
    # The largest n where the last of n new runs still satisfies own + n - 1 < 3 * (free - n + 1).
    more = (PER_FREE_PLACE * (free + 1) - own) // (PER_FREE_PLACE + 1)
    equal = places // max(owners, 1) - own
    more = min(more, max(equal, free - others))
    return max(more, 0 if own else 1)


def has_room(owner: str, worker: UUID, kind: Kind) -> bool:
    """Return whether one more run of the owner and of this kind may start in this process.

    Call it within a transaction. Until the transaction ends, no other process starts a run of this
    owner.
    """
    lock_owner(owner, OwnerWork.CLAIM)
    query = _load(kind, (*names(kind), settings.RUN_LEASE, settings.RUN_ATTEMPTS))
    counts = query.row(owner=owner, worker=worker)
    assert counts
    workers, running, own, owners, others = counts
    places = (workers + 1) * places_of(kind)  # plus this process, which may hold no run yet
    return room(places=places, running=running, own=own, owners=owners, others=others) > 0


@lru_cache(maxsize=4)
def _load(kind: Kind, values: tuple[object, ...]) -> CompiledQuery:
    """The query for the arguments of `room`, cached for `values`: the settings in its SQL."""
    return CompiledQuery(partial(_counted, kind))


def _counted(kind: Kind) -> QuerySet[Run, Any]:
    own = Q(owner=Parameter("owner", CharField()))
    other = ~Q(worker=Parameter("worker", UUIDField()))
    startable = waiting() & ~Q(conversation__in=busy())
    counts = {
        "_workers": _count("worker", held() & other),
        "_running": _count("pk", held()),
        "_own": _count("pk", held() & own),
        "_owners": _count("owner"),
        "_others": _count("conversation", startable & ~own),
    }
    runs = Run.active().filter(of_kind(kind)).order_by()
    return runs.annotate(**counts).values_list(*counts)


def _count(column: str, where: Q | None = None) -> Func:
    """Count the distinct values of the column. With `Count`, the ORM would group the rows."""
    value = Case(When(where, then=F(column))) if where else F(column)
    return Func(value, template="COUNT(DISTINCT %(expressions)s)", output_field=IntegerField())


def startable_runs(kind: Kind) -> list[Waiting]:
    """Return this kind's runs that could start now within their owners' shares, oldest first."""
    candidates = waiting_in_turn(kind)
    holders = Run.active().filter(held(), of_kind(kind)).order_by().values_list("owner", "worker")
    places = max(len({worker for _, worker in holders}), 1) * places_of(kind)
    running = Counter(owner for owner, _ in holders)
    queued = Counter(run.owner for run in candidates)
    owners = len(set(running) | set(queued))
    left = {
        owner: room(
            places=places,
            running=running.total(),
            own=running[owner],
            owners=owners,
            others=queued.total() - count,
        )
        for owner, count in queued.items()
    }
    chosen = []
    for run in candidates:
        if run.attempt:  # the run had a place before, so its owner's share does not delay it
            chosen.append(run)
        elif left[run.owner]:
            left[run.owner] -= 1
            chosen.append(run)
    return chosen
