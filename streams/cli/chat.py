"""The terminal client's chat: prints replies on stdout, and notes about them on stderr."""

import json
import re
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from threading import Thread

from streams.cli.client import Client, ClientError, Events
from streams.protocol.sse import clean

HISTORY = 6  # earlier messages to print when a conversation is continued
# Escape sequences move the cursor, rename the window and worse. Line feeds and tabs are harmless.
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")

as_json = partial(json.dumps, ensure_ascii=False)


def harmless(text: str) -> str:
    """`text` without CR, and with U+FFFD for each other character that could control a terminal."""
    return CONTROL.sub("\ufffd", text.replace("\r", ""))


class Printer:
    """Prints on a terminal or into a pipe, without characters that could control a terminal."""

    def __init__(self) -> None:
        self.live, self._dim = sys.stdout.isatty(), sys.stderr.isatty()
        self._in_line = False

    def write(self, text: str) -> None:
        """Print on stdout."""
        if text := harmless(text):
            print(text, end="", flush=True)
            self._in_line = not text.endswith("\n")

    def end_line(self) -> None:
        self.write("\n" if self._in_line else "")

    def note(self, text: str) -> None:
        """Print a line on stderr."""
        self.end_line()
        dim, normal = ("\x1b[2m", "\x1b[0m") if self._dim else ("", "")
        print(f"{dim}{harmless(text)}{normal}", file=sys.stderr, flush=True)

    def hint(self, text: str) -> None:
        """Print a line of at most 100 characters on stderr, if that is a terminal."""
        if self._dim:
            line = " ".join(text.split())
            self.note(line if len(line) <= 100 else f"{line:.99}…")

    def reply(self, text: str, printed: str, label: str) -> str:
        """Print the part of the reply `text` that is not printed yet. Returns `text`."""
        if not text.startswith(printed):
            self.note("taken back: the reply starts again")
            printed = ""
        self.write(text[len(printed) :] if printed or not text else label + text)
        return text


class Chat:
    """Asks in `conversation`. If it is "", begins one with `opening`: system prompt and model."""

    def __init__(
        self, client: Client, out: Printer, conversation: str, opening: dict[str, str | None]
    ) -> None:
        self.conversation = conversation
        self._client, self._out, self._opening = client, out, opening

    def ask(self, message: str) -> str:
        """Ask, and print the reply. Returns how its run ended. Raises `ClientError`."""
        path, options = "api/conversations/", self._opening
        if self.conversation:
            path, options = f"{path}{self.conversation}/messages/", {"when_busy": "queue"}
        with self._stoppable() as run:
            accepted = self._client.call("POST", path, {"message": clean(message), **options})
            self.conversation = accepted["conversation"]
            run.set_result(accepted["run"])
            events = self._client.events(accepted["conversation"], accepted["cursor"])
            return self._reply(accepted["run"], events)

    def follow(self, *, forever: bool) -> None:
        """Print the latest messages and each new reply, for ever or until no run is active.

        Raises `ClientError`.
        """
        seen = set[str]()  # the printed messages, and the runs whose replies are printed
        while True:
            events = self._client.events(self.conversation, None)
            _, snapshot = next(events)
            active = [run for run in snapshot["runs"] if run["id"] not in seen]
            run = active[0] if active else None  # the other runs are queued
            for message in snapshot["messages"] if seen else snapshot["messages"][-HISTORY:]:
                if seen.isdisjoint((message["id"], message["run"])):
                    self._out.write(f"{message['role']}: {message['content']}\n")
                    seen.add(message["id"])
                if run and run["message"] == message["id"]:
                    break  # the next messages wait for the reply to this one
            if run:
                seen.add(run["id"])
                with nullcontext(Future[str]()) if forever else self._stoppable() as stoppable:
                    stoppable.set_result(run["id"])
                    self._reply(run["id"], events, run["text"], "assistant: ")
            elif forever:
                next(events)  # something is new, and the next snapshot has it
            else:
                return

    def _reply(self, run: str, events: Events, text: str | None = "", label: str = "") -> str:
        """Print the run's reply, which is `text` so far. Returns how the run ended."""
        printed = ""
        while text is not None:
            if self._out.live:
                printed = self._out.reply(text, printed, label)
            match next(events):
                case "conversation.snapshot", {"runs": runs}:
                    text = {active["id"]: active["text"] for active in runs}.get(run)
                case _, event if event.get("run") != run:
                    pass
                case "run.started", _:  # a new attempt begins the text again
                    text = ""
                case "text.delta", event:
                    text += event["text"]
                case "text.snapshot", event:
                    text = event["text"]
                case "tool.called", call:
                    self._out.hint(f"{call['name']} {as_json(call['input'])}")
                case "tool.returned", result:
                    self._out.hint(f"→ {result.get('error') or as_json(result['output'])}")
                case "source.added", source:
                    self._out.hint(f"source: {source['title']} {source.get('url', '')}")
                case "run.completed" | "run.cancelled" | "run.failed", _:
                    text = None
        # The log may have lost events, but the stored run has the whole reply.
        ended = self._client.call("GET", f"api/runs/{run}/")
        self._out.reply(ended["text"], printed, label)
        self._out.end_line()
        how = f": {ended['error']['reason']}" if ended["error"] else ""
        note = self._out.hint if ended["status"] == "completed" else self._out.note
        note(f"{ended['status']}{how} ({ended['usage']['output_tokens']} tokens)")
        return str(ended["status"])

    @contextmanager
    def _stoppable(self) -> Iterator[Future[str]]:
        """A context: the first Ctrl-C cancels the run once it is known, the second one raises."""
        run = Future[str]()

        def cancel() -> None:
            self._out.note("stopping…")
            with suppress(ClientError):  # the reply continues; the second Ctrl-C leaves it
                self._client.call("POST", f"api/runs/{run.result()}/cancel/")

        def stop(*_: object) -> None:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            Thread(target=cancel, daemon=True).start()

        signal.signal(signal.SIGINT, stop)
        try:
            yield run
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)
