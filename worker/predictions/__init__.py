"""Predicts many images, as leased work beside the training in the worker's slots."""
