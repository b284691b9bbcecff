"""Worker pools and the relay: drain what was accepted into PostgreSQL at the limiter's pace."""
