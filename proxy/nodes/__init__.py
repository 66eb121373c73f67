"""Pointing a node's containerd at the proxy, and away from it again."""
