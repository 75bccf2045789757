"""The event log of each channel, in Redis."""
