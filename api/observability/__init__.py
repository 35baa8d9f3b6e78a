"""Figures about this API and its yard, for monitoring."""
