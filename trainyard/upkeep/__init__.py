"""What keeps a yard in order: the reconciler, and the removal of files that are no longer needed."""
