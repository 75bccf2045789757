"""The fast ring: no server, and everything within seconds."""
