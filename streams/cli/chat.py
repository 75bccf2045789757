"""The terminal client's chat: prints replies on stdout, and notes about them on stderr."""

import re
import sys

from streams.cli.client import Client, ClientError, Events
from streams.protocol.sse import clean

# Escape sequences move the cursor, rename the window and worse. Line feeds and tabs are harmless.
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Printer:
    """Prints on a terminal or into a pipe, with U+FFFD for what could control the terminal."""

    def __init__(self) -> None:
        self.live = sys.stdout.isatty()  # a pipe gets each reply when it is whole
        self._style = "\x1b[2m{}\x1b[0m" if sys.stderr.isatty() else "{}"  # dim
        self._in_line = False

    def write(self, text: str) -> None:
        """Print on stdout."""
        if text := CONTROL.sub("\ufffd", text.replace("\r", "")):
            self._in_line = not text.endswith("\n")
            print(text, end="", flush=True)

    def note(self, text: str) -> None:
        """Print a line on stderr."""
        self.write("\n" if self._in_line else "")
        line = CONTROL.sub("\ufffd", " ".join(text.split()))
        print(self._style.format(line), file=sys.stderr, flush=True)


class Chat:
    """Asks in `conversation`; without one, begins it with `model`."""

    def __init__(self, client: Client, out: Printer, conversation: str, model: str | None) -> None:
        self.conversation = conversation
        self._client, self._out, self._model = client, out, model
        self._printed = ""  # of the present reply

    def ask(self, message: str) -> str:
        """Ask, and print the reply. Returns how its run ended. Raises `ClientError`.

        Ctrl-C cancels the run. The second Ctrl-C leaves it.
        """
        path, options = "api/conversations/", {"model": self._model}
        if self.conversation:
            path, options = f"{path}{self.conversation}/messages/", {"when_busy": "queue"}
        try:
            body = {"message": clean(message), **options}
            asked = self._client.call("POST", path, "run", "conversation", "cursor", body=body)
        except KeyboardInterrupt:
            self._out.note("left before the service responded: it may have accepted the message")
            raise
        run, self.conversation = asked["run"], asked["conversation"]
        self._printed = ""
        try:
            return self._reply(run, self._client.events(self.conversation, asked["cursor"]))
        except KeyboardInterrupt:
            self._client.call("POST", f"api/runs/{run}/cancel/")
            return self._reply(run, self._client.events(self.conversation), self._printed)

    def follow(self) -> None:
        """Print each message and reply, for ever. Raises `ClientError`."""
        if not self.conversation:
            newest = self._client.call("GET", "api/conversations/", "items")["items"][:1]
            if not newest:
                raise ClientError("You have no conversation yet.")
            self.conversation = newest[0]["id"]
        seen = set[str]()  # the printed messages, and the runs whose replies are printed
        while True:
            events = self._client.events(self.conversation)
            _, snapshot = next(events)
            # The oldest active run; the others are queued.
            run = next((run for run in snapshot["runs"] if run["id"] not in seen), None)
            for message in snapshot["messages"]:
                if seen.isdisjoint((message["id"], message["run"])):
                    self._out.write(f"{message['role']}: {message['content']}\n")
                    seen.add(message["id"])
                if run and run["message"] == message["id"]:
                    break  # the next messages wait for the reply to this one
            if run:
                seen.add(run["id"])
                self._out.write("assistant: ")
                self._printed = ""
                self._reply(run["id"], events, run["text"])
            else:
                next(events)  # something is new, and the next snapshot has it

    def _reply(self, run: str, events: Events, text: str | None = "") -> str:
        """Print the run's reply, which is `text` so far. Returns how the run ended."""
        while text is not None:
            if self._out.live:
                self._print(text)
            match next(events):
                case "conversation.snapshot", {"runs": runs}:
                    text = {active["id"]: active["text"] for active in runs}.get(run)
                case _, event if event.get("run") != run:
                    pass
                case "run.started" | "text.snapshot", event:
                    text = event.get("text", "")  # a new attempt begins the text again
                case "text.delta", event:
                    text += event["text"]
                case "run.completed" | "run.cancelled" | "run.failed", _:
                    text = None
                case "tool.called", call if self._out.live:
                    self._out.note(f"{call['name']} {call['input']}"[:100])
                case "tool.returned", result if self._out.live:
                    self._out.note(f"→ {result.get('error') or result['output']}"[:100])
                case "source.added", source if self._out.live:
                    self._out.note(f"source: {source['title']} {source.get('url', '')}"[:100])
        # The log may have lost events, but the stored run has the whole reply.
        ended = self._client.call("GET", f"api/runs/{run}/", "text", "status", "error")
        self._print(f"{ended['text']}\n")
        if ended["status"] != "completed":
            how = f": {ended['error']['reason']}" if ended["error"] else ""
            self._out.note(f"{ended['status']}{how}")
        return str(ended["status"])

    def _print(self, text: str) -> None:
        """Print what `text`, the reply so far, has more than its printed part."""
        if not text.startswith(self._printed):
            self._out.note("taken back: the reply starts again")
            self._printed = ""
        more, self._printed = text[len(self._printed) :], text
        self._out.write(more)
