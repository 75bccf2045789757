"""A run whose client waits for it over one connection, and which ends if that client leaves.

    bind → leave (the connection broke) → `GRACE` seconds later the sweep cancels the run
            └── bind or keep: another request joined the run meanwhile

The run's row names the newest request that was bound. Only a disconnect of that request counts,
because an older connection may break after its client has come back to another process.
"""

from uuid import UUID, uuid4

from django.db.models.functions import Now

from streams.database_time import from_now
from streams.models import Run

GRACE = 5.0  # seconds in which a client may come back


def bind(run: UUID) -> UUID:
    """Let the run end if this request's client leaves. Returns the request's name for `leave`."""
    reader = uuid4()
    Run.objects.filter(pk=run, status__in=Run.ACTIVE).update(reader=reader, reader_left_at=None)
    return reader


def leave(run: UUID, reader: UUID) -> None:
    """Record that the client has left, unless another request was bound or joined since."""
    Run.objects.filter(pk=run, reader=reader, status__in=Run.ACTIVE).update(reader_left_at=Now())


def keep(run: Run) -> None:
    """Let no disconnect end the run any more, because another reader has joined it."""
    if run.reader and run.is_active:
        # After the new name, `leave` with the bound request's name has no effect.
        Run.objects.filter(pk=run.pk).update(reader=uuid4(), reader_left_at=None)


def ask_to_cancel() -> None:
    """Ask to cancel the runs whose client has not come back. The sweep then ends them."""
    left = Run.active().filter(reader_left_at__lte=from_now(-GRACE), cancel_asked=False)
    if left.exists():  # an update takes SQLite's write lock, even if it changes no row
        left.update(cancel_asked=True)
