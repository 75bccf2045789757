"""A conversation in a pipe or a file: plain text, each turn once it is finished.

What has been written there cannot be taken back, and a reply may start anew with another attempt.
So whoever reads a pipe gets a reply that is whole, or what was kept of it, exactly as it is stored.
"""

from typing import TextIO

from rich.console import Console
from rich.text import Text

from streams.cli.client import Outcome
from streams.protocol.events import MessageView
from streams.protocol.fold import Reply


class Paper:
    """Writes to `out`, and says on `aside` how it is going. `dialogue`: who said what."""

    def __init__(self, out: TextIO, aside: Console, *, dialogue: bool) -> None:
        self._out = out
        self._aside = aside
        self._dialogue = dialogue
        self._progress = aside.status("waiting")  # nothing, where that is no terminal either

    def __enter__(self) -> None:
        self._progress.start()

    def __exit__(self, *how: object) -> None:
        self._progress.stop()

    def message(self, message: MessageView) -> None:
        self._write(f"{message.role}: {message.content}")

    def writing(self, reply: Reply | None) -> None:
        said = len(reply.text) if reply else 0
        self._progress.update(f"{said} characters so far" if said else "waiting")

    def over(self, outcome: Outcome) -> None:
        if outcome.text:
            self._write(f"assistant: {outcome.text}" if self._dialogue else outcome.text)
        if outcome.reason:
            self.tell(outcome.reason)

    def tell(self, words: str) -> None:
        self._aside.print(Text(words))

    def _write(self, text: str) -> None:
        self._out.write(text if text.endswith("\n") else f"{text}\n")
        self._out.flush()
