"""Text by a model, or by anybody, as a terminal may show it: Markdown, and no control of it."""

import re

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import Markdown
from rich.segment import Segment

# Escape sequences move the cursor, rename the window and worse. Line feeds and tabs are harmless.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_END_OF_LINE = re.compile("\r\n?")


def harmless(text: str) -> str:
    """`text` with U+FFFD for what would steer the terminal."""
    return _CONTROL.sub("\ufffd", _END_OF_LINE.sub("\n", text))


def markdown(text: str) -> Markdown:
    """Harmless text, rendered. A link shows where it leads."""
    return Markdown(text, hyperlinks=False)


def finished(text: str) -> int:
    """How many characters of a growing text are blocks that what follows cannot change.

    Of CommonMark's blocks only the last can still grow (CommonMark, Appendix: block structure).
    """
    starts = [token.map[0] for token in markdown(text).parsed if token.map and not token.level]
    last = starts[-1] if starts else 0
    return sum(len(line) + 1 for line in text.split("\n")[:last])


class Tail:
    """The end of a text, as much of it as leaves `spare` lines of the screen for others."""

    def __init__(self, text: str, *, spare: int) -> None:
        self.text = text
        self.spare = spare

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = console.render_lines(markdown(self.text), options.update(height=None), pad=False)
        for line in lines[-max(1, console.height - self.spare) :]:
            yield from line
            yield Segment.line()
