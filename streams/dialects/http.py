"""The HTTP code that all dialects share: parsing, authentication, refusals, streams."""

from collections.abc import Callable
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import URLPattern
from ninja import NinjaAPI
from ninja.errors import HttpError, ValidationError

from streams.api.authentication import ApiRequest, Authentication
from streams.api.errors import forget_frames, logged_problem
from streams.api.json import Parser, Renderer
from streams.api.routing import is_head, wrapped
from streams.chat.reply_state import ReplyState
from streams.delivery.open_streams import StreamLimit, open_streams
from streams.dialects.run_stream import open_run
from streams.dialects.wire import Wire
from streams.http.event_stream import HEADERS, EventStreamResponse, stream_head
from streams.http.problems import TOO_MANY_STREAMS, Problem
from streams.http.refusals import Refuse

Answer = HttpResponse | StreamingHttpResponse
SYNTAX = 256 * 1024  # bytes outside of strings in a body, which may hold a list of messages
HTTP_1_0 = Problem(
    505,
    "http_version",
    "A stream needs HTTP/1.1: over HTTP/1.0 a broken reply looks like a complete one.",
)


class DialectApi(NinjaAPI):
    """The API of another client's wire, below `prefix`; `refuse` writes its refusals."""

    def __init__(
        self,
        name: str,
        *,
        prefix: str,
        refuse: Refuse,
        authentication: Authentication | None = None,
    ) -> None:
        super().__init__(
            title=f"Unspool: {name}",
            urls_namespace=f"unspool-{name}",
            auth=authentication or Authentication(),
            parser=Parser(syntax=SYNTAX),
            renderer=Renderer(),
            docs_url=None,
            openapi_url=None,  # the document of the service's own API has these routes too
        )
        self.prefix = prefix
        self.refuse = refuse

        def on_error(request: HttpRequest, error: Exception) -> HttpResponse:
            problem = logged_problem(request, error)
            forget_frames(error)
            return refuse(problem)

        for kind in (Exception, Http404, HttpError, ValidationError):
            self.add_exception_handler(kind, on_error)  # type: ignore[arg-type]

    def addresses(self) -> list[URLPattern]:
        """The URL patterns below the prefix."""
        patterns = [pattern for pattern in self.urls[0] if isinstance(pattern, URLPattern)]
        return [wrapped(one, self.refuse) for one in patterns if one.name != "api-root"]


class TextAuthentication(Authentication):
    """Authentication of a dialect whose client may send its JSON as `text/plain`."""

    media_types = (*Authentication.media_types, "text/plain")


def check_stream(request: ApiRequest) -> None:
    """Raise `Problem` if the caller can get no stream now. Call it before a run is created."""
    scope: dict[str, Any] = getattr(request, "scope", {})  # a test's request has none
    if scope.get("http_version") == "1.0":
        raise HTTP_1_0
    try:
        open_streams().check_limit(request.auth.owner)
    except StreamLimit:
        raise TOO_MANY_STREAMS from None


def stream_run(
    request: ApiRequest,
    wire: Wire,
    state: ReplyState,
    *,
    headers: dict[str, str] | None = None,
    on_close: Callable[[bool], None] | None = None,
) -> Answer:
    """The response that streams the run in this wire. `on_close`: see `RunStream`.

    A HEAD request opens no stream. Raises `Problem`.
    """
    check_stream(request)
    fields = {**HEADERS, **(headers or {})}
    if is_head(request):
        return stream_head(fields)
    try:
        frames = open_run(wire, request.auth, state, on_close)
    except StreamLimit:
        raise TOO_MANY_STREAMS from None
    return EventStreamResponse(frames, headers=fields)
