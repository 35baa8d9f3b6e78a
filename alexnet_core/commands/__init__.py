"""The commands of `python -m alexnet_core`, one module each."""
