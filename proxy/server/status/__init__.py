"""The status page: what a running proxy does, what fails and how to fix it."""
