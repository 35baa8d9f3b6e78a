"""Files that clients download."""
