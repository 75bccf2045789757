"""Puts a character together whose two halves come in two pieces of a text.

A server that cuts its text by UTF-16 code units may send the halves of a surrogate pair
(Unicode §3.9, D75) in two chunks.
"""


class SurrogateJoiner:
    """Keeps the first half of a pair until the next piece."""

    def __init__(self) -> None:
        self._half = ""

    def join(self, piece: str) -> str:
        """A piece, not empty, with what was kept before it, and without a half at its end."""
        if self._half:
            joined = (self._half + piece).encode("utf-16-le", "surrogatepass")
            piece, self._half = joined.decode("utf-16-le", "surrogatepass"), ""
        if "\ud800" <= piece[-1] <= "\udbff":
            piece, self._half = piece[:-1], piece[-1]
        return piece

    def rest(self) -> str:
        """The half whose other half never came."""
        half, self._half = self._half, ""
        return half
