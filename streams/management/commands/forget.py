"""`manage.py forget`: deletes all stored data of one owner: rows, event logs and the user."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from streams.chat.erasure import erase_leftovers
from streams.chat.personal_data import UnknownOwner, erase, owner_named


class Command(BaseCommand):
    help = "Deletes one user, or another owner, with all conversations. Run `export` first."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("user", nargs="?")
        parser.add_argument("--owner", help="visitor:<uuid>, external:<id> or user:<id>")
        parser.add_argument("--yes", action="store_true", help="do not ask")

    def handle(self, user: str | None, owner: str | None, yes: bool, **_: Any) -> None:
        try:
            named = owner_named(user, owner)
        except UnknownOwner as error:
            raise CommandError(str(error)) from None
        if not yes and input(f"Delete {named} and all it has, for good? [y/N] ").lower() != "y":
            raise CommandError("Nothing was deleted.")
        self.stdout.write(f"{named} is forgotten, with {erase(named)} conversations.")
        for sentence in erase_leftovers():
            self.stdout.write(sentence)
