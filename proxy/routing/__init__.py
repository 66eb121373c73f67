"""From the name asked for to the name upstream."""
