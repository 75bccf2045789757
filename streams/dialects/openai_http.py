"""What OpenAI's wires share over HTTP: refusals, repeated requests, the models."""

from hashlib import sha256
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from ninja import Router

from streams.api.authentication import ApiRequest
from streams.api.json import dump_json
from streams.chat.idempotency import IdempotencyKey
from streams.chat.model_names import kind_of, kinds, names
from streams.dialects.http import DialectApi
from streams.http.problems import Problem, not_found
from streams.protocol.sse import clean

REPEAT = "x-stainless-retry-count"  # how often the SDK has repeated this request
TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
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


def refuse(problem: Problem) -> HttpResponse:
    """A refusal in OpenAI's form. The SDKs repeat some statuses, but none that would stay."""
    kind = "server_error" if problem.status >= 500 else "invalid_request_error"
    error = {
        "message": problem.detail,
        "type": TYPES.get(problem.status, kind),
        "param": problem.errors[0]["field"] if problem.errors else None,
        "code": problem.code,
    }
    lasting = {"x-should-retry": "false"} if problem.status == 409 else {}
    return error_response(problem.status, error, {**lasting, **problem.headers})


def error_response(
    status: int, error: dict[str, str | None], headers: dict[str, str]
) -> HttpResponse:
    """An error in OpenAI's form. It may quote the request, so its text is made encodable."""
    encodable = {name: clean(text) if text else text for name, text in error.items()}
    return HttpResponse(
        dump_json({"error": encodable}),
        status=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store", **headers},
    )


@csrf_exempt
def not_found_view(request: HttpRequest) -> HttpResponse:
    """The 404 of unknown paths under `/v1/`."""
    return refuse(not_found())


def repeatable(request: ApiRequest) -> IdempotencyKey:
    """The identity of this request: its body, and how often the SDK has repeated it."""
    count = request.headers.get(REPEAT, "")
    return IdempotencyKey.repeatable(
        owner=request.auth.owner,
        route=f"POST {request.path}",
        digest=sha256(request.body).hexdigest(),
        repeat=int(count) if count.isascii() and count.isdigit() and len(count) < 6 else 0,
    )


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


models_api = DialectApi("openai-models", prefix="/v1/", refuse=refuse)
models_api.add_router("", models)
