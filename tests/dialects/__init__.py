"""The wires of other clients, read by the vendors' own packages."""
