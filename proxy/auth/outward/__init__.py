"""Authorization towards registries: credentials, token servers, tokens."""
