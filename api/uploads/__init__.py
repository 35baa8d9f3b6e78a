"""Receives files for datasets: streamed to the disk, never in memory."""
