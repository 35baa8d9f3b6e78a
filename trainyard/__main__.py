"""`python -m trainyard`: the same as the `trainyard` command."""

from trainyard.launch.program import main

main()
