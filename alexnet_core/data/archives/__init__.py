"""Reads archives member by member, in place, and refuses hostile ones. Torch-free."""
