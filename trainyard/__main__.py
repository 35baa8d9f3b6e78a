"""`python -m trainyard`: the same as the `trainyard` command."""

from trainyard.launch.cli import main

main()
