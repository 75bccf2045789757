"""The HTTP code that OpenAI's wires share: repeated requests, the models."""

from hashlib import sha256
from typing import Any

from ninja import Router

from streams.api.authentication import ApiRequest
from streams.chat.idempotency import IdempotencyKey
from streams.chat.model_names import kind_of, kinds, names
from streams.dialects.documentation import BODY, REFUSALS, described
from streams.dialects.http import DialectApi
from streams.http.problems import not_found
from streams.http.refusals import openai_refusal

REPEAT = "x-stainless-retry-count"  # how often the SDK has repeated this request
OWN = {
    400: "The request cannot be read, or asks for something that is not offered",
    409: "A reply is being written, or the named response is not the latest one",
    500: "A fault of the service, or the reply failed",
    505: "A stream was asked for over HTTP/1.0",
}
ERRORS = {"responses": described(REFUSALS | BODY | OWN, "application/json", "object")}


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


models_api = DialectApi("openai-models", prefix="/v1/", refuse=openai_refusal)
models_api.add_router("", models)
