"""The middle ring: a real Valkey, a real database and real HTTP, all within a minute."""
