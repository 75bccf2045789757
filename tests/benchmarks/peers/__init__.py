"""What a user would take instead, each a small application run from its package."""
