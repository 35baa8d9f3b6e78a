"""The machine that a worker runs on: its devices, and how full and how busy they are."""
