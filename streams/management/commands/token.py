"""`manage.py token`: creates, lists and revokes API tokens."""

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError
from django.db.models.functions import Now
from django.utils import timezone

from streams.access.api_tokens import SCOPES, create_token
from streams.service_models import ApiToken


class Command(BaseCommand):
    help = "Tokens for API clients: create, list, revoke."

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        create = verbs.add_parser("create", help="create a token; it is shown only once")
        create.add_argument("user")
        create.add_argument("--name", required=True, help="what the token is for")
        create.add_argument("--scopes", nargs="+", choices=SCOPES, default=list(SCOPES))
        create.add_argument("--days", type=int, help="until it expires; without it, never")
        listing = verbs.add_parser("list", help="list the tokens of one user, or of all")
        listing.add_argument("user", nargs="?")
        revoke = verbs.add_parser("revoke", help="end a token, and the streams that it opened")
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
            row = f"{token.pk}\t{token.user.get_username()}\t{token.name}\t{token.scopes}"
            times = f"expires {token.expires_at or 'never'}\tused {token.last_used_at or 'never'}"
            revoked = "\trevoked" if token.revoked_at else ""
            self.stdout.write(f"{row}\t{times}{revoked}")

    def _revoke(self, id: int) -> None:
        if not ApiToken.objects.filter(pk=id, revoked_at=None).update(revoked_at=Now()):
            raise CommandError(f"Token {id} does not exist, or is revoked already.")
        self.stdout.write(f"Token {id} is revoked.")
