"""From YAML to values and models, each with its position in the file."""
