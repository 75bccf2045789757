"""The HTTP API: its routes, JSON in and out, errors as problem details, an OpenAPI document."""

from typing import Any

from django.http import Http404
from django.urls import URLPattern
from django.views.decorators.http import require_safe
from ninja import NinjaAPI
from ninja.errors import HttpError, ValidationError, ValidationErrorContext
from ninja.operation import Operation

from streams.api.authentication import Authentication
from streams.api.conversations import router as conversations
from streams.api.errors import error_response, forget_frames
from streams.api.json import Parser, Renderer
from streams.api.models import router as models
from streams.api.openapi import complete
from streams.api.routing import wrapped
from streams.api.runs import router as runs


class Api(NinjaAPI):
    """Django Ninja's API class, with a complete OpenAPI document."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._also: dict[NinjaAPI, str] = {}

    def document_also(self, api: NinjaAPI, prefix: str) -> None:
        """Add the operations of another API, whose paths begin with `prefix`, to the document."""
        self._also[api] = prefix

    def get_openapi_schema(self, **where: Any) -> Any:
        document = super().get_openapi_schema(**where)
        for api, prefix in self._also.items():
            other = api.get_openapi_schema(path_prefix=prefix)
            document["paths"] |= other["paths"]
            document["components"]["schemas"] |= other["components"].get("schemas", {})
        return complete(document)

    def validation_error_from_error_contexts(
        self, error_contexts: list[ValidationErrorContext[Any]]
    ) -> ValidationError:
        error = super().validation_error_from_error_contexts(error_contexts)
        for context in error_contexts:
            forget_frames(context.pydantic_validation_error)
        return error

    def get_openapi_operation_id(self, operation: Operation) -> str:
        return operation.view_func.__name__


api = Api(
    title="Unspool",
    version="0.1.0",
    description="LLM replies that survive a lost connection.",
    urls_namespace="unspool",
    auth=Authentication(),
    parser=Parser(),
    renderer=Renderer(),
    docs_decorator=require_safe,
)
# Ninja has a default handler for each of these, which must be replaced. By its annotations Ninja
# may pass an exception's class, but it always passes the instance.
for kind in (Exception, Http404, HttpError, ValidationError):
    api.add_exception_handler(kind, error_response)  # type: ignore[arg-type]
api.add_router("/conversations", conversations)
api.add_router("/runs", runs)
api.add_router("/models", models)


def addresses() -> list[URLPattern]:
    """The URL patterns of the API under `/api/`, except the event stream's."""
    return [wrapped(pattern) for pattern in api.urls[0] if isinstance(pattern, URLPattern)]
