"""Joins the two halves of a surrogate pair that arrive in two pieces of a text.

Some servers cut their text by UTF-16 code units. They may send the halves of a surrogate pair
(Unicode §3.9, D75) in two chunks.
"""


class SurrogateJoiner:
    """Keeps the first half of a pair until the next piece arrives."""

    def __init__(self) -> None:
        self._half = ""

    def join(self, piece: str) -> str:
        """Return the kept half joined with `piece`. A first half at the end is kept instead.

        `piece` must not be empty.
        """
        if self._half:
            joined = (self._half + piece).encode("utf-16-le", "surrogatepass")
            piece, self._half = joined.decode("utf-16-le", "surrogatepass"), ""
        if "\ud800" <= piece[-1] <= "\udbff":
            piece, self._half = piece[:-1], piece[-1]
        return piece

    def rest(self) -> str:
        """Return the kept half at the end of the text, or an empty string."""
        half, self._half = self._half, ""
        return half
