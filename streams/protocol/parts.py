"""The parts of a reply: text, reasoning, tool calls and their results, sources, data.

A reply is an ordered list of parts. `add_part` alone decides how one more part changes the list,
so a reader that folds the events of a reply gets the same list that the database holds. To add a
kind of part, write its class here and add it to `Part`: encoding, decoding and the OpenAPI document
follow from the class (docs/design.md §3.2).
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BeforeValidator, PlainSerializer, TypeAdapter


@dataclass(frozen=True, kw_only=True, slots=True)
class TextPart:
    """Text of the reply, in Markdown."""

    type: ClassVar[str] = "text"
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ReasoningPart:
    """The model's reasoning. It is kept, but never sent to a model again."""

    type: ClassVar[str] = "reasoning"
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolCallPart:
    """A call of a tool. `call` is unique within the attempt.

    `executed`: `provider` if the model's server ran the tool itself.
    """

    type: ClassVar[str] = "tool_call"
    event: ClassVar[str] = "tool.called"
    call: str
    name: str
    input: dict[str, Any]
    executed: Literal["provider"] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolResultPart:
    """The result of a tool call. If the call failed, `error` says why, and `output` is absent.

    `truncated`: the output was too large, and its end is missing.
    """

    type: ClassVar[str] = "tool_result"
    event: ClassVar[str] = "tool.returned"
    call: str
    output: Any = None
    error: str | None = None
    truncated: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class SourcePart:
    """A source that the reply rests on. `url` is http or https."""

    type: ClassVar[str] = "source"
    event: ClassVar[str] = "source.added"
    source: str
    title: str
    url: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DataPart:
    """JSON for the reader's application. Later data with the same `name` and `id` replaces it."""

    type: ClassVar[str] = "data"
    event: ClassVar[str] = "data.updated"
    name: str
    data: Any
    id: str | None = None


# The parts that arrive whole, each in an event of its own. Text and reasoning arrive in deltas.
WholePart = ToolCallPart | ToolResultPart | SourcePart | DataPart
AnyPart = TextPart | ReasoningPart | WholePart

# In a field of this type, pydantic reads a part with `part_of` and writes it with `part_json`.
Part = Annotated[
    AnyPart,
    BeforeValidator(lambda value: part_of(value)),
    PlainSerializer(lambda part: part_json(part)),
]

KINDS: dict[str, type[Part]] = {kind.type: kind for kind in get_args(AnyPart)}
EVENT_KINDS: dict[str, type[WholePart]] = {kind.event: kind for kind in get_args(WholePart)}


def part_json(part: Part) -> dict[str, Any]:
    """The part as a JSON object. Optional fields without a value are absent."""
    return {"type": part.type, **part_fields(part)}


def part_fields(part: Part) -> dict[str, Any]:
    """The part as in `part_json`, without its `type`."""
    given = {field.name: (getattr(part, field.name), field.default) for field in fields(part)}
    present = {name: value for name, (value, default) in given.items() if value is not default}
    if isinstance(part, ToolResultPart) and part.error is None:
        present["output"] = part.output  # null is an output as well
    return present


def part_of(value: Any) -> Part:
    """The part in this JSON object; unknown fields are ignored. Raises `ValueError`."""
    if isinstance(value, AnyPart):
        return value
    type = value.get("type") if isinstance(value, dict) else None
    if not isinstance(type, str) or type not in KINDS:
        raise ValueError("this is no part of a known type")
    return _reader(type).validate_python(value)


@cache
def _reader(type: str) -> TypeAdapter[Part]:
    return TypeAdapter(KINDS[type])


def text_parts(text: str) -> tuple[Part, ...]:
    """The parts of a reply that is text alone."""
    return (TextPart(text=text),) if text else ()


def add_part(parts: tuple[Part, ...], part: Part) -> tuple[Part, ...]:
    """The parts of a reply after one more.

    Text is added to the last part if that is text too, and reasoning likewise. Data with an `id`
    replaces the data with the same name and id. Every other part is added at the end.
    """
    match part:
        case TextPart(text="") | ReasoningPart(text=""):
            return parts
        case TextPart(text=text) | ReasoningPart(text=text):
            last = parts[-1] if parts else None
            if isinstance(last, TextPart | ReasoningPart) and last.type == part.type:
                return (*parts[:-1], replace(last, text=last.text + text))
        case DataPart(id=str()):
            for place, other in enumerate(parts):
                if isinstance(other, DataPart) and (other.name, other.id) == (part.name, part.id):
                    return (*parts[:place], part, *parts[place + 1 :])
    return (*parts, part)


def text_of(parts: Iterable[Part]) -> str:
    """The reply's text: its text parts, joined without a separator."""
    return "".join(part.text for part in parts if isinstance(part, TextPart))


def reasoning_of(parts: Iterable[Part]) -> str:
    """The reply's reasoning: its reasoning parts, joined without a separator."""
    return "".join(part.text for part in parts if isinstance(part, ReasoningPart))
