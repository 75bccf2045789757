"""The items that an agent yields besides text, such as reasoning, tool calls and sources.

These are the public types. `workers.agents.checks` converts them to the parts of the protocol.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import uuid4

__all__ = ["Data", "Finish", "Part", "Reasoning", "Source", "ToolCall", "ToolResult", "Usage"]


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A piece of the model's reasoning. Readers see it collapsed. No later prompt contains it."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The agent is about to call a tool. Yield it before the call, and a `ToolResult` after it.

    `call` is any text that is unique among the open calls. With `repeat`, the tool may be called
    twice for one question, so a run that loses its worker begins again. After a call without
    `repeat`, such a run ends as `tools_called`. `executed` is `provider` if the model's server
    runs the tool itself.
    """

    name: str
    input: Mapping[str, Any] = field(default_factory=dict)
    call: str = field(default_factory=lambda: f"call_{uuid4().hex[:24]}")
    repeat: bool = field(default=False, kw_only=True)
    executed: Literal["provider"] | None = field(default=None, kw_only=True)


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The result of the call with this id: JSON, or an `error` that readers may see."""

    call: str
    output: Any = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A source that the reply is based on. `url` must be http or https.

    `source` identifies it among the sources of the reply; by default it is the url or the title.
    """

    title: str
    url: str | None = None
    source: str = ""


@dataclass(frozen=True, slots=True)
class Data:
    """JSON for the reader's application. Later data with the same `name` and `id` replaces it."""

    name: str
    data: Any
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens of one request to a model. The usages of one attempt are added up."""

    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Finish:
    """The reply is complete; anything after it is ignored. An agent may also just return."""

    reason: str = "stop"


Part = Reasoning | ToolCall | ToolResult | Source | Data | Usage | Finish
