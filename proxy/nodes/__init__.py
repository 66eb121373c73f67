"""Configures a node's containerd to pull through the proxy, and undoes that."""
