"""Turns any LangChain Runnable, such as `prompt | model | parser`, into an agent."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, cast

from langchain_core.language_models import BaseLanguageModel
from langchain_core.messages import BaseMessage, convert_to_messages
from langchain_core.runnables import Runnable, RunnableSequence

from workers.agents.callbacks import Repeat, callbacks_of
from workers.agents.message_reader import MessageReader, finish_reason_of
from workers.agents.parts import Finish, Part
from workers.agents.turn import Turn

Generator = Callable[[Turn], AsyncGenerator[str | Part, None]]


def runnable(
    chain: Runnable[Any, Any],
    *,
    repeat: Repeat = False,
    input: Callable[[Turn], Any] | None = None,
) -> Generator:
    """Turn a Runnable that streams text, messages, or parts of `workers.agents` into an agent.

    The chain gets `input(turn)`. By default this is a dict with variables for a prompt: `question`
    and `input` hold the question, `history` the messages before it, `messages` all messages. If the
    chain begins with a model, the default is the list of all messages.

    `repeat` says which tools inside may be called twice for one question: all (True), none, or
    those with these names.
    """
    give = input or (_messages if _begins_with_model(chain) else _variables)

    async def agent(turn: Turn) -> AsyncGenerator[str | Part, None]:
        counter, callbacks = callbacks_of(turn.control, repeat)
        reader, reason = MessageReader(repeat), None
        stream = chain.astream(give(turn), {"callbacks": callbacks})
        async with aclosing(cast(AsyncGenerator[Any, None], stream)) as chunks:
            async for chunk in chunks:
                if not isinstance(chunk, BaseMessage):
                    yield chunk
                    continue
                for item in reader.read(chunk):
                    yield item
                reason = finish_reason_of(chunk) or reason
        for call in reader.end():
            yield call
        if counter.usage:
            yield counter.usage
        yield Finish(reason or "stop")

    return agent


def _begins_with_model(chain: Runnable[Any, Any]) -> bool:
    first = chain.first if isinstance(chain, RunnableSequence) else chain
    return isinstance(getattr(first, "bound", first), BaseLanguageModel)


def _messages(turn: Turn) -> list[BaseMessage]:
    return convert_to_messages(turn.messages(tools=False))


def _variables(turn: Turn) -> dict[str, Any]:
    messages = _messages(turn)
    return {
        "question": turn.question,
        "input": turn.question,
        "history": messages[:-1],
        "messages": messages,
    }
