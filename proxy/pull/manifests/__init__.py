"""Manifests: fresh, confirmed, fetched, or stale while the upstream is in trouble."""
