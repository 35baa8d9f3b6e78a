"""Exports jobs to the experiment trackers that others use: MLflow and Weights & Biases."""
