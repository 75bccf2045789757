"""Generated states of a reply, for the tests of dialects."""

from dataclasses import replace
from uuid import UUID

from hypothesis import strategies as st

from streams.protocol.events import RunCancelled, Usage
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
pieces: st.SearchStrategy[AnyPart] = st.one_of(
    st.builds(TextPart, text=texts),
    st.builds(ReasoningPart, text=texts),
    st.builds(ToolCallPart, call=texts, name=texts, input=st.just({})),
    st.builds(ToolResultPart, call=texts, output=texts),
    st.builds(SourcePart, source=texts, title=texts),
    st.builds(DataPart, name=st.just("n"), data=texts, id=st.sampled_from(["1", "2", None])),
)


@st.composite
def histories(draw: st.DrawFn, *, paired: bool = False) -> list[Reply]:
    """The states of one reply: up to three attempts, the last of which ends.

    `paired`: each tool's result follows its call, as in what agents write.
    """
    states = [Reply(run=RUN)]
    for attempt in range(1, draw(st.integers(1, 3)) + 1):
        states.append(Reply(run=RUN, attempt=attempt))
        for piece in draw(st.lists(pieces, max_size=6)):
            if paired and not _may_follow(states[-1].parts, piece):
                continue
            states.append(replace(states[-1], parts=add_part(states[-1].parts, piece)))
    ending = RunCancelled(run=RUN, attempt=states[-1].attempt, reply=None, usage=USAGE)
    return [*states, replace(states[-1], ending=ending)]


def _may_follow(parts: tuple[AnyPart, ...], piece: AnyPart) -> bool:
    """Whether a call has a name of its own, and a result the name of an open call."""
    called = {part.call for part in parts if isinstance(part, ToolCallPart)}
    answered = {part.call for part in parts if isinstance(part, ToolResultPart)}
    match piece:
        case ToolCallPart(call=call):
            return call not in called
        case ToolResultPart(call=call):
            return call in called - answered
        case _:
            return True
