"""Shared memory that workers write and the master reads."""
