"""Evaluation: accuracy, reports, predictions and pictures."""
