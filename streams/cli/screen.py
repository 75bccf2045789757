"""A conversation on a terminal: Markdown as it is written, and below it how things stand.

Blocks that are finished are printed for good and scroll away; only the last one, which still
grows, is drawn anew. So a reply of any length costs the same, and all of it can be scrolled to.
"""

import time
from threading import Event, RLock, Thread

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from streams.cli.client import Outcome
from streams.cli.prose import Tail, finished, harmless, markdown
from streams.protocol.events import MessageView
from streams.protocol.fold import Reply

FRAMES = 10  # a second
SILENT = 1.5  # seconds without a token, after which the silence is counted aloud
NOTICE = 4.0  # seconds for which news of the connection stays
SPARE = 4  # lines of the screen that the growing block leaves free


class Screen:
    """Draws on `console`. `idle` are the words for when nothing is being written."""

    def __init__(self, console: Console, *, idle: str = "waiting for the service") -> None:
        self._console = console
        self._idle = idle
        self._reply: Reply | None = None
        self._printed = 0  # characters of the reply that were printed for good
        self._moved_at = 0.0  # when the reply was last heard to grow
        self._notice, self._notice_at = "", 0.0
        self._spinner = Spinner("dots", style="cyan")
        # rich counts the lines above the cursor before it writes: nobody may draw in between.
        self._drawing = RLock()
        self._closed = Event()

    def __enter__(self) -> None:
        self._moved_at = time.monotonic()
        self._live = Live(
            self,
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()
        self._painter = Thread(target=self._paint, daemon=True)
        self._painter.start()

    def __exit__(self, *how: object) -> None:
        if self._reply:
            self._print_until(len(harmless(self._reply.text)))  # left in its middle
        self._reply = None
        self._closed.set()
        self._painter.join()
        self._live.stop()

    def message(self, message: MessageView) -> None:
        match message.role:
            case "user":
                self._print(Text(f"› {harmless(message.content)}\n", style="bold cyan"))
            case "assistant":
                self._print(markdown(harmless(message.content)), Text())
            case "system":
                self._print(Text(f"{harmless(message.content)}\n", style="dim"))

    def writing(self, reply: Reply | None) -> None:
        if reply is None:
            self._reply = None
            return
        before = self._reply if self._reply and self._reply.run == reply.run else None
        known = before.text if before else ""
        if before is None or (reply.text, reply.reasoning) != (known, before.reasoning):
            self._moved_at = time.monotonic()
        if before is None:
            self._printed = 0
        elif not reply.text.startswith(known):
            self._begin_anew()
        self._reply = reply
        if "\n" in reply.text[len(known) :]:
            text = harmless(reply.text)
            self._print_until(self._printed + finished(text[self._printed :]))

    def over(self, outcome: Outcome) -> None:
        if self._reply is None or self._reply.run != outcome.run:
            self._reply = Reply(run=outcome.run)
            self._printed = 0
        elif not outcome.text.startswith(self._reply.text):
            self._begin_anew()
        self._reply = Reply(run=outcome.run, text=outcome.text)
        self._print_until(len(harmless(outcome.text)))
        self._reply, self._notice = None, ""
        if outcome.reason:
            self._print(Text(f"{harmless(outcome.reason)}\n", style="yellow"))
        else:
            self._print(Text(f"{outcome.tokens} tokens\n", style="dim"))

    def tell(self, words: str) -> None:
        self._notice, self._notice_at = harmless(words), time.monotonic()

    def _begin_anew(self) -> None:
        if self._printed:
            self._print(Text("The reply starts anew:\n", style="dim"))
        self._printed = 0

    def _print_until(self, end: int) -> None:
        text = harmless(self._reply.text) if self._reply else ""
        piece, self._printed = text[self._printed : end], max(end, self._printed)
        if piece.strip():
            self._print(markdown(piece), Text())

    def _print(self, *what: RenderableType) -> None:
        with self._drawing:
            self._console.print(*what)

    def _paint(self) -> None:
        while not self._closed.wait(1 / FRAMES):
            with self._drawing:
                self._live.refresh()

    def __rich__(self) -> RenderableType:
        """What is drawn below everything printed, asked for anew each time."""
        reply, printed = self._reply, self._printed
        self._spinner.update(text=Text(self._state(reply), style="dim"))
        rest = harmless(reply.text)[printed:] if reply else ""
        if not rest.strip():
            return self._spinner
        return Group(Tail(rest, spare=SPARE), Text(), self._spinner)

    def _state(self, reply: Reply | None) -> str:
        now = time.monotonic()
        lasting = self._notice.endswith("…")  # until something else is told
        if self._notice and (lasting or now - self._notice_at < NOTICE):
            return f"{self._notice} {now - self._notice_at:.0f} s" if lasting else self._notice
        if reply is None:
            return self._idle
        silence = now - self._moved_at
        since = f", {silence:.0f} s" if silence > SILENT else ""
        if not reply.attempt:
            return f"waiting for a worker{since}"
        if reply.reasoning and not reply.text:
            return f"thinking: {harmless(reply.reasoning)[-60:].replace(chr(10), ' ')}{since}"
        return f"writing · Ctrl-C stops it{since}"
