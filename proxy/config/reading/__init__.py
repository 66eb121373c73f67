"""YAML to values and models, each with its place in the file."""
