"""Finds out the class and split of each file in a folder or archive. Torch-free."""
