"""The command line, and a whole yard as one process tree."""
