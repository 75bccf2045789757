"""The handshake of a WebSocket: the checks of a stream's request, and a check of the `Origin`."""

from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import CsrfViewMiddleware
from django.views.decorators.csrf import csrf_exempt

from streams.access.authorization import readable_conversation
from streams.api.errors import error_response
from streams.api.events import cursor_of, is_idle, open_stream, reader_of, until_idle_of
from streams.delivery.open_streams import OpenStream
from streams.http.problems import Problem
from streams.log.channels import channel_of

HANDSHAKE = "unspool.handshake"  # an ASGI extension: the request asks for a WebSocket
UPGRADE = {"Upgrade": "websocket", "Connection": "Upgrade"}
NO_SOCKET = Problem(426, "upgrade_required", "Open it as a WebSocket.", headers=UPGRADE)
FOREIGN = Problem(
    403,
    "csrf_failed",
    "With a session, the Origin must be this site's or one of CSRF_TRUSTED_ORIGINS.",
)


class SocketResponse(HttpResponse):
    """The handshake is accepted. The socket sends this stream, and must close it."""

    def __init__(self, stream: OpenStream, token: str) -> None:
        super().__init__()
        self.stream = stream
        self.token = token  # the token that authenticated the handshake; "" if a session did


@csrf_exempt  # it changes nothing, and a POST gets 405
def socket(request: HttpRequest, conversation: UUID) -> HttpResponse:
    """Open the conversation's stream for a WebSocket. Returns 204 if nothing is left to send."""
    try:
        if request.method not in ("GET", "HEAD"):
            detail = "Open it as a WebSocket, with GET."
            raise Problem(405, "method_not_allowed", detail, headers={"Allow": "GET, HEAD"})
        if HANDSHAKE not in getattr(request, "scope", {}).get("extensions", {}):
            raise NO_SOCKET
        token = token_of(request)
        if not token:
            check_origin(request)
        caller = reader_of(request)
        found = readable_conversation(caller, conversation)
        cursor = cursor_of(request, channel_of(found.id))
        until_idle = until_idle_of(request)
        if until_idle and cursor is not None and is_idle(found, cursor):
            return HttpResponse(status=204)
        stream = open_stream(caller, found, cursor, until_idle=until_idle)
        return SocketResponse(stream, token)
    except Exception as error:
        return error_response(request, error)


def token_of(request: HttpRequest) -> str:
    """The token that authenticates the request; "" if a session does."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return request.GET.get("token", "") or (token.strip() if scheme.lower() == "bearer" else "")


def check_origin(request: HttpRequest) -> None:
    """Raise `Problem` unless a page of this site, or of a trusted origin, opens the socket.

    A browser sends the cookies with any page's handshake, and no preflight precedes it.
    """
    middleware: Any = CsrfViewMiddleware(lambda _: HttpResponse())  # the check of a POST's Origin
    if "Origin" not in request.headers or not middleware._origin_verified(request):
        raise FOREIGN
