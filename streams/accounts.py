"""Users' way in and out: the pages of django-allauth that need no e-mail, and whom they take."""

from typing import Any

from allauth.account import views
from allauth.account.adapter import DefaultAccountAdapter
from django.conf import settings
from django.http import HttpRequest
from django.urls import path


class Accounts(DefaultAccountAdapter):  # type: ignore[misc]  # the library has no types
    """What allauth asks of us."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return bool(settings.ALLOW_SIGNUP)

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
