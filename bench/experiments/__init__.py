"""The experiments of the AlexNet paper on small images; see `python -m bench.experiments --help`."""
