"""The page in a real browser, on real processes: what somebody who reads and writes there meets."""
