"""The experiments of the AlexNet paper on small pictures; see `python -m bench.experiments --help`."""
