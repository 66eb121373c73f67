"""scope-proxy: a pull-through registry proxy that requests exactly one scope from strict registries."""
