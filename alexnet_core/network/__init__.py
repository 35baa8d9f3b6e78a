"""The network: its layers, its shape, its first weights, and its checkpoints."""
