"""What jobs need and produce: datasets, checkpoints and the storage of their files."""
