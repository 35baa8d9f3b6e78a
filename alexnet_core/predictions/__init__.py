"""Predicts the classes of all images of a pack or an archive, and writes the results in segments."""
