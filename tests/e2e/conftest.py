"""Fixtures of the end-to-end test: a stack of real processes, and the checker."""

from tests.faults.conftest import judge
from tests.support.stack_fixtures import database, stacks

__all__ = ["database", "judge", "stacks"]
