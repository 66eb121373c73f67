"""Who pulls from a listener, and the token endpoint for clients."""
