"""Authentication of clients: htpasswd users, and tokens that scope-proxy issues."""
