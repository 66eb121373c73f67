"""What operators see: metrics, log, traces."""
