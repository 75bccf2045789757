"""Fixtures of the end-to-end test: a stack of real processes, and the checker."""

from tests.faults.conftest import database, judge, stacks

__all__ = ["database", "judge", "stacks"]
