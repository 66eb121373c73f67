"""Authentication of clients: users, and tokens that we issue ourselves."""
