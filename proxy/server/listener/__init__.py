"""Client connections: accepting them, their limits, HTTP parsing, TLS."""
