"""The bounds that the project has set on its speed, and which figure each of them is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.benchmarks.appending import A_REPLY, AT_ONCE
from tests.benchmarks.nchan import NCHAN
from tests.benchmarks.peer_servers import BARE, OURS, REDIS_STORAGE
from tests.benchmarks.peer_streamers import DJANGO, FASTAPI, RESUMABLE
from tests.benchmarks.report import Figures, Row

VIEWS: Mapping[str, Row] = {
    "nchan": {"view": NCHAN},
    "bare ASGI": {"view": BARE},
    "library": {"view": REDIS_STORAGE},
}
STREAMERS: Mapping[str, Row] = {
    "resumable-stream": {"way": RESUMABLE},
    "FastAPI": {"way": FASTAPI},
    "StreamingHttpResponse": {"way": DJANGO},
}
DIRECT: Mapping[str, Row] = {"StreamingHttpResponse": {"who": DJANGO}, "FastAPI": {"who": FASTAPI}}
LOG: Mapping[str, Row] = {"library": {"log": REDIS_STORAGE}}


@dataclass(frozen=True)
class Aim:
    """One figure of ours, the same figure of peers, and a bound."""

    work: str
    noun: str  # the benchmark
    column: str
    ours: Row  # what its row has
    peers: Mapping[str, Row] = field(default_factory=dict)  # where their rows differ from ours
    which: int = 0  # of several rows
    most: float | None = None
    times: float | None = None  # at most, of the first peer's figure
    least: float | None = None

    def value(self, figures: Figures, wanted: Row) -> float | None:
        """The figure in the row that has these values, if this run measured it."""
        rows = figures.find(self.noun, wanted)
        value = rows[self.which].get(self.column) if rows else None
        return float(value) if isinstance(value, int | float) else None

    def of_peers(self, figures: Figures) -> dict[str, float]:
        found = {
            name: self.value(figures, {**self.ours, **row}) for name, row in self.peers.items()
        }
        return {name: value for name, value in found.items() if value is not None}

    @property
    def bound(self) -> str:
        if self.times is not None:
            return f"≤ {self.times:g} × {next(iter(self.peers))}"
        return f"≥ {self.least:g}" if self.most is None else f"≤ {self.most:g}"

    def met(self, figures: Figures) -> bool | None:
        """None if a figure that it needs was not measured."""
        ours, most = self.value(figures, self.ours), self.most
        if self.times is not None:
            first = self.of_peers(figures).get(next(iter(self.peers)))
            most = None if first is None else self.times * first
        if ours is None or (most is None and self.least is None):
            return None
        return (most is None or ours <= most) and (self.least is None or ours >= self.least)


def _fanout(load: str, **more: object) -> Row:
    return {"load": load, "view": OURS, **more}


def _views(work: str, column: str, ours: Row, most: float) -> Aim:
    return Aim(work, "fanout", column, ours, VIEWS, most=most)


def _worker(work: str, column: str, rate: int, which: int, *, most: float) -> Aim:
    return Aim(work, "publishing", column, {"rate": rate}, which=which, most=most)


# The values that our rows have.
_AT_50, _AT_100 = _fanout("rates", rate=50), _fanout("rates", rate=100)
_OPENING: Row = {"view": OURS}
_APPEND: Row = {"log": OURS, "load": AT_ONCE}
_REPLY: Row = {"log": OURS, "load": A_REPLY}
_FAST: Row = {"rate": 1000}
_WHOLE: Row = {"way": OURS}
_ACCEPTED: Row = {"way": "POST to 202"}
_FIRST: Row = {"way": "POST to the first token", "who": OURS}

AIMS: Sequence[Aim] = (
    _views("500 readers, 50 events/s: web process, µs a write", "CPU µs a write", _AT_50, 25),
    _views("500 readers, 100 events/s: web process, µs a write", "CPU µs a write", _AT_100, 25),
    _views("500 readers, 50 events/s: p50, ms", "p50 ms", _AT_50, 12),
    Aim(
        "1,000 readers of 500 channels: p50, ms",
        *("fanout", "p50 ms", _fanout("channels"), VIEWS),
        times=2.5,
    ),
    Aim(
        "opening 1,000 readers with 200 events each: web process, ms each",
        *("opening", "server CPU ms each", _OPENING, VIEWS),
        times=2,
    ),
    _views("2,000 waiting readers: KB each", "KB a follower", _fanout("waiting"), 20),
    _views("2,000 waiting readers: % of a core", "server % of a core", _fanout("waiting"), 1),
    Aim(
        "Redis, one append after the other: µs",
        *("appending", "Redis CPU µs each", _APPEND, LOG),
        most=40,
    ),
    Aim(
        "Redis, one append: bytes of the append-only file",
        *("appending", "file bytes each", _REPLY),
        most=700,
    ),
    _worker("worker, 64 replies at 50/s: µs a token", "worker CPU µs/token", 50, -1, most=70),
    Aim(
        "whole way, 20 replies at 50/s, a reader each: all processes but Redis, µs a token",
        *("end_to_end", "processes µs a token", _WHOLE, STREAMERS),
        most=140,
    ),
    _worker("16 replies at 1,000 tokens/s: p99, ms", "p99 ms", 1000, 0, most=50),
    _worker(
        "16 replies at 1,000 tokens/s: cost, × the same at 50/s",
        "cost × at 50/s",
        1000,
        0,
        most=1.5,
    ),
    Aim(
        "16 replies at 1,000 tokens/s: % of the tokens written",
        *("publishing", "of the model's %", _FAST),
        least=99,
    ),
    _worker("64 replies at 1,000 tokens/s: p99, ms", "p99 ms", 1000, -1, most=50),
    _worker(
        "64 replies at 1,000 tokens/s: cost, × the same at 50/s",
        "cost × at 50/s",
        1000,
        -1,
        most=1.5,
    ),
    # Half of what a quiet day gave before; the machine's speed varies by a factor of two.
    Aim("POST to 202: p50, ms", "first_token", "p50 ms", _ACCEPTED, most=4.3),
    Aim(
        "POST to the first token, beyond the model's own: p50, ms",
        *("first_token", "p50 ms", _FIRST, DIRECT),
        most=11,
    ),
    Aim(
        "POST to the first token, beyond the model's own: p50, ms",
        *("first_token", "p50 ms", _FIRST, DIRECT),
        times=3,
    ),
)
