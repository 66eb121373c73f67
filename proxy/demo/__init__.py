"""The main use case, demonstrated on an embedded strict registry."""
