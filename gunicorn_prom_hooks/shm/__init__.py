"""Shared memory that the workers write and the master reads."""
