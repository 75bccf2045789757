"""What a reply holds so far, bounded in bytes."""

from io import StringIO


class ReplyTooLong(Exception):
    """The model said more than the reply may hold: read no more of it."""


class ReplyText:
    """The text and the reasoning of one reply, at most `most_bytes` of UTF-8 together."""

    def __init__(self, most_bytes: int) -> None:
        # Not lists of pieces: a list of a million short ones takes 50 times their bytes.
        self._text, self._reasoning = StringIO(), StringIO()
        self._room = most_bytes

    @property
    def text(self) -> str:
        return self._text.getvalue()

    @property
    def reasoning(self) -> str:
        return self._reasoning.getvalue()

    def fit(self, text: str) -> str:
        """The beginning of the text that there is room for. The room of the whole is used up."""
        room = max(self._room, 0)
        self._room -= len(text) if text.isascii() else len(text.encode())
        return text if self._room >= 0 else text.encode()[:room].decode(errors="ignore")

    def check(self) -> None:
        """Raise ReplyTooLong if something did not fit."""
        if self._room < 0:
            raise ReplyTooLong

    def add_text(self, text: str) -> None:
        self._text.write(text)

    def add_reasoning(self, reasoning: str) -> None:
        self._reasoning.write(reasoning)
