"""Insight: why a network answers as it does, what it has learned, and how far its answers can be trusted."""
