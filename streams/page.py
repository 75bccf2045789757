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
    """Begin the session, so that a visitor owns what he makes, and send the shell.

    Which conversation the address names is the script's to read: the shell says nothing of it,
    so there is nothing in it that could be somebody else's.
    """
    if request.session.session_key is None:
        request.session.create()
    return render(request, "streams/page.html", {"csrf_cookie": settings.CSRF_COOKIE_NAME})


urlpatterns = [
    path("", page, name="page"),
    path("c/<uuid:conversation>", page, name="conversation"),
]
