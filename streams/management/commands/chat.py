"""`manage.py chat`: chats with a running service in a terminal, over its public API."""

import os
import sys
from argparse import ArgumentParser
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from streams.cli.chat import Chat, Printer, harmless
from streams.cli.client import Client, ClientError

with suppress(ImportError):
    import readline  # noqa: F401  # if the library exists, `input` can edit its line

EXIT = {"completed": 0, "failed": 1, "cancelled": 130}  # 130: as if Ctrl-C had ended the process


class Command(BaseCommand):
    help = "Chat with a running service. Ctrl-C stops a reply; at the prompt it leaves."
    requires_system_checks: list[str] = []  # noqa: RUF012  # no database is needed here

    def add_arguments(self, parser: ArgumentParser) -> None:
        here = f"http://127.0.0.1:{settings.PORT}/"
        parser.add_argument("message", nargs="*", help="ask this and leave; without it, read stdin")
        parser.add_argument("--url", default=here, help=f"the service's address ({here})")
        parser.add_argument("--token", help="an API token; without it, a visitor kept in DATA_DIR")
        parser.add_argument("--conversation", type=UUID, help="continue this conversation")
        parser.add_argument("--follow", action="store_true", help="only read it (or the newest)")
        parser.add_argument("--model", help="a model or an agent of the service")
        parser.add_argument("--system", help="the system prompt")

    def handle(self, **options: Any) -> None:
        try:
            sys.exit(_chat(options))
        except ClientError as error:
            raise CommandError(harmless(str(error))) from None
        except KeyboardInterrupt:
            sys.exit(EXIT["cancelled"])
        except BrokenPipeError:
            os._exit(1)  # the pipe has no reader any more, so Python must not flush into it


def _chat(options: dict[str, Any]) -> int:
    follow, message, conversation = options["follow"], options["message"], options["conversation"]
    opening = {"model": options["model"], "system": options["system"]}
    if (follow and message) or ((conversation or follow) and any(opening.values())):
        raise CommandError("--follow only reads; --model and --system begin a conversation.")
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # for old encodings
    out = Printer()
    url = options["url"] if "://" in options["url"] else f"http://{options['url']}"
    client = Client(url, options["token"], Path(settings.DATA_DIR), out.note)
    if follow and not conversation:
        items = client.call("GET", "api/conversations/")["items"]
        if not items:
            raise CommandError("You have no conversation yet.")
        conversation = items[0]["id"]
    chat = Chat(client, out, str(conversation or ""), opening)
    if follow:
        chat.follow(forever=True)
    if not message and sys.stdin.isatty() and sys.stdout.isatty():
        return _prompt(chat, out)
    text = " ".join(message) or sys.stdin.buffer.read().decode(errors="replace")
    return EXIT[chat.ask(text.rstrip("\n"))]


def _prompt(chat: Chat, out: Printer) -> int:
    with suppress(EOFError, KeyboardInterrupt):
        if chat.conversation:
            chat.follow(forever=False)
        while True:
            if (text := input("› ")).strip():
                try:
                    chat.ask(text)
                except ClientError as error:
                    out.note(str(error))
    if chat.conversation:
        out.note(f"\nContinue with --conversation {chat.conversation}")
    return 0
