"""The page in a real browser, on real processes, as a user sees it."""
