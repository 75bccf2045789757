"""Generated states of a reply, for the tests of dialects."""

from dataclasses import replace
from uuid import UUID

from hypothesis import strategies as st

from streams.protocol.events import Ending, RunCancelled, RunCompleted, RunFailed, Usage
from streams.protocol.fold import Reply
from streams.protocol.parts import (
    AnyPart,
    DataPart,
    ReasoningPart,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    add_part,
)

RUN = UUID(int=1)
USAGE = Usage(input_tokens=1, output_tokens=1, total_tokens=2, estimated=True)
texts = st.text(alphabet="ab🙂", min_size=1, max_size=3)
calls = st.sampled_from(["one", "two"])
pieces: st.SearchStrategy[AnyPart] = st.one_of(
    st.builds(TextPart, text=texts),
    st.builds(ReasoningPart, text=texts),
    st.builds(ToolCallPart, call=calls, name=texts, input=st.sampled_from([{}, {"at": 1}])),
    st.builds(ToolResultPart, call=calls, output=texts),
    st.builds(SourcePart, source=texts, title=texts),
    st.builds(DataPart, name=st.just("n"), data=texts, id=st.sampled_from(["1", "2", None])),
)


@st.composite
def histories(draw: st.DrawFn, *, paired: bool = False) -> list[Reply]:
    """The states of one reply: up to three attempts, the last of which ends.

    `paired`: each result follows a call that has none, and at the end each call has one.
    """
    states = [Reply(run=RUN)]
    for attempt in range(1, draw(st.integers(1, 3)) + 1):
        states.append(Reply(run=RUN, attempt=attempt))
        for piece in draw(st.lists(pieces, max_size=6)):
            if not paired or _may_follow(states[-1].parts, piece):
                states.append(_and(states[-1], piece))
    for call in open_calls(states[-1].parts) if paired else ():
        states.append(_and(states[-1], ToolResultPart(call=call, error="no")))
    return [*states, replace(states[-1], ending=draw(_endings(attempt)))]


@st.composite
def shortened(draw: st.DrawFn) -> list[Reply]:
    """The states of a reply whose last attempt ended with fewer parts than it had.

    As at the end of each run, calls without a result get a result after the other parts.
    """
    *running, last = draw(histories(paired=True))
    had = running[-1].parts
    kept = list(had[: draw(st.integers(0, len(had)))])
    if kept and isinstance(part := kept[-1], TextPart | ReasoningPart):
        kept[-1] = replace(part, text=part.text[: draw(st.integers(1, len(part.text)))])
    kept += [ToolResultPart(call=call, error="lost") for call in open_calls(tuple(kept))]
    return [*running, replace(last, parts=tuple(kept))]


def any_histories() -> st.SearchStrategy[list[Reply]]:
    """Paired histories, with and without a lost log."""
    return st.one_of(histories(paired=True), shortened())


def _and(reply: Reply, piece: AnyPart) -> Reply:
    return replace(reply, parts=add_part(reply.parts, piece))


def _may_follow(parts: tuple[AnyPart, ...], piece: AnyPart) -> bool:
    """Whether the piece is allowed here: a call must be new, a result the first of its call."""
    match piece:
        case ToolCallPart(call=call):
            return all(part.call != call for part in parts if isinstance(part, ToolCallPart))
        case ToolResultPart(call=call):
            return call in open_calls(parts)
        case _:
            return True


def open_calls(parts: tuple[AnyPart, ...]) -> list[str]:
    """The calls that have no result."""
    closed = {part.call for part in parts if isinstance(part, ToolResultPart)}
    opened = [part.call for part in parts if isinstance(part, ToolCallPart)]
    return [call for call in opened if call not in closed]


def _endings(attempt: int) -> st.SearchStrategy[Ending]:
    done = RunCompleted(run=RUN, attempt=attempt, reply=RUN, finish_reason="stop", usage=USAGE)
    failed = RunFailed(
        run=RUN, attempt=attempt, reply=None, code="model_error", reason="It broke.", usage=USAGE
    )
    cancelled = RunCancelled(run=RUN, attempt=attempt, reply=None, usage=USAGE)
    return st.sampled_from([done, replace(done, finish_reason="length"), cancelled, failed])
