"""The terminal client's chat: prints replies on stdout, and notes about them on stderr."""

import json
import re
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from threading import RLock, Thread
from typing import Any
from uuid import UUID

from streams.cli.client import Client, ClientError
from streams.protocol.events import Event, PartAdded, Snapshot
from streams.protocol.fold import ConversationState, Reply, fold
from streams.protocol.parts import SourcePart, ToolCallPart, ToolResultPart

HISTORY = 6  # earlier messages to print when a conversation is continued
LABEL = "assistant: "
NOTE_LENGTH = 100  # characters of a line about a tool call
# Escape sequences move the cursor, rename the window and worse. Line feeds and tabs are harmless.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def harmless(text: str) -> str:
    """`text` with each character that could control the terminal replaced by U+FFFD."""
    return _CONTROL.sub("\ufffd", re.sub("\r\n?", "\n", text))


class Printer:
    """Prints replies: on a terminal as they grow, into a pipe only when they are complete."""

    def __init__(self) -> None:
        self._live, self._dim = sys.stdout.isatty(), sys.stderr.isatty()
        self.parts: dict[UUID, str] = {}  # run → the printed part of its unfinished reply
        self._in_line = False
        self._lock = RLock()  # the thread that cancels a run also prints notes

    def note(self, text: str, *, optional: bool = False) -> None:
        """Print a line on stderr; an optional one only if stderr is a terminal."""
        with self._lock:
            self.line("")
            if self._dim or not optional:
                dim, normal = ("\x1b[2m", "\x1b[0m") if self._dim else ("", "")
                print(f"{dim}{harmless(text)}{normal}", file=sys.stderr, flush=True)

    def line(self, text: str) -> None:
        """Print `text`, and a line feed unless a line has just ended."""
        self._write(harmless(text))
        if self._in_line:
            self._write("\n")

    def reply(self, run: UUID, text: str, label: str = "", *, final: bool = False) -> None:
        """Print the new part of the run's reply, whose text so far is `text`.

        A text that does not continue the printed part is printed from its start.
        """
        if not (self._live or final):
            return
        with self._lock:
            part = self.parts.pop(run, "")
            if not text.startswith(part):
                self.note("taken back: the reply starts again")
                part = ""
            # The character before the new text shows whether a CR LF was split.
            new = harmless(f" {text}"[len(part) :])[1:]
            self._write(new if part or not text else label + new)
            if final:
                self.line("")
            elif text:
                self.parts[run] = text

    def _write(self, text: str) -> None:
        print(text, end="", flush=True)
        self._in_line = not text.endswith("\n") if text else self._in_line


class Chat:
    """Asks in `conversation`, or begins one with `opening`: its system prompt and its model."""

    def __init__(
        self, client: Client, out: Printer, conversation: UUID | None, **opening: str | None
    ) -> None:
        self.conversation = conversation
        self._client, self._out, self._opening = client, out, opening
        self._run = Future[UUID]()  # the run that Ctrl-C cancels, once the service has accepted it

    def ask(self, message: str) -> bool:
        """Ask, and print the reply until its run ends. Returns whether the run completed.

        Raises `ClientError`.
        """
        self._run = Future()
        path, body = "api/conversations/", {"message": message, **self._opening}
        if self.conversation:
            path += f"{self.conversation}/messages/"
            body = {"message": message, "when_busy": "queue"}
        accepted = self._client.call("POST", path, body)
        self.conversation, run = UUID(accepted["conversation"]), UUID(accepted["run"])
        self._run.set_result(run)
        state = ConversationState(replies={run: Reply(run=run)})
        with closing(self._client.events(self.conversation, accepted["cursor"])) as events:
            for event in events:
                state = fold(state, event)
                if run not in (active := _active(state)):
                    break
                self._out.reply(run, active[run].text)
                self._part(run, event)
        return bool(self._end(run)["status"] == "completed")

    def follow(self, conversation: UUID, *, until_idle: bool) -> None:
        """Print the latest messages and each new reply, for ever or until no run is active.

        Raises `ClientError`.
        """
        self._run = Future()
        state, seen = ConversationState(), set[str]()
        with closing(self._client.events(conversation, None)) as events:
            for event in events:
                before, state = _active(state), fold(state, event)
                active = _active(state)
                for run in [run for run in before if run not in active]:
                    seen.add(str(self._end(run, LABEL)["reply"]))
                new = [view for id, view in state.messages.items() if str(id) not in seen]
                if not self._out.parts:  # not within a reply
                    for view in new if seen else new[-HISTORY:]:
                        self._out.line(f"{view.role}: {view.content}")
                    seen.update(str(view.id) for view in new)
                for run in [*active][:1]:  # the others are queued
                    if not self._run.done():
                        self._run.set_result(run)
                    self._out.reply(run, active[run].text, LABEL)
                    self._part(run, event)
                if until_idle and not active:
                    return

    @contextmanager
    def stoppable(self) -> Iterator[list[int]]:
        """Within it, the first Ctrl-C cancels the run, the second one raises `KeyboardInterrupt`.

        The list is empty until the first Ctrl-C.
        """
        stopped: list[int] = []

        def stop(number: int, _: object) -> None:
            # Only cancel here; the stream continues until the run's final event.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            stopped.append(number)
            Thread(target=self._cancel, daemon=True).start()

        before = signal.signal(signal.SIGINT, stop)
        try:
            yield stopped
        finally:
            signal.signal(signal.SIGINT, before)

    def _cancel(self) -> None:
        self._out.note("stopping…")
        try:
            self._client.call("POST", f"api/runs/{self._run.result()}/cancel/", {})
        except ClientError as error:
            self._out.note(str(error))

    def _part(self, run: UUID, event: Event | Snapshot) -> None:
        """On a terminal, note a tool call, its result or a source of the reply in one line."""
        match event:
            case PartAdded(run=of, part=ToolCallPart(name=name, input=input)) if of == run:
                note = f"{name} {json.dumps(input, ensure_ascii=False)}"
            case PartAdded(run=of, part=ToolResultPart(output=output, error=error)) if of == run:
                note = f"→ {error or json.dumps(output, ensure_ascii=False)}"
            case PartAdded(run=of, part=SourcePart(title=title, url=url)) if of == run:
                note = f"source: {title} {url or ''}"
            case _:
                return
        line = " ".join(note.split())
        cut = line if len(line) <= NOTE_LENGTH else f"{line[: NOTE_LENGTH - 1]}…"
        self._out.note(cut, optional=True)

    def _end(self, run: UUID, label: str = "") -> dict[str, Any]:
        """Print the rest of an ended run's reply, and how it ended. Returns the run as JSON."""
        # The log may have lost events, but the stored run has the whole reply.
        ended = self._client.call("GET", f"api/runs/{run}/")
        self._out.reply(run, ended["text"], label, final=True)
        how = f": {ended['error']['reason']}" if ended["error"] else ""
        note = f"{ended['status']}{how} ({ended['usage']['output_tokens']} tokens)"
        self._out.note(note, optional=ended["status"] == "completed")
        return ended


def _active(state: ConversationState) -> dict[UUID, Reply]:
    return {run: reply for run, reply in state.replies.items() if reply.ending is None}
