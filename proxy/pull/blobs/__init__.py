"""Blobs: stored, joined while they arrive, fetched, or passed through."""
