"""`manage.py export`: writes all stored data of one owner to stdout, as JSON lines."""

from argparse import ArgumentParser
from typing import Any

import orjson
from django.core.management.base import BaseCommand, CommandError

from streams.chat.personal_data import UnknownOwner, export_rows, owner_named
from streams.log.errors import LogUnavailable


class Command(BaseCommand):
    help = "Writes all stored data of one user, or another owner, to stdout as JSON lines."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("user", nargs="?")
        parser.add_argument("--owner", help="visitor:<uuid>, external:<id> or user:<id>")

    def handle(self, user: str | None, owner: str | None, **_: Any) -> None:
        try:
            named = owner_named(user, owner)
        except UnknownOwner as error:
            raise CommandError(str(error)) from None
        try:
            for row in export_rows(named):
                self.stdout.write(orjson.dumps(row).decode())
        except LogUnavailable:
            detail = "Redis does not answer, so data of the event log is missing. Export again."
            raise CommandError(detail) from None
