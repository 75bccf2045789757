"""The texts of a graph's models, one message after another.

Models that run in parallel stream at the same time. The chunks of one message are yielded as they
arrive. The chunks of the other messages wait until that message is complete.
"""

from collections.abc import Iterable, Iterator

from django.conf import settings
from langchain_core.messages import AIMessage, AIMessageChunk

from workers.agents.callbacks import Repeat
from workers.agents.errors import AgentError
from workers.agents.message_reader import MessageReader, finish_reason_of
from workers.agents.parts import Part

BETWEEN = "\n\n"  # separates the texts of two messages that have no other part between them


class GraphTexts:
    """The messages of one run of a graph: those that were yielded, and those that wait."""

    def __init__(self, repeat: Repeat) -> None:
        self.reason: str | None = None  # finish reason of the last yielded message
        self._repeat = repeat
        self._heard: set[str] = set()  # ids of messages; LangGraph omits the input's
        self._readers: dict[str, MessageReader] = {}
        self._tasks: dict[str, str] = {}  # by message: the task of the graph that made it
        self._speaking: tuple[str, str] | None = None
        self._waiting: dict[str, list[tuple[AIMessage, str]]] = {}
        self._waiting_size = 0
        self._last_text_of: str | None = None  # the message whose text ends the reply so far

    def read(self, message: AIMessage, task: str) -> Iterable[str | Part]:
        """Return the items that the message, or its next chunk, adds now. Raises `AgentError`."""
        if (
            message.id == self._last_text_of
            and self._speaking
            and message.id == self._speaking[0]
            and _is_text_alone(message)
        ):
            return (str(message.content),)  # the usual case, without nested generators
        return self._read(str(message.id), message, task)

    def _read(self, id: str, message: AIMessage, task: str) -> Iterator[str | Part]:
        if id in self._heard and not (isinstance(message, AIMessageChunk) and id in self._readers):
            return  # its chunks were already read
        self._heard.add(id)
        self._tasks[id] = task
        self._readers.setdefault(id, MessageReader(self._repeat))
        if self._speaking and self._speaking[0] != id:
            self._waiting.setdefault(id, []).append((message, task))
            self._waiting_size += len(str(message.content))
            if self._waiting_size > settings.MAX_REPLY_BYTES:
                raise AgentError("reply_too_long")
            return
        yield from self._say(id, message, task)
        yield from self._continue()

    def release(self, message: AIMessage) -> Iterator[str | Part]:
        """Record that this message's task has ended, and yield the messages that waited for it.

        If the task broke a message off and began again, the first message never becomes complete.
        """
        task = self._tasks.get(str(message.id))
        if self._speaking and self._speaking[1] == task:
            self._speaking = None
            yield from self._continue()

    def end(self) -> Iterator[str | Part]:
        """Yield all messages that still wait. Call it once the graph has ended."""
        while self._speaking or self._waiting:
            self._speaking = None
            yield from self._continue()

    def interrupt(self) -> None:
        """Record that the reply does not end with text any more."""
        self._last_text_of = None

    def _continue(self) -> Iterator[str | Part]:
        """Yield the waiting messages in order, up to one that is not complete yet."""
        while self._waiting and not self._speaking:
            id = next(iter(self._waiting))
            for message, task in self._waiting.pop(id):
                self._waiting_size -= len(str(message.content))
                yield from self._say(id, message, task)

    def _say(self, id: str, message: AIMessage, task: str) -> Iterator[str | Part]:
        self._speaking = (id, task)
        reader = self._readers[id]
        for item in reader.read(message):
            if isinstance(item, str):
                if self._last_text_of not in (None, id):
                    yield BETWEEN
                self._last_text_of = id
            else:
                self.interrupt()
            yield item
        if message.response_metadata:
            self.reason = finish_reason_of(message) or self.reason
        if not isinstance(message, AIMessageChunk) or message.chunk_position == "last":
            self._speaking = None
            for call in reader.end():
                self.interrupt()
                yield call


def _is_text_alone(message: AIMessage) -> bool:
    """Whether the chunk holds text only and is not the last chunk of its message."""
    return bool(
        type(message.content) is str
        and message.content
        and isinstance(message, AIMessageChunk)
        and not message.additional_kwargs
        and not message.response_metadata
        and message.chunk_position is None
    )
