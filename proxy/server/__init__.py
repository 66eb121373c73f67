"""What containerd talks to."""
