"""What a configuration of the right shape can still have wrong."""
