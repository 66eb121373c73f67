"""Where blobs, manifests and tags are kept."""
