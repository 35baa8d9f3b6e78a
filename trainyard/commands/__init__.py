"""The commands that talk to a yard by HTTP: what they ask of it, and what they print."""
