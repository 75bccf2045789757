"""The ways in which a reader's access ends, each with a client that has it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone

from streams.access.api_tokens import create_token
from streams.service_models import ApiToken
from tests.integration.support.api_client import client_with_token
from tests.integration.support.signed_tokens import sign

Way = Callable[[], None]


class Directory(ModelBackend):
    """Another application's users, known to it by their ids."""

    shut_out = False

    def get_user(self, user_id: Any) -> Any:
        return None if self.shut_out else super().get_user(user_id)


DIRECTORY = f"{__name__}.Directory"


def change_password() -> None:
    user = User.objects.get()
    user.set_password("after")
    user.save()


def expire_sessions() -> None:
    Session.objects.update(expire_date=timezone.now() - timedelta(seconds=1))


def end_sessions() -> None:
    Session.objects.all().delete()


def shut_user_out() -> None:
    User.objects.update(is_active=False)


def leave_directory() -> None:
    Directory.shut_out = True


def revoke_token() -> None:
    ApiToken.objects.update(revoked_at=timezone.now())


def expire_token() -> None:
    ApiToken.objects.update(expires_at=timezone.now() - timedelta(seconds=1))


def take_scope() -> None:
    ApiToken.objects.update(scopes="write")


def signed_in(user: User, backend: str = "") -> Client:
    client = Client()
    client.force_login(user, backend or None)
    return client


def visiting(_: User) -> Client:
    client = Client()
    client.get("/")
    return client


def holding(user: User) -> Client:
    return client_with_token(create_token(user, "job", scopes="read write"))


def passing(user: User) -> Client:
    return client_with_token(sign(f"user:{user.pk}", scope="read write"))


def of_directory(user: User) -> Client:
    return signed_in(user, DIRECTORY)


WAYS: dict[str, tuple[Callable[[User], Client], Way]] = {
    "the password is changed": (signed_in, change_password),
    "the session expires": (signed_in, expire_sessions),
    "the session is deleted": (signed_in, end_sessions),
    "the user is shut out": (signed_in, shut_user_out),
    "the other application's user is shut out there": (of_directory, leave_directory),
    "the other application's user is shut out here": (of_directory, shut_user_out),
    "the visitor's session is deleted": (visiting, end_sessions),
    "the visitor's session expires": (visiting, expire_sessions),
    "the token is revoked": (holding, revoke_token),
    "the token expires": (holding, expire_token),
    "the token loses its scope": (holding, take_scope),
    "the token's user is shut out": (holding, shut_user_out),
    "the signed token's user is shut out": (passing, shut_user_out),
}
