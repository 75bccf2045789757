"""The conversation page: a shell that the browser fills through the public API."""

from uuid import UUID

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_safe


@require_safe
@ensure_csrf_cookie
def page(request: HttpRequest, conversation: UUID | None = None) -> HttpResponse:
    """Send the shell, with the cookies that a visitor needs to send a message. Stores nothing.

    The script reads the conversation's id from the URL. The shell contains no data of the
    conversation, so it needs no access check.
    """
    response = render(request, "streams/page.html", {"csrf_cookie": settings.CSRF_COOKIE_NAME})
    signed_in = request.user.is_authenticated  # this reads the session, and drops a stale key
    if settings.ALLOW_ANONYMOUS and not signed_in and not request.session.session_key:
        _reserve_session(request, response)
    return response


def _reserve_session(request: HttpRequest, response: HttpResponse) -> None:
    response.set_cookie(
        settings.SESSION_COOKIE_NAME,
        request.session.reserve(),  # type: ignore[attr-defined]  # streams.access.sessions has it
        max_age=settings.SESSION_COOKIE_AGE,
        domain=settings.SESSION_COOKIE_DOMAIN,
        path=settings.SESSION_COOKIE_PATH,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=settings.SESSION_COOKIE_HTTPONLY,
        samesite=settings.SESSION_COOKIE_SAMESITE,  # type: ignore[arg-type]  # "None" or "Lax"
    )


urlpatterns = [
    path("", page, name="page"),
    path("c/<uuid:conversation>", page, name="conversation"),
]
