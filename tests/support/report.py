"""The result of a check, as a line for people and as JSON for programs."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any


@dataclass(kw_only=True)
class Report:
    """The counts of a check, and its faults. `clean` if there is no fault."""

    name: str
    runs: int = 0
    followers: int = 0
    connections: int = 0
    events: int = 0
    lost: int = 0
    repeated: int = 0
    out_of_order: int = 0
    resets: int = 0
    recoveries: list[float] = field(default_factory=list)  # seconds
    faults: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not (self.lost or self.repeated or self.out_of_order or self.faults)

    def recovery(self, share: float) -> float:
        """The recovery time, in seconds, within which this share of the followers was back.

        Infinite without a measurement, so that no limit is met by accident.
        """
        ordered = sorted(self.recoveries)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else math.inf

    def numbers(self) -> dict[str, Any]:
        shares = {"p50": 0.5, "p95": 0.95, "max": 1.0} if self.recoveries else {}
        counts = ("runs", "followers", "connections", "events", "lost", "repeated")
        return {
            "name": self.name,
            **{count: getattr(self, count) for count in (*counts, "out_of_order", "resets")},
            "recovery": {name: round(self.recovery(part), 3) for name, part in shares.items()},
            "faults": len(self.faults),
        }

    def json(self) -> str:
        return json.dumps(self.numbers())

    def __str__(self) -> str:
        numbers = self.numbers()
        recovery = numbers.pop("recovery")
        numbers |= {f"recovery {share}": f"{seconds:.2f} s" for share, seconds in recovery.items()}
        name = numbers.pop("name")
        line = f"{name}: " + ", ".join(f"{count} {number}" for count, number in numbers.items())
        return "\n  ".join([line, *self.faults[:10]])
