"""The unit tests: no server, and all within seconds."""
