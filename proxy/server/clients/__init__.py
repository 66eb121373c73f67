"""Authentication of clients, and the token endpoint for them."""
