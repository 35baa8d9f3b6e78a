"""Writes the parts of the Python client that follow from others: its models, and the client that does not await."""
