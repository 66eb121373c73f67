"""scope-proxy: a pull-through registry proxy that asks strict registries for exactly one scope."""
