"""Predictions: models, batches and the threads that compute."""
