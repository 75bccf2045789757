"""Signing in, out and up: the pages of django-allauth that need no e-mail, and whom they take."""

from typing import Any

from allauth.account import views
from allauth.account.adapter import DefaultAccountAdapter
from allauth.core.internal.ratelimit import get_ip
from django.conf import settings
from django.http import HttpRequest
from django.urls import path


class Accounts(DefaultAccountAdapter):  # type: ignore[misc]  # the library has no types
    """What allauth asks of us."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return bool(settings.ALLOW_SIGNUP)

    def _get_login_attempts_cache_key(self, request: HttpRequest, **credentials: Any) -> str:
        """Count the failed logins of a name for each address apart.

        Counted for the name alone, wrong passwords from anywhere would shut its user out. The
        host is no part of it, because a client may write what it likes there.
        """
        return f"{get_ip(request)} {credentials.get('username', '').casefold()}"

    def add_message(self, *_: Any, **__: Any) -> None:
        """Nothing: the page says who is signed in, and would never show the rest."""


urlpatterns = [
    path("login/", views.login, name="account_login"),
    path("logout/", views.logout, name="account_logout"),
    path("signup/", views.signup, name="account_signup"),
    path("inactive/", views.account_inactive, name="account_inactive"),
    path("password/change/", views.password_change, name="account_change_password"),
    path("reauthenticate/", views.reauthenticate, name="account_reauthenticate"),
]
