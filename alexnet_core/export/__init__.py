"""Checkpoints in other programs' formats, and back. What writes a format is imported when one is written."""
