"""What the end-to-end story gets: a stack of real processes, and the judge of what was heard."""

from tests.faults.conftest import database, judge, stacks

__all__ = ["database", "judge", "stacks"]
