"""Demonstrations: two small agents that run without a key, beside the embedded model."""
