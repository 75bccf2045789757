"""The states of one reply, as Hypothesis makes them up for the tests of dialects."""

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
pieces: st.SearchStrategy[AnyPart] = st.one_of(
    st.builds(TextPart, text=texts),
    st.builds(ReasoningPart, text=texts),
    st.builds(SourcePart, source=texts, title=texts),
    st.builds(DataPart, name=st.just("n"), data=texts, id=st.sampled_from(["1", "2", None])),
)


@st.composite
def states(draw: st.DrawFn) -> list[Reply]:
    """The states of one reply: up to three attempts; each call of a tool gets its result."""
    reply = Reply(run=RUN)
    made = [reply]
    for attempt in range(1, draw(st.integers(1, 3)) + 1):
        reply = Reply(run=RUN, attempt=attempt)
        made.append(reply)
        open_calls: list[str] = []
        for at in range(draw(st.integers(0, 6))):
            match draw(st.integers(0, 4)):
                case 0:
                    open_calls.append(f"call{at}")
                    part: AnyPart = ToolCallPart(call=f"call{at}", name="look", input={"at": at})
                case 1 if open_calls:
                    part = ToolResultPart(call=open_calls.pop(), output=draw(texts))
                case _:
                    part = draw(pieces)
            reply = replace(reply, parts=add_part(reply.parts, part))
            made.append(reply)
    for call in open_calls:
        reply = replace(reply, parts=add_part(reply.parts, ToolResultPart(call=call, error="no")))
        made.append(reply)
    return [*made, replace(reply, ending=draw(endings(attempt)))]


def endings(attempt: int) -> st.SearchStrategy[Ending]:
    done = RunCompleted(run=RUN, attempt=attempt, reply=RUN, finish_reason="stop", usage=USAGE)
    failed = RunFailed(
        run=RUN, attempt=attempt, reply=None, code="model_error", reason="It broke.", usage=USAGE
    )
    return st.sampled_from(
        [
            done,
            replace(done, finish_reason="length"),
            RunCancelled(run=RUN, attempt=attempt, reply=None, usage=USAGE),
            failed,
        ]
    )
