"""Talk with a running service in a terminal, over its public API alone."""

import os
import signal
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console

from streams.cli.backoff import Unreachable
from streams.cli.client import Client, Refused
from streams.cli.paper import Paper
from streams.cli.screen import Screen
from streams.cli.talk import Stage, Talk
from streams.protocol.sse import clean

with suppress(ImportError):
    import readline  # noqa: F401  # `input` then edits its line, where there is such a library

INTERRUPTED = 130  # what a shell calls the end by Ctrl-C
PROMPT = "› "


class Command(BaseCommand):
    help = "Talk with a running service. Ctrl-C stops a reply; at the prompt it leaves."
    requires_system_checks: list[str] = []  # noqa: RUF012  # it may run far from the database

    def add_arguments(self, parser: ArgumentParser) -> None:
        here = f"http://127.0.0.1:{settings.PORT}/"
        parser.add_argument("message", nargs="*", help="asked, and that is all; else from stdin")
        parser.add_argument("--url", default=here, help=f"where the service is ({here})")
        parser.add_argument("--token", help="who is asking; else a visitor, kept in DATA_DIR")
        parser.add_argument("--conversation", type=UUID, help="go on with this one")
        parser.add_argument("--follow", action="store_true", help="only watch: that, or the newest")
        parser.add_argument("--model", help="of those that the service offers")
        parser.add_argument("--system", help="what the model is to be")

    def handle(self, **options: Any) -> None:
        try:
            sys.exit(self._talk(**options))
        except (Refused, Unreachable) as error:
            raise CommandError(str(error)) from None
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except BrokenPipeError:
            # Whoever read has gone, and must not be written to at exit either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)

    def _talk(
        self,
        *,
        message: list[str],
        url: str,
        token: str | None,
        conversation: UUID | None,
        follow: bool,
        model: str | None,
        system: str | None,
        **_: Any,
    ) -> int:
        if (conversation or follow) and (model or system):
            raise CommandError("--model and --system are for a conversation that is begun.")
        if follow and message:
            raise CommandError("--follow only watches: leave the message out.")
        url = url if "://" in url else f"http://{url}"
        stage = _stage(follow=follow)
        client = Client(url, token=token, cookies=_cookies(url), tell=stage.tell)
        offered = client.arrive()
        if model and model not in offered:
            raise CommandError(f"There is no model {model}, only: {', '.join(offered)}.")
        if follow:
            return _watch(Talk(client, stage), conversation or client.newest())
        alone = bool(message) or not (sys.stdin.isatty() and sys.stdout.isatty())
        talk = Talk(
            client, stage, conversation=conversation, system=system, model=model, alone=alone
        )
        if alone:
            return _ask(talk, " ".join(message) if message else _everything())
        return self._dialogue(talk)

    def _dialogue(self, talk: Talk) -> int:
        if talk.conversation:
            with _stoppable(talk):
                talk.join(talk.conversation)
        while True:
            try:
                text = clean(input(PROMPT))
            except (EOFError, KeyboardInterrupt):
                break
            if not text.strip():
                continue
            self.stdout.write()
            try:
                with _stoppable(talk):
                    talk.ask(text)
            except Refused as error:
                self.stderr.write(str(error))
        goes_on = f"\nGo on with --conversation {talk.conversation}" if talk.conversation else ""
        self.stdout.write(goes_on)
        return 0


def _stage(*, follow: bool) -> Stage:
    if sys.stdout.isatty():
        return Screen(Console(), idle="watching") if follow else Screen(Console())
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # there are encodings that lack most characters
    return Paper(sys.stdout, Console(stderr=True), dialogue=follow)


def _cookies(url: str) -> Path:
    """Where the visitor is kept that we are at this service: another one knows another."""
    place = urlsplit(url).netloc.replace(":", "-").rpartition("@")[2]
    return Path(settings.DATA_DIR) / f"chat-{place}.cookies"


def _everything() -> str:
    text = sys.stdin.buffer.read().decode(errors="replace")
    if not text.strip():
        raise CommandError("There is nothing to ask: stdin is empty.")
    return text.rstrip("\n")


def _ask(talk: Talk, text: str) -> int:
    with _stoppable(talk) as stopped:
        outcome = talk.ask(clean(text))
    return 0 if not outcome.reason else INTERRUPTED if stopped else 1


def _watch(talk: Talk, conversation: UUID) -> int:
    try:
        talk.watch(conversation)
    except KeyboardInterrupt:
        pass  # that is how one leaves
    return 0


@contextmanager
def _stoppable(talk: Talk) -> Iterator[list[str]]:
    """The first Ctrl-C within stops the reply, and then stands in the list; a second leaves."""
    stopped: list[str] = []

    def stop(number: int, frame: FrameType | None) -> None:
        # Nothing is torn: the stream is heard on, until it says that the reply is over.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stopped.append("by Ctrl-C")
        talk.stop()

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, before)
