"""Runs over HTTP: look at one, stop it, have it done again."""

from dataclasses import asdict
from uuid import UUID

from django.http import HttpResponse
from ninja import Router

from streams import asking, ending
from streams.answers import Answered, recall
from streams.api.admission import Asked
from streams.api.repeats import answer, once_of, repeated, reported
from streams.api.schemas import Nothing, Retry
from streams.models import Run
from streams.report import Report, report

router = Router(tags=["runs"])


def own(request: Asked, run: UUID) -> Run:
    """The caller's run. Raises `DoesNotExist` for anybody else's as well."""
    mine = Run.objects.select_related("conversation", "message")
    return mine.get(pk=run, conversation__owner=request.auth.owner)


@router.get("/{uuid:run}/", response=Report, summary="A run as it is now")
def run(request: Asked, run: UUID) -> Report:
    return report(own(request, run))


@router.post("/{uuid:run}/cancel/", response=Report, summary="Stop a run")
def cancel(request: Asked, run: UUID, body: Nothing | None = None) -> HttpResponse:
    stopped = own(request, run)
    once = once_of(request, body or Nothing())
    try:
        if once:
            recall(once)
        ending.cancel(stopped.id)
        return reported(report(stopped), once)
    except Answered:
        return repeated(200, asdict(report(stopped)))


@router.post(
    "/{uuid:run}/retry/",
    response={202: asking.Accepted, 200: Report},
    summary="Have the last turn answered anew",
)
def retry(request: Asked, run: UUID, body: Retry | None = None) -> HttpResponse:
    wish = body or Retry()
    accepted = asking.retry(
        own(request, run), when_busy=wish.when_busy, once=once_of(request, wish)
    )
    return answer(202, asdict(accepted))
