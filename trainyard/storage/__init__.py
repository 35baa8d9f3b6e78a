"""Where packs, checkpoints, logs and event files are stored: on a disk or in an object store."""
