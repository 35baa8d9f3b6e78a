"""The bodies of what is told about a training run before it is queued and while it trains."""
