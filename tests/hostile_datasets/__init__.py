"""Hostile and odd archives, each with the answer that its owner gets. They are made by code when they are asked for."""
