"""`/predictions`: many images at once, as leased work."""
