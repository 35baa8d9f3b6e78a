"""Writes checkpoints in the formats of other programs, and reads some back. Each format's library loads when used."""
