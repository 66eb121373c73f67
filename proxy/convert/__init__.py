"""From a node's `registries.yaml` to the proxy's configuration and the node's new file."""
