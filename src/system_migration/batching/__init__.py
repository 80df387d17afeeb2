"""The batch protocol: plan ranges, read, transform with no transaction open, commit batch and record together."""
