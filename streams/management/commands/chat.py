"""`manage.py chat`: chats with a running service in a terminal, over its public API."""

import os
import sys
from argparse import ArgumentParser
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.management.base import BaseCommand

from streams.cli.chat import Chat, Printer
from streams.cli.client import Client, ClientError

with suppress(ImportError):
    import readline  # noqa: F401  # `input` then edits its line, where the library exists

EXIT = {"completed": 0, "failed": 1, "cancelled": 130}  # 130: as if Ctrl-C had ended the process


class Command(BaseCommand):
    help = "Chat with a running service. Ctrl-C stops a reply; at the prompt it leaves."
    requires_system_checks: list[str] = []  # noqa: RUF012  # no database is needed here

    def add_arguments(self, parser: ArgumentParser) -> None:
        here = f"http://127.0.0.1:{settings.PORT}/"
        asks = parser.add_mutually_exclusive_group()
        asks.add_argument("message", nargs="*", default=[], help="ask this; without it, read stdin")
        asks.add_argument("--follow", action="store_true", help="only read it, or the newest one")
        begins = parser.add_mutually_exclusive_group()
        begins.add_argument("--model", help="begin one with this model or agent of the service")
        begins.add_argument("--conversation", type=UUID, help="continue this conversation")
        parser.add_argument("--url", default=here, help=f"the service's address ({here})")
        parser.add_argument("--token", help="an API token; without it, a visitor kept in DATA_DIR")

    def handle(self, **options: Any) -> None:
        out, words = Printer(), options["message"]
        try:
            client = Client(options["url"], options["token"], Path(settings.DATA_DIR), out.note)
            chat = Chat(client, out, str(options["conversation"] or ""), options["model"])
            if options["follow"]:
                chat.follow()
            if not words and out.live and sys.stdin.isatty():
                _prompt(chat, out)
                status = "completed"
            else:
                text = " ".join(words) or sys.stdin.buffer.read().decode(errors="replace")
                status = chat.ask(text.rstrip("\n"))
            if out.live and chat.conversation:
                out.note(f"Continue with --conversation {chat.conversation}")
            sys.exit(EXIT[status])
        except ClientError as error:
            out.note(str(error))
            sys.exit(EXIT["failed"])
        except KeyboardInterrupt:
            sys.exit(EXIT["cancelled"])
        except BrokenPipeError:
            os._exit(1)  # the pipe has no reader any more, so Python must not flush into it


def _prompt(chat: Chat, out: Printer) -> None:
    """Ask what is typed, until Ctrl-C or Ctrl-D at the prompt."""
    with suppress(EOFError, KeyboardInterrupt):
        while True:
            if (text := input("› ")).strip():
                try:
                    chat.ask(text)
                except ClientError as error:
                    out.note(str(error))
    out.write("\n")
