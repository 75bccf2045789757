"""The API's views for runs: read, cancel, retry."""

from uuid import UUID

from django.http import HttpResponse
from ninja import Router

from streams.access.authorization import readable_run
from streams.api.authentication import ApiRequest
from streams.api.idempotency import KeyHeader, accepted_response, answer, idempotency_key
from streams.api.openapi import POST, READ, START
from streams.api.schemas import Accepted, EmptyBody, Retry
from streams.chat import ask, finish
from streams.chat.idempotency import keep_as_used, recall
from streams.chat.run_status import RunStatus, run_status
from streams.models import Run

router = Router(tags=["runs"])


@router.get("/{uuid:run}/", response=RunStatus, summary="A run as it is now", openapi_extra=READ)
def run(request: ApiRequest, run: UUID) -> RunStatus:
    return run_status(readable_run(request.auth, run))


@router.post("/{uuid:run}/cancel/", response=RunStatus, summary="Stop a run", openapi_extra=POST)
def cancel(
    request: ApiRequest, run: UUID, body: EmptyBody | None = None, key: KeyHeader = None
) -> HttpResponse:
    stopped = readable_run(request.auth, run)
    once = idempotency_key(request, body or EmptyBody(), key)
    if once and recall(once) is not None:
        return answer(200, run_status(stopped), repeated=True)
    finish.cancel(stopped.id)
    status = run_status(stopped)
    # A repeated request reads the run again, so no text is stored under the key. Such a text would
    # outlive the conversation. For an active run nothing is stored, because its status will change.
    has_ended = status.status not in Run.ACTIVE
    repeated = once is not None and has_ended and not keep_as_used(once)
    return answer(200, status, repeated=repeated)


@router.post(
    "/{uuid:run}/retry/",
    response={202: Accepted, 200: RunStatus},
    summary="Answer the last turn again",
    openapi_extra=START,
)
def retry(
    request: ApiRequest, run: UUID, body: Retry | None = None, key: KeyHeader = None
) -> HttpResponse:
    options = body or Retry()
    queued = ask.retry(
        readable_run(request.auth, run),
        when_busy=options.when_busy,
        key=idempotency_key(request, options, key),
    )
    return accepted_response(queued)
