"""The names that a request may give as its `model`: language models, and agents.

A model's runs wait in the worker's queue, an agent's runs in the queue of the agents process. A
process claims only runs of its own kind, so one kind never takes the places of the other kind.
"""

from enum import StrEnum

from django.conf import settings
from django.db.models import Q

from streams.chat.errors import UnknownModel


class Kind(StrEnum):
    """Whether a name stands for a language model or an agent."""

    MODEL = "model"
    AGENT = "agent"


def kinds() -> list[Kind]:
    """Return the kinds that the settings name."""
    return [Kind.MODEL, Kind.AGENT] if settings.AGENTS else [Kind.MODEL]


def names(kind: Kind) -> list[str]:
    """Return the names of this kind, in the order of the settings."""
    return list(settings.AGENTS if kind is Kind.AGENT else settings.LLM_MODELS)


def kind_of(name: str) -> Kind | None:
    """Return the kind of this name; None if the settings do not have it."""
    return next((kind for kind in kinds() if name in names(kind)), None)


def of_kind(kind: Kind) -> Q:
    """Select runs whose `model` is a name of this kind."""
    return Q(model__in=names(kind))


def unknown() -> Q:
    """Select runs whose `model` is a name that the settings do not have."""
    return ~Q(model__in=[name for kind in kinds() for name in names(kind)])


def queue_of(kind: Kind) -> str:
    """Return the Celery queue of the processes that write replies of this kind."""
    queue: str = settings.CELERY_TASK_DEFAULT_QUEUE
    return f"{queue}-agents" if kind is Kind.AGENT else queue


def places_of(kind: Kind) -> int:
    """Return how many replies of this kind one process writes at once."""
    agents, models = settings.AGENT_CONCURRENCY, settings.WORKER_CONCURRENCY
    return int(agents if kind is Kind.AGENT else models)


def check_model(model: str) -> str:
    """Return the name if it is a model's or an agent's. Raises `UnknownModel`."""
    if kind_of(model) is None:
        raise UnknownModel(model)
    return model
