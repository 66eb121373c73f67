"""The words of the distribution specification; pure, no I/O."""
