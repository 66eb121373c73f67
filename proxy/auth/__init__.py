"""From challenge to token."""
