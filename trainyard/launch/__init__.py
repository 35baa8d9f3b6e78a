"""The command line, and a complete yard as one process tree."""
