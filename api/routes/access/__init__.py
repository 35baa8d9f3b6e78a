"""Who asks, and what this yard is: `/session`, `/keys` and `/yard`."""
