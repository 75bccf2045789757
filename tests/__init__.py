"""The tests: unit, integration, end to end, with faults, and in a browser."""
