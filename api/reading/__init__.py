"""What is stored, read for those who ask: jobs, datasets and checkpoints as clients see them, and samples of images."""
