"""The store: blobs, manifests, tags and the index on disk."""
