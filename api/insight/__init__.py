"""Insight for the routes: the process that computes it, the work that waits, and the results that are kept."""
