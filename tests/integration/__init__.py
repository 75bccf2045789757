"""The integration tests: a real Valkey and a real database; the rest runs in the test process."""
