"""The running process: built once, started, drained, stopped."""
