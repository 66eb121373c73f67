"""Checks of a configuration across its settings."""
