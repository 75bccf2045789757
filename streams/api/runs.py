"""The API's views for runs: read, cancel, retry."""

from dataclasses import asdict
from uuid import UUID

from django.http import HttpResponse
from ninja import Router

from streams.access.authorization import readable_run
from streams.api.authentication import ApiRequest
from streams.api.idempotency import answer, idempotency_key, repeated, status_response
from streams.api.schemas import EmptyBody, Retry
from streams.chat import ask, finish
from streams.chat.idempotency import Answered, recall
from streams.chat.run_status import RunStatus, run_status
from streams.models import Run

router = Router(tags=["runs"])


def own(request: ApiRequest, run: UUID) -> Run:
    """The caller's run. Raises `DoesNotExist`, for another owner's run too."""
    return readable_run(request.auth, run)


@router.get("/{uuid:run}/", response=RunStatus, summary="A run as it is now")
def run(request: ApiRequest, run: UUID) -> RunStatus:
    return run_status(own(request, run))


@router.post("/{uuid:run}/cancel/", response=RunStatus, summary="Stop a run")
def cancel(request: ApiRequest, run: UUID, body: EmptyBody | None = None) -> HttpResponse:
    stopped = own(request, run)
    key = idempotency_key(request, body or EmptyBody())
    try:
        if key:
            recall(key)
        finish.cancel(stopped.id)
        return status_response(run_status(stopped), key)
    except Answered:
        return repeated(200, asdict(run_status(stopped)))


@router.post(
    "/{uuid:run}/retry/",
    response={202: ask.Accepted, 200: RunStatus},
    summary="Answer the last turn again",
)
def retry(request: ApiRequest, run: UUID, body: Retry | None = None) -> HttpResponse:
    options = body or Retry()
    accepted = ask.retry(
        own(request, run), when_busy=options.when_busy, key=idempotency_key(request, options)
    )
    return answer(202, asdict(accepted))
