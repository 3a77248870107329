"""Runs as values: identity, directory, record, ancestors."""
