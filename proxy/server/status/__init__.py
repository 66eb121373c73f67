"""The status page: what a running proxy does, what is wrong, what to do."""
