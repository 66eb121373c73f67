"""Connections of clients: accepted, bounded, read as HTTP, with TLS."""
