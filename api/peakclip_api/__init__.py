"""The HTTP API: validates, admits, commits in groups, answers. Knows NATS and PostgreSQL through the library."""
