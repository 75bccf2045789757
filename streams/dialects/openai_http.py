"""What OpenAI's wires share over HTTP: repeated requests, the models, waiting for a run.

A client that waits for a reply over one connection says by closing it that the run may end
(`streams.chat.waiting_reader`). A server that stops is no such wish.
"""

import asyncio
import logging
from collections.abc import Callable
from hashlib import sha256
from typing import Any
from uuid import UUID

from django.db import DatabaseError, close_old_connections
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.views.decorators.csrf import csrf_exempt
from ninja import Router

from streams.api.authentication import ApiRequest
from streams.api.errors import forget_frames, logged_problem
from streams.api.prefer_wait import endings
from streams.chat.idempotency import IdempotencyKey
from streams.chat.model_names import kind_of, kinds, names
from streams.chat.reply_state import ReplyState, reply_state
from streams.chat.waiting_reader import bind, leave
from streams.delivery.open_streams import open_streams
from streams.delivery.threads import in_thread, threads
from streams.dialects.http import DialectApi, stream_run
from streams.dialects.wire import Wire
from streams.http.pending_response import PendingResponse
from streams.http.problems import Problem, not_found
from streams.http.refusals import openai_refusal
from streams.models import Run

REPEAT = "x-stainless-retry-count"  # how often the SDK has repeated this request
STOPPING = Problem(
    503,
    "unavailable",
    "The server is stopping. Repeat the request: it joins the reply that is being written.",
    headers={"Retry-After": "1"},
)
ERRORS: dict[str, Any] = {
    "responses": {
        status: {
            "description": description,
            "content": {"application/json": {"schema": {"type": "object"}}},
        }
        for status, description in {
            400: "The request cannot be read, or asks for what there is not",
            401: "The request has no valid authentication",
            403: "The token lacks a scope, or the CSRF token is missing",
            404: "It does not exist, or another owner has it",
            408: "The body did not arrive completely",
            409: "A reply is being written, or it is not the latest one",
            411: "The body has no Content-Length",
            413: "The body is larger than any request needs",
            415: "The body is not application/json",
            422: "A value in the request is not valid",
            429: "A limit of this owner is reached",
            500: "A fault of the service, or the reply failed",
            503: "The service is temporarily unavailable",
            505: "A stream was asked for over HTTP/1.0",
        }.items()
    }
}
logger = logging.getLogger(__name__)
Body = Callable[[ReplyState], HttpResponse]


@csrf_exempt
def not_found_view(request: HttpRequest) -> HttpResponse:
    """The 404 of unknown paths under `/v1/`."""
    return openai_refusal(not_found())


def repeatable(request: ApiRequest) -> IdempotencyKey:
    """The identity of this request: its body, and how often the SDK has repeated it."""
    count = request.headers.get(REPEAT, "")
    return IdempotencyKey.repeatable(
        owner=request.auth.owner,
        route=f"POST {request.path}",
        digest=sha256(request.body).hexdigest(),
        repeat=int(count) if count.isascii() and count.isdigit() and len(count) < 6 else 0,
    )


def stream_waiting(
    request: ApiRequest, wire_of: Callable[[Run], Wire], run: UUID
) -> StreamingHttpResponse:
    """The response that streams the run, which ends if the client leaves. Raises `Problem`."""
    on_close = _on_close(run)
    state = reply_state(run)
    try:
        return stream_run(request, wire_of(state.run), request.auth, state, on_close=on_close)
    except Problem:  # the client repeats the request, or leaves
        on_close(True)
        raise


def wait_for_reply(request: ApiRequest, run: UUID, body: Body) -> PendingResponse:
    """The response that `body` makes of the run's end; the run ends if the client leaves."""
    on_close = _on_close(run)
    waiting = True

    async def complete(response: PendingResponse) -> None:
        nonlocal waiting
        try:
            answer = await _answer(run, body)
        except Exception as error:
            answer = openai_refusal(logged_problem(request, error))
            forget_frames(error)
        waiting = False
        response.replace(answer)

    return PendingResponse(openai_refusal(STOPPING), complete, lambda: on_close(waiting))


async def _answer(run: UUID, body: Body) -> HttpResponse:
    if await endings(asyncio.get_running_loop()).report_of(run) is None:
        raise STOPPING if open_streams().draining else not_found()
    return await in_thread(lambda: body(reply_state(run)))


def _on_close(run: UUID) -> Callable[[bool], None]:
    """What to call when the response ends, with whether the client left before that."""
    reader = bind(run)

    def close(left: bool) -> None:
        if left and not open_streams().draining:
            threads(None).submit(_leave, run, reader)

    return close


def _leave(run: UUID, reader: UUID) -> None:
    try:
        leave(run, reader)
    except DatabaseError:
        logger.warning("run %s goes on, though its client has left", run, exc_info=True)
    finally:
        close_old_connections()


def model_item(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "unspool"}


models = Router(tags=["OpenAI"])


@models.get("/models", summary="The models and agents, as OpenAI lists them", openapi_extra=ERRORS)
def list_models(request: ApiRequest) -> dict[str, Any]:
    data = [model_item(name) for kind in kinds() for name in names(kind)]
    return {"object": "list", "data": data}


@models.get("/models/{path:model}", summary="A model, as OpenAI shows it", openapi_extra=ERRORS)
def retrieve_model(request: ApiRequest, model: str) -> dict[str, Any]:
    if kind_of(model) is None:
        raise not_found()
    return model_item(model)


models_api = DialectApi("openai-models", prefix="/v1/", refuse=openai_refusal)
models_api.add_router("", models)
