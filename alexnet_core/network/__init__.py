"""The network: its layers, its shape, its initial weights, and its checkpoints."""
