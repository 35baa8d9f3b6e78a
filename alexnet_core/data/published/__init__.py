"""The published datasets, and strict readers of the files that they come in."""
