"""Demonstrations: two small agents that need no API key, as they can use the embedded model."""
