"""Jobs, datasets and checkpoints as clients see them, read from the database for many at once."""
