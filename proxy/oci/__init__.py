"""The types of the distribution specification; pure, no I/O."""
