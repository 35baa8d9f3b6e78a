"""Names for checkpoints: how aliases are moved and counted, and the versions of what can be named."""
