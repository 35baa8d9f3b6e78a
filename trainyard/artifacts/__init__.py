"""What jobs need and leave behind: datasets, checkpoints and the storage of their files."""
