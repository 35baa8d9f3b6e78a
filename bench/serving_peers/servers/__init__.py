"""What runs within a peer's own environment: one server each, and the classifier that all of them serve."""
