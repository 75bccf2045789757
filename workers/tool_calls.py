"""Records each tool call of a reply in traces and metrics: agent, tool, time and outcome.

Inputs and outputs are never recorded.
"""

import re
from time import monotonic

from streams.observability.metrics import TOOL_SECONDS
from streams.observability.tracing import ToolSpan
from streams.protocol.parts import ToolCallPart, ToolResultPart
from workers.reply_items import ReplyItem

# What model servers accept as the name of a tool. A model may invent any other text.
NAME = re.compile(r"[\w.-]{1,64}", re.ASCII)
MOST_NAMES = 200  # in the metrics of one process
OTHER = "other"


class ToolNames:
    """The names of tools in the metrics of this process, limited to MOST_NAMES."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def label(self, name: str) -> str:
        """Return the name, or OTHER if the name is unusual or MOST_NAMES are known."""
        if name not in self._known:
            if not NAME.fullmatch(name) or len(self._known) >= MOST_NAMES:
                return OTHER
            self._known.add(name)
        return name


class ToolCalls:
    """The open calls of one reply."""

    def __init__(self, agent: str, names: ToolNames) -> None:
        self._agent, self._names = agent, names
        self._open: dict[str, tuple[str, float, ToolSpan]] = {}

    def note(self, item: ReplyItem) -> None:
        """Record the call that begins or ends with this item, if any."""
        match item:
            case ToolCallPart():
                tool = self._names.label(item.name)
                self._open[item.call] = tool, monotonic(), ToolSpan(tool, agent=self._agent)
            case ToolResultPart():
                self._end(item.call, "returned" if item.error is None else "failed")

    def end(self) -> None:
        """Record the calls without a result, because the reply is over."""
        for call in list(self._open):
            self._end(call, "open")

    def _end(self, call: str, outcome: str) -> None:
        if call in self._open:
            tool, begun, span = self._open.pop(call)
            TOOL_SECONDS.labels(self._agent, tool, outcome).observe(monotonic() - begun)
            span.end(failed=outcome != "returned")
