"""Where files are kept: packs, checkpoints, logs and event files, on a disk or in an object store."""
