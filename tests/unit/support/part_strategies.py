"""Strategies of Hypothesis for parts."""

from datetime import UTC, datetime
from uuid import UUID

from hypothesis import strategies as st

from streams.protocol.events import Usage
from streams.protocol.parts import (
    DataPart,
    Part,
    ReasoningPart,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    WholePart,
    add_part,
)
from streams.protocol.sse import clean

RUN, MESSAGE, REPLY = UUID(int=1), UUID(int=2), UUID(int=3)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
USAGE = Usage(input_tokens=1, output_tokens=2, total_tokens=3, estimated=True)

texts = st.text(st.characters(exclude_categories=[]), max_size=6).map(clean)
names = st.sampled_from(["a", "b"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
results = st.builds(ToolResultPart, call=names, output=json_values, truncated=st.booleans())
errors = st.builds(ToolResultPart, call=names, error=texts)
whole_parts: st.SearchStrategy[WholePart] = st.one_of(
    st.builds(
        ToolCallPart,
        call=names,
        name=texts,
        input=st.dictionaries(texts, json_values, max_size=3),
        executed=st.sampled_from(["provider", None]),
    ),
    results,
    errors,
    st.builds(SourcePart, source=texts, title=texts, url=st.none() | texts),
    st.builds(DataPart, name=names, data=json_values, id=st.none() | names),
)
parts: st.SearchStrategy[Part] = st.one_of(
    st.builds(TextPart, text=texts), st.builds(ReasoningPart, text=texts), whole_parts
)


def joined(*added: Part) -> tuple[Part, ...]:
    reply: tuple[Part, ...] = ()
    for part in added:
        reply = add_part(reply, part)
    return reply
