"""What `scope-proxy doctor` finds out: check after check, on the connections that a pull would use."""
