"""Whole images fetched in advance, by this process or through a running proxy, and whether they are complete then."""
