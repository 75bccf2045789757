"""Taking rings off the broker: one that nobody of ours can have sent is put aside.

Celery's consumer ends when it meets a task whose parts are not what it expects, and gives it
back, so that each of its successors meets it again. As an `InvalidTaskError` it is logged,
acknowledged and forgotten; the run's row is the queue of record, and nothing is lost with it.
"""

from collections.abc import Callable
from typing import Any

from celery import Task
from celery.exceptions import InvalidTaskError
from celery.worker.strategy import default

MISSHAPEN = (ValueError, TypeError, LookupError, AttributeError)


def strategy(*given: Any, **wishes: Any) -> Callable[..., Any]:
    """Celery's own way of taking a task, for its `Strategy`."""
    take = default(*given, **wishes)

    def careful(*ring: Any, **also: Any) -> Any:
        try:
            return take(*ring, **also)
        except MISSHAPEN as error:
            raise InvalidTaskError(f"misshapen: {type(error).__name__}") from None

    return careful


class Ring(Task):  # type: ignore[type-arg]  # it can be subscripted for type checkers alone
    """A task that a forged message cannot end the worker with."""

    Strategy = f"{__name__}:{strategy.__name__}"
