"""The machine that a worker runs on: its devices, how full and how busy they are, and whether its workers are well."""
