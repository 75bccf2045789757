"""`manage.py chat`: chats with a running service in a terminal, over its public API."""

import os
import sys
from argparse import ArgumentParser
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from streams.cli.chat import Chat, Printer, harmless
from streams.cli.client import Client, ClientError
from streams.protocol.sse import clean

with suppress(ImportError):
    import readline  # noqa: F401  # `input` then edits its line, where the library exists


INTERRUPTED = 130  # the exit status of a process that Ctrl-C ended, as shells report it


class Command(BaseCommand):
    help = "Chat with a running service. Ctrl-C stops a reply; at the prompt it leaves."
    requires_system_checks: list[str] = []  # noqa: RUF012  # no database is needed here

    def add_arguments(self, parser: ArgumentParser) -> None:
        here = f"http://127.0.0.1:{settings.PORT}/"
        parser.add_argument("message", nargs="*", help="ask this and leave; without it, read stdin")
        parser.add_argument("--url", default=here, help=f"the service's address ({here})")
        parser.add_argument("--token", help="an API token; without it, a visitor kept in DATA_DIR")
        parser.add_argument("--conversation", type=UUID, help="continue this conversation")
        parser.add_argument("--follow", action="store_true", help="only read it, or the newest one")
        parser.add_argument("--model", help="a model or an agent of the service")
        parser.add_argument("--system", help="the system prompt")

    def handle(self, **options: Any) -> None:
        try:
            sys.exit(_chat(options))
        except ClientError as error:
            raise CommandError(harmless(str(error))) from None
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except BrokenPipeError:
            # The pipe has no reader any more, so Python must not flush into it at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)


def _chat(options: dict[str, Any]) -> int:
    conversation, follow, model = options["conversation"], options["follow"], options["model"]
    if (conversation or follow) and (model or options["system"]):
        raise CommandError("--model and --system are for a new conversation.")
    if follow and options["message"]:
        raise CommandError("--follow only reads: leave the message out.")
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # some encodings lack most characters
    url = options["url"] if "://" in options["url"] else f"http://{options['url']}"
    site = urlsplit(url).netloc.replace(":", "-").rpartition("@")[2]
    out = Printer()
    cookies = Path(settings.DATA_DIR) / f"chat-{site}.cookies"
    client = Client(url, options["token"], cookies, out.note)
    models = [item["id"] for item in client.call("GET", "api/models/")["items"]]
    if model and model not in models:
        known = ", ".join(models)
        raise CommandError(harmless(f"There is no model or agent {model}, only: {known}."))
    chat = Chat(client, out, conversation, model=model, system=options["system"])
    if follow:
        with suppress(KeyboardInterrupt):
            chat.follow(conversation or _newest(client), until_idle=False)
        return 0
    if not options["message"] and sys.stdin.isatty() and sys.stdout.isatty():
        return _prompt(chat, out)
    text = " ".join(options["message"]) or sys.stdin.buffer.read().decode(errors="replace")
    if not text.strip():
        raise CommandError("There is nothing to ask: stdin is empty.")
    with chat.stoppable() as stopped:
        completed = chat.ask(clean(text.rstrip("\n")))
    return 0 if completed else INTERRUPTED if stopped else 1


def _newest(client: Client) -> UUID:
    items = client.call("GET", "api/conversations/")["items"]
    if not items:
        raise CommandError("You have no conversation yet.")
    return UUID(items[0]["id"])


def _prompt(chat: Chat, out: Printer) -> int:
    if chat.conversation:
        with chat.stoppable():
            chat.follow(chat.conversation, until_idle=True)
    while True:
        try:
            text = clean(input("› "))
        except (EOFError, KeyboardInterrupt):
            break
        try:
            with chat.stoppable():
                if text.strip():
                    chat.ask(text)
        except ClientError as error:
            out.note(str(error))
    if chat.conversation:
        out.note(f"\nContinue with --conversation {chat.conversation}")
    return 0
