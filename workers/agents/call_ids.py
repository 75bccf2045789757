"""The ids of one attempt's tool calls. Readers get unique ids, even if the agent's ids repeat.

Model servers repeat ids such as `call_0`. A result belongs to the oldest open call with its id.
"""

from collections import defaultdict, deque

LONGEST_ID = 64  # characters


class UnknownCall(Exception):
    """A result names a call that the agent has not made."""


class CallIds:
    """The calls of one attempt, open or closed."""

    def __init__(self) -> None:
        self.open = 0
        self.made = 0
        self._taken: set[str] = set()  # ids that were given to readers
        self._waiting: defaultdict[str, deque[str]] = defaultdict(deque)  # by the agent's own id

    def begin(self, id: str) -> str:
        """Record that a call begins. Return its id for readers."""
        unique, number = id[:LONGEST_ID], 1
        while unique in self._taken:
            number += 1
            unique = f"{id[: LONGEST_ID - 8]}-{number}"
        self._taken.add(unique)
        self._waiting[id].append(unique)
        self.open += 1
        self.made += 1
        return unique

    def end(self, id: str) -> str | None:
        """Record a call's result. Return the call's id for readers, or None if it had a result.

        Raises `UnknownCall`.
        """
        if id not in self._waiting:
            raise UnknownCall
        if not self._waiting[id]:
            return None
        self.open -= 1
        return self._waiting[id].popleft()
