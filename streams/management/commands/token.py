"""Make, list and revoke the tokens with which programs call the API."""

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError
from django.db.models.functions import Now
from django.utils import timezone

from streams.access.api_tokens import SCOPES, create_token
from streams.models import ApiToken


class Command(BaseCommand):
    help = "Tokens for API clients: create, list, revoke."

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        create = verbs.add_parser("create", help="make one; it is shown this once")
        create.add_argument("user")
        create.add_argument("--name", required=True, help="what it is for")
        create.add_argument("--scopes", nargs="+", choices=SCOPES, default=list(SCOPES))
        create.add_argument("--days", type=int, help="until it expires; never, if not given")
        shown = verbs.add_parser("list", help="a user's, or everybody's")
        shown.add_argument("user", nargs="?")
        revoke = verbs.add_parser("revoke", help="end one, and the streams that it opened")
        revoke.add_argument("id", type=int, help="as `token list` shows it")

    def handle(self, verb: str, **options: Any) -> None:
        match verb:
            case "create":
                self._create(**options)
            case "list":
                self._list(options["user"])
            case _:
                self._revoke(options["id"])

    def _create(
        self, *, user: str, name: str, scopes: list[str], days: int | None, **_: Any
    ) -> None:
        users = get_user_model()
        try:
            owner = users.objects.get_by_natural_key(user)
        except users.DoesNotExist:
            raise CommandError(f"There is no user {user}.") from None
        until = timezone.now() + timedelta(days=days) if days is not None else None
        self.stdout.write(create_token(owner, name, scopes=" ".join(scopes), expires_at=until))

    def _list(self, user: str | None) -> None:
        tokens = ApiToken.objects.select_related("user").order_by("pk")
        if user:
            tokens = tokens.filter(**{f"user__{get_user_model().USERNAME_FIELD}": user})
        for token in tokens:
            known = f"{token.pk}\t{token.user.get_username()}\t{token.name}\t{token.scopes}"
            life = f"expires {token.expires_at or 'never'}\tused {token.last_used_at or 'never'}"
            over = "\trevoked" if token.revoked_at else ""
            self.stdout.write(f"{known}\t{life}{over}")

    def _revoke(self, id: int) -> None:
        if not ApiToken.objects.filter(pk=id, revoked_at=None).update(revoked_at=Now()):
            raise CommandError(f"No token {id} is good: it is unknown, or revoked already.")
        self.stdout.write(f"Token {id} is revoked.")
