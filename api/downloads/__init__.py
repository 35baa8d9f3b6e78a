"""Files that clients take home."""
