"""Datasets: from image files to packs that training reads. Torch-free."""
