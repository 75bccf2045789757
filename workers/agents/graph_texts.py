"""The texts of a graph's models, one message at a time.

Models that run in parallel speak at the same time. One message is said as it comes; the chunks of
the others wait until that one is whole.
"""

from collections.abc import Iterable, Iterator

from django.conf import settings
from langchain_core.messages import AIMessage, AIMessageChunk

from workers.agents.callbacks import Repeat
from workers.agents.errors import AgentError
from workers.agents.message_reader import MessageReader, finish_reason_of
from workers.agents.parts import Part

BETWEEN = "\n\n"  # between the texts of two messages with nothing else between them


class GraphTexts:
    """What the models of one run of a graph have said, and what waits to be said."""

    def __init__(self, repeat: Repeat) -> None:
        self.reason: str | None = None  # why the model stopped that was said last
        self._repeat = repeat
        self._heard: set[str] = set()  # ids of messages; LangGraph knows those it was given
        self._readers: dict[str, MessageReader] = {}
        self._tasks: dict[str, str] = {}  # by message: the task of the graph that made it
        self._speaking: tuple[str, str] | None = None
        self._waiting: dict[str, list[tuple[AIMessage, str]]] = {}
        self._waiting_size = 0
        self._last_text_of: str | None = None  # the message whose text stands last in the reply

    def read(self, message: AIMessage, task: str) -> Iterable[str | Part]:
        """What the message, or the next chunk of it, says now. Raises `AgentError`."""
        if (
            message.id == self._last_text_of
            and self._speaking
            and message.id == self._speaking[0]
            and _is_text_alone(message)
        ):
            return (str(message.content),)  # the usual case, without generators in generators
        return self._read(str(message.id), message, task)

    def _read(self, id: str, message: AIMessage, task: str) -> Iterator[str | Part]:
        if id in self._heard and not (isinstance(message, AIMessageChunk) and id in self._readers):
            return  # said in chunks before
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
        """The task that made this message has ended, so none of its messages keeps others waiting.

        A message that broke off, and was begun anew by the same task, is never whole.
        """
        task = self._tasks.get(str(message.id))
        if self._speaking and self._speaking[1] == task:
            self._speaking = None
            yield from self._continue()

    def end(self) -> Iterator[str | Part]:
        """The graph has ended: yield all that waits."""
        while self._speaking or self._waiting:
            self._speaking = None
            yield from self._continue()

    def interrupt(self) -> None:
        """Something that is no text is said."""
        self._last_text_of = None

    def _continue(self) -> Iterator[str | Part]:
        """Say what waits, until a message speaks that is not whole yet."""
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
    """Whether the chunk is a piece of text, and neither more nor the last one."""
    return bool(
        type(message.content) is str
        and message.content
        and isinstance(message, AIMessageChunk)
        and not message.additional_kwargs
        and not message.response_metadata
        and message.chunk_position is None
    )
