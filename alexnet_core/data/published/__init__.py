"""The published datasets, and strict readers of their files."""
