"""Hypothesis' choices: the model's words, and the step at which a process dies."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from streams.chat import ask as ask_module
from streams.chat import finish
from streams.log.channel_log import ChannelLog
from streams.models import Conversation
from streams.protocol.parts import (
    DataPart,
    ReasoningPart,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)

TEXTS = ["a ", "bc", "d\r\n", "\u2028e", "🙂"]
WHOLE = [
    ToolCallPart(call="1", name="clock", input={"zone": "\u2028"}),
    ToolCallPart(call="2", name="search", input={}),
    ToolResultPart(call="1", output=[None, "🙂"]),
    SourcePart(source="s", title="A source"),
    DataPart(name="progress", data=1, id="a"),
    DataPart(name="progress", data={"at": 2}, id="a"),
    DataPart(name="other", data=None),
]
WORDS = st.lists(
    st.one_of(
        st.sampled_from([TextPart(text=text) for text in TEXTS]),
        st.sampled_from([ReasoningPart(text="hm "), *WHOLE]),
    ),
    min_size=1,
    max_size=4,
)

# The steps at which a process may die: the owner, the step, and whether it dies after the step.
STEPS: list[tuple[Any, str, bool]] = [
    (ask_module, "publish_pending", False),
    (ChannelLog, "append_once", True),
    (Conversation, "advance_head", False),
    (ChannelLog, "append_start", False),
    (ChannelLog, "append_start", True),
    (ChannelLog, "seal", False),
    (ChannelLog, "seal", True),
    (finish, "store", True),
    (ChannelLog, "append_final", False),
    (ChannelLog, "append_final", True),
    (ChannelLog, "release_run", False),
    (ChannelLog, "delete", False),
]
CHANCE = st.randoms(use_true_random=False)
DEATH = st.one_of(st.none(), st.none(), st.sampled_from(STEPS))
