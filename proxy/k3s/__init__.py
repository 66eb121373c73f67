"""registries.yaml of k3s and RKE2: read as they read it, and converted to our own configuration."""
