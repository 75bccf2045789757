"""The account pages of django-allauth that need no e-mail, and who may sign up or log in."""

from typing import Any

from allauth.account import views
from allauth.account.adapter import DefaultAccountAdapter
from allauth.core.internal.ratelimit import get_ip
from django.conf import settings
from django.http import HttpRequest
from django.urls import path


class Accounts(DefaultAccountAdapter):  # type: ignore[misc]  # the library has no types
    """The adapter that django-allauth calls for the decisions of this service."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return bool(settings.ALLOW_SIGNUP)

    def _get_login_attempts_cache_key(self, request: HttpRequest, **credentials: Any) -> str:
        """The key under which allauth counts failed logins: client address and name.

        If failures were counted by name alone, wrong passwords from anywhere would lock the user
        out. The key omits the `Host` header, because a client may send any value in it.
        """
        return f"{get_ip(request)} {credentials.get('username', '').casefold()}"

    def add_message(self, *_: Any, **__: Any) -> None:
        """Do nothing, because the page never displays messages."""


urlpatterns = [
    path("login/", views.login, name="account_login"),
    path("logout/", views.logout, name="account_logout"),
    path("signup/", views.signup, name="account_signup"),
    path("inactive/", views.account_inactive, name="account_inactive"),
    path("password/change/", views.password_change, name="account_change_password"),
    path("reauthenticate/", views.reauthenticate, name="account_reauthenticate"),
]
