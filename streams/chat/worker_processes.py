"""Which processes take runs now, and for which models and agents, for `manage.py doctor`.

Each process writes a row of its own and renews it.
"""

from uuid import UUID

from django.db.models.functions import Now

from streams.chat.model_names import Kind, kinds, names
from streams.database_time import from_now
from streams.service_models import WorkerProcess

SEEN_WITHIN = 60.0  # seconds; a process that has not renewed its row for so long has ended


def register(process: UUID, kind: Kind) -> None:
    """Write or renew the row of a process. Delete the rows of processes that have ended."""
    row = {"kind": kind, "names": names(kind), "seen_at": Now()}
    WorkerProcess.objects.update_or_create(pk=process, defaults=row)
    WorkerProcess.objects.filter(seen_at__lt=from_now(-10 * SEEN_WITHIN)).delete()


def names_without_process() -> dict[Kind, list[str]]:
    """Return the names of models and agents whose runs no process takes, by kind."""
    missing = {}
    for kind in kinds():
        alive = WorkerProcess.objects.filter(kind=kind, seen_at__gt=from_now(-SEEN_WITHIN))
        had = {name for row in alive.values_list("names", flat=True) for name in row}
        if without := [name for name in names(kind) if name not in had]:
            missing[kind] = without
    return missing
