"""Hostile values, and valid bodies with such values inserted: systematically, and by Hypothesis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hypothesis import strategies as st

SCALARS: list[Any] = [None, True, -1, 0, 2**53, 2**63, 1e308, "", "\0", "\ud83d", "x" * 20_000]
NESTED: list[Any] = [[], {}, [[]], [None], {"": ""}, {"id": {"id": []}}, ["x"] * 2_000]
NAMES = [
    "x",
    "..",
    "%00",
    "\ud83d",
    "🙂" * 300,
    "-1",
    "9" * 400,
    "resp_resp_",
    "a b",
    "'\"<",
    "1.5",
]
POSITIONS = ["", "-1", "-2", "0", "1.5", "+1", " 1", "١", "²", "x", "\xff", "1,2", "0x1"]
POSITIONS += ["9" * 5_000, "x" * 5_000, *(str(2**n) for n in (24, 35, 52, 53, 63, 64))]
BAD_JSON = [b"", b"{", b"[]", b"null", b'"x"', b"\xff", b"[" * 50_000, b'{"model": NaN}']
BAD_JSON += [b'{"a":' * 50_000, b'{"model": ' + b"1" * 5_000 + b"}", b'{"id": 1, "id": "\\ud83d"}']

# Text of any code points, also of those that a JSON parser or a database may refuse, such as NUL.
TEXTS = st.text(st.characters(exclude_categories=()), max_size=8)
ODD = st.sampled_from([*SCALARS, *NESTED, *NAMES])
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | ODD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
Place = tuple[str | int, ...]  # the keys and indexes that lead to a value


def variants(value: Any, others: Sequence[Any] = (*SCALARS, *NESTED)) -> Iterator[Any]:
    """Yield the value with one place left out, or replaced by one of `others`; each in turn."""
    yield from others
    if isinstance(value, dict):
        for name in value:
            yield {other: value[other] for other in value if other != name}
            for changed in variants(value[name], others):
                yield {**value, name: changed}
    if isinstance(value, list):
        for place in range(len(value)):
            for changed in variants(value[place], others):
                yield [*value[:place], changed, *value[place + 1 :]]


@st.composite
def mutated(draw: st.DrawFn, bodies: Sequence[Any]) -> Any:
    """One of the bodies with other values in one to three places."""
    body = draw(st.sampled_from(bodies))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from(list(_places(body))))
        others = [_at(body, one) for one in _places(body)]
        body = _replaced(body, place, draw(JSON_VALUES | st.sampled_from(others)))
    return body


def _places(value: Any, start: Place = ()) -> Iterator[Place]:
    yield start
    within = value.items() if isinstance(value, dict) else ()
    for key, item in enumerate(value) if isinstance(value, list) else within:
        yield from _places(item, (*start, key))


def _at(value: Any, place: Place) -> Any:
    for key in place:
        value = value[key]
    return value


def _replaced(value: Any, place: Place, new: Any) -> Any:
    if not place:
        return new
    changed = value.copy()
    changed[place[0]] = _replaced(value[place[0]], place[1:], new)
    return changed
