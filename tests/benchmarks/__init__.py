"""Benchmarks of Unspool and of its alternatives: `python -m tests.benchmarks.<noun>`."""
