"""The text and the reasoning of a reply so far, limited in bytes."""

from io import StringIO


class ReplyTooLong(Exception):
    """The model sent more than the reply may hold: read no more of it."""


class ReplyText:
    """The text and the reasoning of one reply, at most `most_bytes` of UTF-8 together."""

    def __init__(self, most_bytes: int) -> None:
        # Not lists of pieces: a list of a million short strings takes 50 times their bytes.
        self._text, self._reasoning = StringIO(), StringIO()
        self._room = most_bytes

    @property
    def text(self) -> str:
        return self._text.getvalue()

    @property
    def reasoning(self) -> str:
        return self._reasoning.getvalue()

    def fit(self, text: str) -> str:
        """Return the beginning of the text that still fits. All of it counts against the limit.

        If some of the text did not fit, `check` raises from now on.
        """
        room = max(self._room, 0)
        self._room -= len(text) if text.isascii() else len(text.encode())
        return text if self._room >= 0 else text.encode()[:room].decode(errors="ignore")

    def check(self) -> None:
        """Raise `ReplyTooLong` if any text did not fit."""
        if self._room < 0:
            raise ReplyTooLong

    def add_text(self, text: str) -> None:
        self._text.write(text)

    def add_reasoning(self, reasoning: str) -> None:
        self._reasoning.write(reasoning)
