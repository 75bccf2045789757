"""The wire protocol: events, their encoding, and the fold that a reader applies to them."""
